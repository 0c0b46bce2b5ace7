package io.github.edgeocr.demo

import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Paint
import android.net.Uri
import org.junit.Assert.assertEquals
import org.junit.Assert.assertSame
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.Shadows.shadowOf
import java.awt.image.BufferedImage
import java.io.ByteArrayOutputStream
import java.io.File
import java.io.IOException
import java.util.concurrent.CancellationException
import javax.imageio.ImageIO
import kotlin.math.abs

class PictureFileTest : DemoTest() {
    private val folder get() = File(temporary.root, "pictures")
    private val uri = Uri.parse("content://other.app/picture")

    private fun offer(content: ByteArray) =
        shadowOf(app.contentResolver).registerInputStreamSupplier(uri) { content.inputStream() }

    private fun copy(from: Uri = uri, limitBytes: Long = PictureFile.LIMIT_BYTES, isCancelled: Boolean = false) =
        PictureFile.copy(app.contentResolver, from, folder, { isCancelled }, limitBytes)

    private fun write(content: ByteArray) = PictureFile(temporary.newFile().apply { writeBytes(content) })

    private inline fun <reified T : Throwable> assertRefused(reason: Int? = null, crossinline work: () -> Unit) {
        val error = assertThrows(T::class.java) { work() }
        if (error is PictureFileException) assertEquals(reason, error.reason)
    }

    /** A JPEG of four coloured quarters, with [orientation] in its Exif. */
    private fun encodeQuarters(orientation: Int): ByteArray {
        val colors = listOf(Color.RED, Color.GREEN, Color.BLUE, Color.WHITE)
        val (width, height) = 64 to 32
        val pixels = IntArray(width * height) { i ->
            colors[(if (i % width < width / 2) 0 else 1) + (if (i / width < height / 2) 0 else 2)]
        }
        val plain = ByteArrayOutputStream()
        val bitmap = Bitmap.createBitmap(pixels, width, height, Bitmap.Config.ARGB_8888)
        bitmap.compress(Bitmap.CompressFormat.JPEG, 95, plain)
        val exif = "Exif".toByteArray() + byteArrayOf(0, 0) + "MM".toByteArray() +
            byteArrayOf(0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation.toByte(), 0, 0, 0, 0, 0, 0)
        val segment = byteArrayOf(-1, 0xE1.toByte(), 0, (exif.size + 2).toByte()) + exif
        return plain.toByteArray().let { it.copyOf(2) + segment + it.drop(2) }
    }

    private fun nameColor(argb: Int) =
        listOf(Color.red(argb), Color.green(argb), Color.blue(argb)).joinToString("") { if (it > 127) "1" else "0" }

    private fun nameCorners(bitmap: Bitmap): String {
        val (right, bottom) = bitmap.width - 4 to bitmap.height - 4
        return listOf(4 to 4, right to 4, 4 to bottom, right to bottom)
            .joinToString(" ") { (x, y) -> NAMES.getValue(nameColor(bitmap.getPixel(x, y))) }
    }

    @Test
    fun `pictures are turned by their Exif orientation`() {
        val corners = (0..9).associateWith { orientation ->
            val picture = write(encodeQuarters(orientation)).decode()
            assertEquals(picture.bitmap.width to picture.bitmap.height, picture.width to picture.height)
            val isOnItsSide = orientation in 5..8
            assertEquals(if (isOnItsSide) 32 to 64 else 64 to 32, picture.width to picture.height)
            nameCorners(picture.bitmap)
        }
        // Corners of the upright picture: top left, top right, bottom left, bottom right.
        val expected = mapOf(
            0 to "R G B W", 1 to "R G B W", 2 to "G R W B", 3 to "W B G R", 4 to "B W R G",
            5 to "R B G W", 6 to "B R W G", 7 to "W G B R", 8 to "G W R B", 9 to "R G B W",
        )
        assertEquals(expected, corners)
    }

    @Test
    fun `a picture of 108 megapixels is downsampled to fit into memory`() {
        val image = BufferedImage(12000, 9000, BufferedImage.TYPE_BYTE_GRAY)
        val file = temporary.newFile("huge.jpg")
        ImageIO.write(image, "jpg", file)
        val picture = PictureFile(file).decode(PictureFile.countPixels(256L shl 20))
        assertEquals(12000 to 9000, picture.width to picture.height)
        assertEquals(3000 to 2250, picture.bitmap.width to picture.bitmap.height)
        val shown = picture.shrink()
        assertEquals(2048 to 1536, shown.strips.single().run { width to height })
        assertEquals(12000 to 9000, shown.width to shown.height)
    }

