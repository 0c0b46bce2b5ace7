package io.github.edgeocr

import com.baidu.paddle.lite.FakeRuntime
import io.github.edgeocr.core.BundleException
import io.github.edgeocr.core.EdgeOcrException
import io.github.edgeocr.core.Manifest
import io.github.edgeocr.core.UntrustedException
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.File
import java.io.IOException
import java.io.InputStream
import java.security.KeyPair
import java.util.concurrent.CancellationException
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream

@RunWith(RobolectricTestRunner::class)
class BundleArchiveTest {
    @get:Rule
    val temporary = TemporaryFolder()

    private val app = RuntimeEnvironment.getApplication()
    private val bundle = TestBundle("card")
    private val ours = makeKeys()
    private val other = makeKeys()
    private val home by lazy { temporary.newFolder("files") }
    private val folder by lazy { File(home, "models") }
    private val seen by lazy { FileCounterStore(File(temporary.root, "seen.json")) }
    private val trust by lazy { Trust(mapOf("key.pem" to writePem(ours)), seen) }

    @Before
    fun loadNetworks() {
        FakeRuntime.reset("v2.13-rc")
        bundle.loadNetworks()
    }

    /** The bundle's files by name in an archive; [pair] signs it. */
    private fun list(root: String = ROOT, pair: KeyPair? = null, counter: Long = 7) =
        temporary.newFolder().let { written ->
            if (pair == null) bundle.write(written) else bundle.writeSigned(written, pair, counter)
            written.walk().filter(File::isFile).sorted()
                .associateTo(LinkedHashMap()) { root + it.relativeTo(written).path to it.readBytes() }
        }

    private fun pack(files: Map<String, ByteArray>): ByteArray {
        val packed = ByteArrayOutputStream()
        ZipOutputStream(packed).use { zip ->
            for ((name, content) in files) {
                zip.putNextEntry(ZipEntry(name))
                zip.write(content)
            }
        }
        return packed.toByteArray()
    }

    private fun unpack(files: Map<String, ByteArray> = list(), trust: Trust? = null) =
        BundleArchive.unpack(app, pack(files).inputStream(), folder, trust)

    private fun read(trust: Trust? = null) = EdgeOcr.open(folder, OcrOptions(trust = trust)).use { ocr ->
        ocr.recognize(bundle.image).lines.map { it.text }
    }

    private fun listHome() = home.walk().filter(File::isFile).map { it.relativeTo(home).path }.toSet()

    /** Refuses an archive, and leaves what is installed and nothing else. */
    private inline fun <reified T : EdgeOcrException> assertRefused(
        vararg reasons: String,
        crossinline act: () -> Any?,
    ) {
        val before = home.walk().filter(File::isFile).associate { it.path to it.readText() }
        val error = assertThrows(T::class.java) { act() }
        for (reason in reasons) assertTrue("${error.message}", reason in error.message!!)
        assertEquals(before, home.walk().filter(File::isFile).associate { it.path to it.readText() })
        assertEquals(folder.exists(), home.list()!!.isNotEmpty())
    }

    @Test
    fun `an exported project is unpacked, and only what its manifest lists`() {
        val project = mapOf("project/README.md" to "read me".toByteArray(), "${ROOT}stranger.txt" to ByteArray(9))
        assertNull(unpack(list() + project).release)
        val needed = bundle.files.keys + "manifest.json"
        assertEquals(needed.map { "models/$it" }.toSet(), listHome())
        assertEquals(bundle.texts, read())
    }

    @Test
    fun `so is a bundle's folder, and its content`() {
        for (root in listOf("edge-ocr/", "")) {
            unpack(list(root))
            assertEquals(bundle.texts, read())
        }
    }

