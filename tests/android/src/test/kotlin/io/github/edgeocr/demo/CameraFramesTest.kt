package io.github.edgeocr.demo

import android.graphics.Color
import android.graphics.ImageFormat
import android.graphics.Rect
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraManager
import android.media.Image
import android.util.Size
import android.view.Surface
import io.github.edgeocr.core.BgrImage
import io.github.edgeocr.core.TextLine
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadows.ShadowCameraCharacteristics
import org.robolectric.shadows.StreamConfigurationMapBuilder
import java.nio.ByteBuffer
import kotlin.math.abs
import kotlin.math.roundToInt
import kotlin.random.Random

@RunWith(RobolectricTestRunner::class)
class CameraFramesTest {
    /** Where a pixel goes if a picture of [width] × [height] is rotated clockwise by 90°. */
    private fun turnOnce(x: Int, y: Int, height: Int) = height - 1 - y to x

    /** The conversion of the standard, pixel by pixel. */
    private fun convertPlainly(frame: YuvFrame, degrees: Int): BgrImage {
        fun read(plane: YuvPlane, x: Int, y: Int) =
            plane.values[y * plane.rowStride + x * plane.pixelStride].toInt() and 0xFF
        var image = BgrImage(frame.width, frame.height, ByteArray(3 * frame.width * frame.height))
        for (y in 0 until frame.height) {
            for (x in 0 until frame.width) {
                val light = read(frame.y, x, y)
                val (u, v) = read(frame.u, x / 2, y / 2) - 128 to read(frame.v, x / 2, y / 2) - 128
                val colours = listOf(
                    light + 1.772 * u,
                    light - (0.299 * 1.402 * v + 0.114 * 1.772 * u) / 0.587,
                    light + 1.402 * v,
                )
                colours.forEachIndexed { i, colour ->
                    image.pixels[3 * (y * frame.width + x) + i] = colour.roundToInt().coerceIn(0, 255).toByte()
                }
            }
        }
        repeat(degrees / 90) {
            val turned = BgrImage(image.height, image.width, ByteArray(image.pixels.size))
            for (y in 0 until image.height) {
                for (x in 0 until image.width) {
                    val (toX, toY) = turnOnce(x, y, image.height)
                    for (i in 0 until 3) {
                        turned.pixels[3 * (toY * turned.width + toX) + i] = image.pixels[3 * (y * image.width + x) + i]
                    }
                }
            }
            image = turned
        }
        return image
    }

    private fun makePlane(random: Random, columns: Int, rows: Int, padding: Int, pixelStride: Int): YuvPlane {
        val rowStride = columns * pixelStride + padding
        // The planes end after the last value, as with many cameras.
        val size = (rows - 1) * rowStride + (columns - 1) * pixelStride + 1
        return YuvPlane(random.nextBytes(size), rowStride, pixelStride)
    }

    @Test
    fun `frames of all layouts are converted and turned`() {
        val random = Random(3)
        for ((width, height) in listOf(1 to 1, 2 to 2, 6 to 4, 7 to 5, 8 to 3, 1 to 4, 33 to 17)) {
            for ((padding, pixelStride) in listOf(0 to 1, 5 to 1, 0 to 2, 3 to 2)) {
                val (columns, rows) = (width + 1) / 2 to (height + 1) / 2
                val frame = YuvFrame(
                    width,
                    height,
                    makePlane(random, width, height, padding, 1),
                    makePlane(random, columns, rows, padding, pixelStride),
                    makePlane(random, columns, rows, padding, pixelStride),
                )
                for (degrees in listOf(0, 90, 180, 270)) {
                    val (image, wanted) = frame.toBgr(degrees) to convertPlainly(frame, degrees)
                    assertEquals(wanted.width to wanted.height, image.width to image.height)
                    val worst = image.pixels.zip(wanted.pixels).maxOf { (a, b) ->
                        abs((a.toInt() and 0xFF) - (b.toInt() and 0xFF))
                    }
                    assertTrue("$width×$height, $padding, $pixelStride, $degrees°: $worst", worst <= 1)
                }
            }
        }
    }

    @Test
    fun `colours are exact`() {
        fun convert(y: Int, u: Int, v: Int): List<Int> {
            fun plane(value: Int) = YuvPlane(byteArrayOf(value.toByte()), 1, 1)
            return YuvFrame(1, 1, plane(y), plane(u), plane(v)).toBgr(0).pixels.map { it.toInt() and 0xFF }
        }
        assertEquals(listOf(0, 0, 254), convert(76, 85, 255))
        assertEquals(listOf(254, 0, 0), convert(29, 255, 107))
        assertEquals(listOf(0, 0, 0), convert(0, 128, 128))
        assertEquals(listOf(255, 255, 255), convert(255, 128, 128))
        assertEquals(listOf(100, 100, 100), convert(100, 128, 128))
    }

    @Test
    fun `only quarter turns are supported`() {
        val plane = YuvPlane(ByteArray(1), 1, 1)
        for (degrees in listOf(-90, 45, 360)) {
            assertThrows(IllegalArgumentException::class.java) { YuvFrame(1, 1, plane, plane, plane).toBgr(degrees) }
        }
    }