    @Test
    fun `pictures are unchanged if they fit`() {
        val picture = write(bundle.encodePicture()).decode()
        assertEquals(bundle.image.width to bundle.image.height, picture.width to picture.height)
        assertEquals(bundle.image.width to bundle.image.height, picture.bitmap.width to picture.bitmap.height)
        assertSame(picture.bitmap, picture.shrink().strips.single())
        val pixels = bundle.image.width * bundle.image.height
        val same = write(bundle.encodePicture()).decode(pixels).bitmap
        val less = write(bundle.encodePicture()).decode(pixels - 1).bitmap
        assertEquals(bundle.image.width, same.width)
        assertTrue(abs(less.width - bundle.image.width / 2) <= 1)
    }

    @Test
    fun `memory for a reading is at most half of the heap`() {
        assertEquals(24_000_000, PictureFile.countPixels(Long.MAX_VALUE))
        // A photo of 12 megapixels is read at full size on a phone that gives apps 192 MB.
        assertTrue(PictureFile.countPixels(192L shl 20) >= 12_000_000)
        assertEquals((16 shl 20) / 2 / 7, PictureFile.countPixels(16L shl 20))
    }

    @Test
    fun `a long screenshot is read at full size and shown in strips`() {
        val (width, height) = 1080 to 12000
        assertTrue(PictureFile.countPixels(192L shl 20) >= width * height)
        val bitmap = Bitmap.createBitmap(width, height, Bitmap.Config.ARGB_8888)
        // Its lower half is red.
        Canvas(bitmap).drawColor(Color.WHITE)
        Canvas(bitmap).drawRect(0f, 6000f, 1080f, 12000f, Paint().apply { color = Color.RED })
        val content = ByteArrayOutputStream().also { bitmap.compress(Bitmap.CompressFormat.PNG, 0, it) }
        val picture = write(content.toByteArray()).decode(width * height)
        assertEquals(width to height, picture.bitmap.width to picture.bitmap.height)
        val shown = picture.shrink()
        assertEquals(width to height, shown.width to shown.height)
        assertEquals(setOf(734), shown.strips.map { it.width }.toSet())
        assertEquals(listOf(2048, 2048, 2048, 2020), shown.strips.map { it.height })
        val colors = shown.strips.flatMap { strip -> List(strip.height) { nameColor(strip.getPixel(300, it)) } }
        assertEquals(setOf("111", "100"), colors.toSet())
        assertTrue(abs(colors.indexOf("100") - colors.size / 2) <= 2)
        // If memory is too small for the whole, text is half as large.
        val half = write(content.toByteArray()).decode(width * height - 1).bitmap
        assertEquals(540 to 6000, half.width to half.height)
    }

    @Test
    fun `a file that is not a picture is reported`() {
        for (content in listOf("a text".toByteArray(), ByteArray(0), bundle.encodePicture().copyOf(20))) {
            assertRefused<PictureFileException>(R.string.error_no_picture) { write(content).decode() }
        }
        assertRefused<PictureFileException>(R.string.error_gone) { PictureFile(File(folder, "gone")).decode() }
    }

    @Test
    fun `a copy is complete and may be deleted`() {
        offer(bundle.encodePicture())
        val copy = copy()
        assertEquals(folder, copy.file.parentFile)
        assertEquals(bundle.encodePicture().toList(), copy.file.readBytes().toList())
        copy.delete()
        assertEquals(emptyList<File>(), folder.listFiles()!!.toList())
    }

    @Test
    fun `old copies are deleted`() {
        offer(bundle.encodePicture())
        val (old, recent) = copy().file to copy().file
        old.setLastModified(System.currentTimeMillis() - 25 * 3600 * 1000L)
        val new = copy().file
        assertEquals(setOf(recent, new), folder.listFiles()!!.toSet())
    }

    @Test
    fun `a failed copy leaves nothing behind`() {
        val content = bundle.encodePicture()
        offer(content)
        copy(limitBytes = content.size.toLong()).delete()
        assertRefused<PictureFileException>(R.string.error_too_large) { copy(limitBytes = content.size - 1L) }
        assertRefused<CancellationException> { copy(isCancelled = true) }
        assertRefused<PictureFileException>(R.string.error_no_content) { copy(Uri.fromFile(File("/etc/hosts"))) }
        assertRefused<PictureFileException>(R.string.error_no_content) { copy(Uri.parse("https://other.app/picture")) }
        val shadow = shadowOf(app.contentResolver)
        shadow.registerInputStreamSupplier(uri) { throw SecurityException("revoked") }
        assertRefused<SecurityException> { copy() }
        shadow.registerInputStreamSupplier(uri) { content.inputStream().failAfter(1) }
        assertRefused<IOException> { copy() }
        assertEquals(emptyList<File>(), folder.listFiles()!!.toList())
    }

    private fun java.io.InputStream.failAfter(reads: Int) = object : java.io.FilterInputStream(this) {
        private var left = reads

        override fun read(buffer: ByteArray, offset: Int, count: Int): Int {
            if (left-- == 0) throw IOException("the network is gone")
            return super.read(buffer, offset, minOf(count, 10))
        }
    }

    private companion object {
        val NAMES = mapOf("100" to "R", "010" to "G", "001" to "B", "111" to "W")
    }
}