    @Test
    fun `networks for an engine that is not in the app are left out`() {
        fun list(vararg inApp: EngineKind) =
            BundleArchive.listNeeded(Manifest.parse("${bundle.manifest}"), inApp.toList())

        val networks = bundle.files.keys.filter { it.endsWith(".nb") }
        val error = assertThrows(BundleException::class.java) { list(EngineKind.ONNXRUNTIME) }
        assertEquals("the bundle has no networks for ONNX Runtime", error.message)
        val graphs = listOf("det", "rec").associateWith { "onnx/$it.onnx" }
        graphs.values.forEach { bundle.putFile(it, ByteArray(3)) }
        bundle.manifest.put("onnx", JSONObject(graphs.mapValues { (_, file) -> JSONObject().put("file", file) }))
        assertEquals(bundle.files.keys, list(*EngineKind.entries.toTypedArray()))
        assertEquals(bundle.files.keys - networks, list(EngineKind.ONNXRUNTIME))
        assertEquals(bundle.files.keys - graphs.values, list(EngineKind.PADDLE_LITE))
        unpack()
        assertEquals(EngineKind.ONNXRUNTIME.isInApp, "models/onnx/det.onnx" in listHome())
    }

    @Test
    fun `a signed bundle is unpacked with its signature, and its counter is not noted`() {
        val manifest = unpack(list(pair = ours), trust)
        assertEquals("demo" to 7L, manifest.release?.run { name to counter })
        assertEquals(emptyMap<String, Long>(), seen.read())
        assertEquals(bundle.texts, read(trust))
        assertEquals(mapOf("demo" to 7L), seen.read())
    }

    @Test
    fun `a newer bundle replaces the earlier one`() {
        unpack(list(pair = ours), trust)
        File(folder, "old.txt").writeText("of the earlier one")
        assertEquals(8L, unpack(list(pair = ours, counter = 8), trust).release?.counter)
        assertFalse(File(folder, "old.txt").exists())
        assertEquals(listOf("models"), home.list()!!.toList())
        assertEquals(bundle.texts, read(trust))
    }

    @Test
    fun `what is not trusted is refused, and the earlier bundle stays`() {
        unpack(list(pair = ours, counter = 8), trust)
        read(trust)
        assertRefused<UntrustedException>("not signed", "the archive") { unpack(trust = trust) }
        assertRefused<UntrustedException>("does not match") { unpack(list(pair = other, counter = 9), trust) }
        assertRefused<UntrustedException>("counter 7, expected 8 or more") { unpack(list(pair = ours), trust) }
        val changed = list(pair = ours, counter = 9)
        changed.getValue("${ROOT}manifest.json").let { it[it.size - 2] = ' '.code.toByte() }
        assertRefused<UntrustedException>("does not match") { unpack(changed, trust) }
        assertRefused<BundleException>("manifest.sig", "more than 64") {
            unpack(list() + ("${ROOT}manifest.sig" to ByteArray(65)))
        }
        assertEquals(bundle.texts, read(trust))
    }

    @Test
    fun `a key among the assets applies unless another is given`() {
        val written = bundle.write(temporary.newFolder())
        addAssets(temporary.newFile("assets.apk"), written, "edge-ocr-trust/k.pem" to writePem(other))
        assertRefused<UntrustedException>("does not match") { unpack(list(pair = ours)) }
        unpack(list(pair = other))
        unpack(list(pair = ours), trust)
    }

    @Test
    fun `missing, damaged and longer files are refused`() {
        val name = "${ROOT}models/rec.nb"
        val content = list().getValue(name)
        assertRefused<BundleException>("the archive has no $name") { unpack(list() - name) }
        assertRefused<BundleException>("rec.nb is damaged: its sha256 is") {
            unpack(list() + (name to content.clone().also { it[0] = 0 }))
        }
        assertRefused<BundleException>("rec.nb has ${content.size - 1} bytes") {
            unpack(list() + (name to content.copyOf(content.size - 1)))
        }
        // A bomb ends at the size that the manifest says.
        assertRefused<BundleException>("$name in the archive has more than ${content.size} bytes") {
            unpack(list() + (name to ByteArray(5_000_000)))
        }
    }

