package io.github.edgeocr.demo

import io.github.edgeocr.EngineException
import io.github.edgeocr.LibraryException
import io.github.edgeocr.PictureException
import io.github.edgeocr.StorageException
import io.github.edgeocr.VersionMismatchException
import io.github.edgeocr.core.BundleException
import io.github.edgeocr.core.NoEd25519Exception
import io.github.edgeocr.core.UntrustedException
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.annotation.Config
import java.io.FileNotFoundException

class ErrorTextTest : DemoTest() {
    private val errors = listOf(
        BundleException("dict.txt is missing"),
        VersionMismatchException("v2.10", "v2.13-rc"),
        LibraryException("dlopen failed", UnsatisfiedLinkError()),
        PictureException("the bitmap is recycled"),
        StorageException("no space"),
        EngineException("det.nb does not run"),
        UntrustedException("the bundle is not signed"),
        NoEd25519Exception(),
        PictureFileException(R.string.error_no_picture),
        OutOfMemoryError("Failed to allocate"),
        SecurityException("Permission Denial"),
        FileNotFoundException("picture"),
        IllegalStateException("a bug"),
    )

    private fun describeAll() = errors.map { describeError(app, it) }

    @Test
    fun `an error of the library has a title, its reason and its hint`() {
        val lines = describeError(app, errors[0]).lines()
        val hint = "export the bundle again: edge-ocr export --target android"
        assertEquals(listOf(app.getString(R.string.error_bundle), "dict.txt is missing", hint), lines)
        assertEquals(2, describeError(app, errors[3]).lines().size)
    }

    @Test
    fun `each error has its own title`() {
        val titles = describeAll().map { it.lines().first() }
        assertEquals(errors.size, titles.toSet().size)
        for ((error, text) in errors.zip(describeAll())) {
            assertFalse(text, "null" in text)
            val isPlain = error is OutOfMemoryError || error is SecurityException || error is PictureFileException
            if (!isPlain) assertTrue(text, error.message!! in text)
        }
    }

    @Test
    @Config(qualifiers = "zh-rCN")
    fun `titles are in Chinese, too`() {
        for (text in describeAll()) assertTrue(text, text.lines().first().any { it in '\u4e00'..'\u9fff' })
    }
}
