package io.github.edgeocr.core

import org.json.JSONArray
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory
import kotlin.math.abs

class ImagingTest {
    private val expected = GoldenFiles.expected
    private val settings = Manifest.parse(GoldenFiles.manifest).settings

    @Test
    fun `detection sizes are the host's`() {
        for (row in expected.items("detection_sizes")) {
            val changed = settings.detection.copy(
                limitSideLen = row.getInt("limit_side_len"),
                limitType = LimitType.valueOf(row.getString("limit_type").uppercase()),
            )
            val size = planDetectionSize(row.getInt("height"), row.getInt("width"), changed)
            assertEquals(row.getJSONArray("size").map { it as Int }, listOf(size.height, size.width), "$row")
        }
    }

    @Test
    fun `borders are the host's`() {
        for (row in expected.items("borders")) {
            val image = if (row.has("picture")) GoldenFiles.readView(row) else null
            val (height, width) = image?.run { height to width } ?: (row.getInt("height") to row.getInt("width"))
            val border = planBorder(height, width, settings.border)
            assertEquals(row.getInt("border"), border, "$row")
            if (image == null) continue
            val framed = addBorder(image, border)
            val (rows, columns) = GoldenFiles.readShape(row.getString("name")).toList()
            assertEquals(rows to columns, framed.height to framed.width)
            assertArrayEquals(GoldenFiles.readBytes(row.getString("name")), framed.pixels, "$row")
        }
    }

    @Test
    fun `a border has a colour of the picture`() {
        val framed = addBorder(BgrImage(2, 1, byteArrayOf(0, 9, 0, 8, 1, -1)), 1)
        assertEquals(4 to 3, framed.width to framed.height)
        assertEquals(listOf<Byte>(0, 1, 0), framed.pixels.take(3))
        assertEquals(listOf<Byte>(0, 1, 0, 0, 9, 0, 8, 1, -1, 0, 1, 0), framed.pixels.slice(12..23))
    }

    @Test
    fun `other limits give other borders`() {
        val own = settings.border
        for (changed in listOf(own.copy(smallSide = 63), own.copy(stripSide = 161), own.copy(stripRatio = 5))) {
            val rows = expected.items("borders").filterNot { it.has("picture") }
            assertTrue(
                rows.any { it.getInt("border") != planBorder(it.getInt("height"), it.getInt("width"), changed) },
                "$changed",
            )
        }
    }

    @Test
    fun `parts of a picture repeat its last pixels`() {
        val image = BgrImage(5, 3, ByteArray(45) { it.toByte() })
        val data = FloatArray(3 * 3 * 4)
        fillWindow(image, 2, 1, Size(3, 4), data, FloatArray(768) { (it % 256).toFloat() })
        assertEquals(listOf(21f, 24f, 27f, 27f, 36f, 39f, 42f, 42f, 36f, 39f, 42f, 42f), data.take(12))
        assertEquals(listOf(22f, 25f, 28f, 28f), data.slice(12..15))
        assertEquals(listOf<Byte>(6, 7, 8, 9, 10, 11, 21, 22, 23, 24, 25, 26), image.cutColumns(2, 4).pixels.take(12))
    }

    @Test
    fun `line widths are the host's`() {
        for (row in expected.items("line_widths")) {
            val (height, width) = row.getInt("height") to row.getInt("width")
            val crop = BgrImage(width, height, ByteArray(3 * width * height))
            val line = resizeLine(crop, 48, settings.recognition.maxWidth)
            assertEquals(48 to row.getInt("line_width"), line.height to line.width, "$row")
        }
    }

    @Test
    fun `input widths are the host's`() {
        for (row in expected.items("widths")) {
            val changed = settings.recognition.copy(minWidth = row.getInt("min_width"))
            assertEquals(row.getInt("width"), planWidth(row.getInt("line_width"), changed), "$row")
        }
    }

    @Test
    fun `batches are the host's`() {
        for (row in expected.items("batches")) {
            val widths = row.getJSONArray("widths").let { array -> List(array.length()) { array.getInt(it) } }
            val planned = planBatches(widths, row.getInt("batch_size"))
            assertEquals(row.getJSONArray("batches").toString(), JSONArray(planned).toString(), "$row")
        }
    }

    @TestFactory
    fun `detection inputs are the host's`(): List<DynamicTest> = expected.items("detection_inputs").map { row ->
        dynamicTest(row.getString("name")) {
            val changed = GoldenFiles.readDetectionSettings(row.getJSONObject("settings"))
            assertNear(row.getString("name"), prepareDetection(GoldenFiles.readView(row), changed), MIN_STD)
        }
    }

    @TestFactory
    fun `line inputs are the host's`(): List<DynamicTest> = expected.items("line_inputs").map { row ->
        dynamicTest(row.getString("name")) {
            val lines = row.items("views").map {
                resizeLine(GoldenFiles.readView(it), row.getInt("image_height"), row.getInt("max_width"))
            }
            val (normalization, padValue) = settings.recognition.run { normalization to padValue }
            assertNear(row.getString("name"), prepareLines(lines, row.getInt("width"), normalization, padValue), 0.5f)
        }
    }

    /** The same levels of 255. */
    private fun assertNear(name: String, found: Tensor, std: Float) {
        val wanted = GoldenFiles.readTensor(name)
        assertArrayEquals(wanted.shape, found.shape)
        val worst = wanted.data.indices.maxOf { abs(wanted.data[it] - found.data[it]) } * 255 * std
        assertTrue(worst <= 0.01f, "$name: $worst levels")
    }

    @Test
    fun `pictures turn`() {
        val image = BgrImage(3, 2, ByteArray(18) { (it / 3).toByte() })
        fun show(turned: BgrImage) = turned.pixels.filterIndexed { i, _ -> i % 3 == 1 }.map { it.toInt() }
        assertEquals(listOf(2, 5, 1, 4, 0, 3), show(image.turnLeft()))
        assertEquals(2 to 3, image.turnLeft().let { it.width to it.height })
        assertEquals(listOf(5, 4, 3, 2, 1, 0), show(image.turnAround()))
    }

    @Test
    fun `colours keep their order`() {
        val image = BgrImage.fromArgb(1, 1, intArrayOf(0x80112233.toInt()))
        assertEquals(listOf<Byte>(0x33, 0x22, 0x11), image.pixels.toList())
    }

    @Test
    fun `mismatched sizes are refused`() {
        assertThrows(IllegalArgumentException::class.java) { BgrImage(2, 2, ByteArray(11)) }
        assertThrows(IllegalArgumentException::class.java) { BgrImage(0, 2, ByteArray(0)) }
        assertThrows(IllegalArgumentException::class.java) { BgrImage.fromArgb(2, 2, IntArray(3)) }
        assertThrows(IllegalArgumentException::class.java) { Tensor(intArrayOf(2, 3), FloatArray(5)) }
    }

    private companion object {
        // The three channels of detection.
        const val MIN_STD = 0.224f
    }
}