    @Test
    fun `an archive has exactly one bundle`() {
        assertRefused<BundleException>("0 files named manifest.json") { unpack(list() - "${ROOT}manifest.json") }
        assertRefused<BundleException>("2 files named manifest.json") { unpack(list() + list("other/")) }
        assertRefused<BundleException>("manifest.json", "not JSON") {
            unpack(list() + ("${ROOT}manifest.json" to "{".toByteArray()))
        }
        assertRefused<BundleException>("manifest.json", "more than") {
            unpack(list() + ("${ROOT}manifest.json" to ByteArray((16 shl 20) + 1)))
        }
    }

    @Test
    fun `names outside the archive's folder are refused`() {
        for (name in listOf("../x", "${ROOT}../../x", "/x", "a\\x")) {
            assertRefused<BundleException>(name) { unpack(list() + (name to ByteArray(1))) }
        }
        bundle.putFile("../x", ByteArray(1))
        bundle.files.remove("../x")
        assertRefused<BundleException>("../x") { unpack() }
        assertFalse(File(home, "x").exists())
    }

    @Test
    fun `a name that occurs twice is refused`() {
        // ZipOutputStream does not write one twice.
        val packed = pack(list() + ("${ROOT}dict.tx2" to ByteArray(1)))
        val twice = String(packed, Charsets.ISO_8859_1).replace("dict.tx2", "dict.txt").toByteArray(Charsets.ISO_8859_1)
        assertRefused<BundleException>("dict.txt twice") { BundleArchive.unpack(app, twice.inputStream(), folder) }
    }

    @Test
    fun `an archive that ends early or is none is refused`() {
        unpack()
        val packed = pack(list())
        for (size in listOf(0, 1, packed.size / 2, packed.size - 1)) {
            assertRefused<BundleException>("not a whole zip") {
                BundleArchive.unpack(app, ByteArrayInputStream(packed, 0, size), folder)
            }
        }
        assertRefused<BundleException>("not a whole zip") {
            BundleArchive.unpack(app, "<html>".byteInputStream(), folder)
        }
        // Damage between the ends.
        val damaged = packed.clone().also { it.fill(0x55, 100, it.size / 2) }
        assertRefused<BundleException> { BundleArchive.unpack(app, damaged.inputStream(), folder) }
        assertEquals(bundle.texts, read())
    }

    @Test
    fun `a stream that fails is reported, and one that is cancelled says so`() {
        fun fail(error: Exception) = object : InputStream() {
            override fun read(): Int = throw error
        }
        assertRefused<BundleException>("the archive cannot be read: reset") {
            BundleArchive.unpack(app, fail(IOException("reset")), folder)
        }
        assertThrows(CancellationException::class.java) {
            BundleArchive.unpack(app, fail(CancellationException()), folder)
        }
        assertEquals(emptySet<String>(), listHome())
    }

    @Test
    fun `what is too large is refused`() {
        val packed = pack(list())
        val sizeBytes = bundle.files.values.sumOf { it.size }.toLong()
        assertTrue(sizeBytes < packed.size)
        assertRefused<BundleException>("the archive has more than ${packed.size - 1} bytes") {
            BundleArchive.unpack(packed.inputStream(), folder, null, packed.size - 1L)
        }
        for (size in listOf(1L shl 40, -1L)) {
            bundle.manifest.getJSONObject("files").getJSONObject("dict.txt").put("size_bytes", size)
            assertRefused<BundleException>("the bundle has more than") { unpack() }
        }
    }

    @Test
    fun `a bundle for another target is refused`() {
        bundle.manifest.put("target", "arm")
        assertRefused<BundleException>("the bundle is for arm") { unpack() }
    }

    @Test
    fun `a storage that cannot be written is reported`() {
        val file = temporary.newFile("no-folder")
        val error = assertThrows(StorageException::class.java) {
            BundleArchive.unpack(app, pack(list()).inputStream(), File(file, "models"))
        }
        assertTrue("${error.message}", "cannot be written" in error.message!!)
    }

    private companion object {
        const val ROOT = "project/ocr/src/main/assets/edge-ocr/"
    }
}