    @Test
    fun `a camera's picture is copied completely`() {
        val content = List(3) { plane -> ByteArray(6) { (10 * plane + it).toByte() } }
        val frame = YuvFrame.copy(FakeImage(content))
        assertEquals(2 to 2, frame.width to frame.height)
        content.zip(listOf(frame.y, frame.u, frame.v)) { wanted, plane ->
            assertArrayEquals(wanted, plane.values)
            assertEquals(3 to 2, plane.rowStride to plane.pixelStride)
        }
    }

    @Test
    fun `a picture becomes a bitmap of the same colours`() {
        val image = BgrImage(2, 1, byteArrayOf(1, 2, -1, -2, 5, 6))
        val bitmap = image.toBitmap()
        assertEquals(listOf(Color.rgb(255, 2, 1), Color.rgb(6, 5, 254)), List(2) { bitmap.getPixel(it, 0) })
    }

    @Test
    fun `the largest fast size is chosen`() {
        val sizes = listOf(Size(640, 480), Size(1280, 960), Size(1280, 720), Size(1920, 1080))
        assertEquals(Size(1280, 960), chooseSize(sizes))
        assertEquals(Size(1280, 720), chooseSize(sizes - Size(1280, 960)))
        assertEquals(Size(1920, 1080), chooseSize(listOf(Size(4000, 3000), Size(1920, 1080))))
        assertNull(chooseSize(emptyList()))
    }

    @Test
    fun `frames are turned by the difference of sensor and display`() {
        fun findTurns(isFront: Boolean, sensor: Int) = (Surface.ROTATION_0..Surface.ROTATION_270).map {
            CameraChoice("0", Size(4, 3), isFront, sensor).findTurn(it)
        }
        assertEquals(listOf(90, 0, 270, 180), findTurns(isFront = false, sensor = 90))
        assertEquals(listOf(270, 180, 90, 0), findTurns(isFront = false, sensor = 270))
        assertEquals(listOf(0, 270, 180, 90), findTurns(isFront = false, sensor = 0))
        assertEquals(listOf(270, 0, 90, 180), findTurns(isFront = true, sensor = 270))
    }

    @Test
    fun `a mirrored line keeps its corners clockwise`() {
        val line = TextLine(floatArrayOf(1f, 2f, 8f, 3f, 7f, 6f, 0f, 5f), 0.9, "text", 0.8).mirror(10)
        assertArrayEquals(floatArrayOf(2f, 3f, 9f, 2f, 10f, 5f, 3f, 6f), line.polygon, 0f)
        assertEquals("text", line.text)
    }

    private val manager get() = RuntimeEnvironment.getApplication().getSystemService(CameraManager::class.java)

    @Test
    fun `the back camera is chosen if there is one`() {
        assertNull(chooseCamera(manager))
        addCamera(manager, "front", CameraCharacteristics.LENS_FACING_FRONT, 270)
        assertEquals("front" to true, chooseCamera(manager)?.let { it.id to it.isFront })
        addCamera(manager, "plugged", CameraCharacteristics.LENS_FACING_EXTERNAL, 0)
        assertEquals("plugged" to false, chooseCamera(manager)?.let { it.id to it.isFront })
        addCamera(manager, "back", CameraCharacteristics.LENS_FACING_BACK, 90)
        assertEquals("back" to false, chooseCamera(manager)?.let { it.id to it.isFront })
        assertEquals(Size(1280, 960), chooseCamera(manager)?.size)
    }

    @Test
    fun `a camera without pictures for apps is not used`() {
        addCamera(manager, "depth", CameraCharacteristics.LENS_FACING_BACK, 90, emptyList())
        assertNull(chooseCamera(manager))
        // A camera without characteristics is not used either.
        shadowOf(manager).addCamera("silent", ShadowCameraCharacteristics.newCameraCharacteristics())
        assertNull(chooseCamera(manager))
    }

    private class FakeImage(private val content: List<ByteArray>) : Image() {
        override fun getFormat() = ImageFormat.YUV_420_888

        override fun getWidth() = 2

        override fun getHeight() = 2

        override fun getTimestamp() = 0L

        override fun getTransform() = 0

        override fun getScalingMode() = 0

        override fun getPlaneCount() = content.size

        override fun getCropRect() = Rect(0, 0, 2, 2)

        override fun close() = Unit

        override fun getPlanes(): Array<Plane> = Array(content.size) { i ->
            object : Plane() {
                override fun getRowStride() = 3

                override fun getPixelStride() = 2

                override fun getBuffer(): ByteBuffer = ByteBuffer.wrap(content[i])
            }
        }
    }
}

/** A camera with YUV_420_888 frames and previews in all of [sizes]. */
internal fun addCamera(
    manager: CameraManager,
    id: String,
    facing: Int,
    sensorDegrees: Int,
    sizes: List<Size> = listOf(Size(640, 480), Size(1280, 960), Size(4000, 3000)),
) {
    val facts = ShadowCameraCharacteristics.newCameraCharacteristics()
    val streams = StreamConfigurationMapBuilder.newBuilder()
    for (size in sizes) streams.addOutputSize(ImageFormat.YUV_420_888, size).addOutputSize(ImageFormat.PRIVATE, size)
    shadowOf(facts).set(CameraCharacteristics.LENS_FACING, facing)
    shadowOf(facts).set(CameraCharacteristics.SENSOR_ORIENTATION, sensorDegrees)
    shadowOf(facts).set(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP, streams.build())
    shadowOf(manager).addCamera(id, facts)
}
