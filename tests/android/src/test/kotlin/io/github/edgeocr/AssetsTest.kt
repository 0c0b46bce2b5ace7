package io.github.edgeocr

import com.baidu.paddle.lite.FakeRuntime
import io.github.edgeocr.core.BundleException
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import java.io.File

@RunWith(RobolectricTestRunner::class)
class AssetsTest {
    @get:Rule
    val temporary = TemporaryFolder()

    private val bundle = TestBundle("card")

    /** Replaces the app's assets: Robolectric reads assets from a built APK only. */
    private val assets by lazy { File(temporary.root, "assets") }
    private val home by lazy { File(temporary.root, "files/${EdgeOcr.ASSETS_FOLDER}") }
    private val copies get() = home.list().orEmpty().toList()

    @Before
    fun fillAssets() {
        FakeRuntime.reset("v2.13-rc")
        bundle.loadNetworks()
        bundle.write(assets)
    }

    private fun unpack() = openAssets(home, assets).unpack { it.models.values }.folder

    private fun read() = EdgeOcr.open(unpack()).use { ocr -> ocr.recognize(bundle.image).lines.map { it.text } }

    private fun list(folder: File) = folder.walk().filter(File::isFile).map { it.relativeTo(folder).path }.toSet()

    @Test
    fun `what a reading needs is copied`() {
        assertEquals(bundle.texts, read())
        val needed = setOf("manifest.json", "dict.txt", "golden.png", "models/det.nb", "models/rec.nb", "models/cls.nb")
        assertEquals(needed, list(File(home, copies.single())))
    }

    @Test
    fun `files are copied once`() {
        read()
        val model = File(home, "${copies.single()}/models/rec.nb")
        assertTrue(model.setLastModified(1_000_000))
        read()
        assertEquals(1_000_000, model.lastModified())
    }

    @Test
    fun `another bundle replaces the old`() {
        read()
        val old = copies.single()
        bundle.manifest.put("edge_ocr_version", "0.2.0")
        bundle.write(assets)
        assertEquals(bundle.texts, read())
        assertFalse(old == copies.single())
    }

    @Test
    fun `a damaged copy is made again`() {
        read()
        val model = File(home, "${copies.single()}/models/rec.nb")
        val content = model.readBytes()
        for (damage in listOf<(File) -> Unit>({ it.appendText("x") }, { it.writeText("x") }, { it.delete() })) {
            damage(model)
            assertEquals(bundle.texts, read())
            assertTrue(content.contentEquals(model.readBytes()))
        }
    }

    @Test
    fun `a partial copy does not matter`() {
        read()
        val copy = File(home, copies.single())
        val half = File(home, "${copy.name}.begun")
        assertTrue(copy.renameTo(half))
        File(half, "models/rec.nb").writeText("x")
        assertEquals(bundle.texts, read())
        assertEquals(listOf(copy.name), copies)
    }

    @Test
    fun `assets without a bundle are refused`() {
        assets.deleteRecursively()
        assertRefused("manifest.json")
    }

    @Test
    fun `an app without a bundle is refused`() {
        val error = assertThrows(BundleException::class.java) { EdgeOcr.open(RuntimeEnvironment.getApplication()) }
        assertTrue("${error.message}", "manifest.json" in error.message!!)
        assertTrue("edge-ocr export --target android" in error.hint!!)
    }

    @Test
    fun `assets that lack a file are refused`() {
        File(assets, "models/cls.nb").delete()
        assertRefused("models/cls.nb")
    }

    @Test
    fun `damaged assets are refused`() {
        File(assets, "models/cls.nb").appendText("x")
        assertRefused("cls.nb has ")
    }

    @Test
    fun `a storage that cannot be written is reported`() {
        home.parentFile!!.writeText("no folder")
        val error = assertThrows(StorageException::class.java) { unpack() }
        assertTrue("${error.message}", "written" in error.message!!)
    }

    private fun assertRefused(reason: String) {
        val error = assertThrows(BundleException::class.java) { unpack() }
        assertTrue("${error.message}", reason in error.message!!)
        assertEquals(emptyList<String>(), copies.filterNot { it.endsWith(".begun") })
    }
}
