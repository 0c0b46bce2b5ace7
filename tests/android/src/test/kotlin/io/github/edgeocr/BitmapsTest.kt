package io.github.edgeocr

import android.graphics.Bitmap
import android.graphics.Color
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import org.robolectric.annotation.Implementation
import org.robolectric.annotation.Implements
import org.robolectric.shadows.ShadowLegacyBitmap
import kotlin.math.abs

/** Robolectric's own bitmaps, not Android's code; as on a device, pixels in GPU memory cannot be read. */
@Implements(Bitmap::class)
class ChipBitmap : ShadowLegacyBitmap() {
    @Implementation
    override fun getPixels(pixels: IntArray, offset: Int, stride: Int, x: Int, y: Int, width: Int, height: Int) {
        check(config != Bitmap.Config.HARDWARE) { "unable to getPixels()" }
        super.getPixels(pixels, offset, stride, x, y, width, height)
    }
}

@RunWith(RobolectricTestRunner::class)
class BitmapsTest {
    /** One row of pixels 0xAARRGGBB, kept as they are. */
    private fun makeRow(vararg argb: Long): Bitmap {
        val bitmap = Bitmap.createBitmap(argb.size, 1, Bitmap.Config.ARGB_8888)
        bitmap.isPremultiplied = false
        bitmap.setPixels(argb.map(Long::toInt).toIntArray(), 0, argb.size, 0, 0, argb.size, 1)
        return bitmap
    }

    private fun read(bitmap: Bitmap) = readBitmap(bitmap).pixels.map { it.toInt() and 0xFF }

    private fun assertNear(expected: List<Int>, found: List<Int>, tolerance: Int) {
        assertEquals(expected.size, found.size)
        assertTrue("$found, expected $expected", expected.zip(found).all { (a, b) -> abs(a - b) <= tolerance })
    }

    @Test
    fun `pixels become blue, green, red`() {
        assertEquals(listOf(3, 2, 1, 0x60, 0x50, 0x40), read(makeRow(0xFF010203, 0xFF405060)))
    }

    // The expected values are those of flatten_alpha in edge_ocr/core/pictures.py.
    @Test
    fun `transparent pixels are laid over white`() {
        val bitmap = makeRow(0xFF0A141E, 0x00FFFFFF, 0x80102030, 0x40C80032, 0x01000000)
        assertEquals(WHITE, read(bitmap))
    }

    @Test
    fun `light pixels are laid over black`() {
        assertEquals(BLACK, read(makeRow(0xFFFAFAC8, 0x00FFFFFF, 0x80F0F0F0, 0x40C80032)))
    }

    @Test
    fun `the darkest hundredth does not count`() {
        // Of 101 pixels, the first percentile is the second darkest one; of 100, slightly darker.
        for ((light, paper) in listOf(100 to 0, 99 to 255)) {
            val row = LongArray(light + 2) { i -> if (i == 0) 0xFF000000 else if (i <= light) 0xFFC1C1C1 else 0 }
            assertEquals("$light", paper, read(makeRow(*row)).last())
        }
    }

    @Test
    fun `a fully transparent bitmap is white`() {
        assertEquals(List(6) { 255 }, read(makeRow(0, 0x00102030)))
    }

    @Test
    fun `premultiplied pixels are close`() {
        val bitmap = Bitmap.createBitmap(3, 1, Bitmap.Config.ARGB_8888)
        val argb = longArrayOf(0xFF0A141E, 0x00FFFFFF, 0x80102030)
        bitmap.setPixels(argb.map(Long::toInt).toIntArray(), 0, 3, 0, 0, 3, 1)
        assertNear(WHITE.take(9), read(bitmap), 2)
    }

    @Test
    fun `every configuration can be read`() {
        for (config in Bitmap.Config.values().filter { it !in GRAPHICS_ONLY }) {
            val bitmap = Bitmap.createBitmap(70, 3, config)
            bitmap.eraseColor(Color.rgb(200, 100, 50))
            // ALPHA_8 has opacity only: black ink.
            val expected = if (config == Bitmap.Config.ALPHA_8) listOf(0, 0, 0) else listOf(50, 100, 200)
            assertNear(List(70 * 3) { expected }.flatten(), read(bitmap), 5)
        }
    }

    @Test
    @GraphicsMode(GraphicsMode.Mode.LEGACY)
    @Config(shadows = [ChipBitmap::class])
    fun `bitmaps on the graphics chip are copied`() {
        val bitmap = makeRow(0xFF010203, 0xFF405060).copy(Bitmap.Config.HARDWARE, false)
        assertEquals(Bitmap.Config.HARDWARE, bitmap.config)
        assertThrows(IllegalStateException::class.java) { bitmap.getPixels(IntArray(2), 0, 2, 0, 0, 2, 1) }
        assertEquals(listOf(3, 2, 1, 0x60, 0x50, 0x40), read(bitmap))
        assertFalse(bitmap.isRecycled)
    }

    @Test
    fun `bitmaps larger than a strip are read whole`() {
        val (width, height) = 700 to 401
        val argb = IntArray(width * height) { i -> (0xFF shl 24) or (i * 2654435L).toInt().and(0xFFFFFF) }
        val bitmap = Bitmap.createBitmap(argb, width, height, Bitmap.Config.ARGB_8888)
        for (hasAlpha in listOf(true, false)) {
            bitmap.setHasAlpha(hasAlpha)
            val pixels = readBitmap(bitmap).pixels
            val found = IntArray(argb.size) { i ->
                val (blue, green, red) = List(3) { pixels[3 * i + it].toInt() and 0xFF }
                (0xFF shl 24) or (red shl 16) or (green shl 8) or blue
            }
            assertTrue(argb.contentEquals(found))
        }
    }

    @Test
    fun `a recycled bitmap is refused`() {
        val bitmap = makeRow(0)
        bitmap.recycle()
        val error = assertThrows(PictureException::class.java) { readBitmap(bitmap) }
        assertEquals("the bitmap is recycled", error.message)
    }

    private companion object {
        /** Configurations on which Robolectric's bitmaps end the process. */
        val GRAPHICS_ONLY = setOf(Bitmap.Config.HARDWARE, Bitmap.Config.RGBA_1010102)

        val WHITE = listOf(30, 20, 10, 255, 255, 255, 151, 143, 135, 204, 191, 241, 254, 254, 254)
        val BLACK = listOf(200, 250, 250, 0, 0, 0, 120, 120, 120, 13, 0, 50)
    }
}
