package io.github.edgeocr

import android.app.Application
import com.baidu.paddle.lite.FakeRuntime
import io.github.edgeocr.core.BundleException
import io.github.edgeocr.core.EdgeOcrException
import io.github.edgeocr.core.NoEd25519Exception
import io.github.edgeocr.core.UntrustedException
import org.junit.After
import org.junit.Assert.assertArrayEquals
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
import java.io.File
import java.security.KeyPair
import java.security.Security

/** Bundles in an app that trusts a key. */
@RunWith(RobolectricTestRunner::class)
class TrustedBundleTest {
    @get:Rule
    val temporary = TemporaryFolder()

    private val bundle = TestBundle("card")
    private val ours = makeKeys()
    private val other = makeKeys()
    private val folder get() = File(temporary.root, "bundle")
    private val manifest get() = File(folder, "manifest.json")
    private val signature get() = File(folder, "manifest.sig")
    private val seen get() = File(temporary.root, "files/seen.json")
    private val app: Application get() = RuntimeEnvironment.getApplication()
    private val providers = Security.getProviders()

    @Before
    fun loadNetworks() {
        FakeRuntime.reset("v2.13-rc")
        bundle.loadNetworks()
    }

    @After
    fun restoreProviders() {
        Security.getProviders().forEach { Security.removeProvider(it.name) }
        providers.forEach(Security::addProvider)
    }

    private fun trust(vararg pairs: KeyPair = arrayOf(ours)) =
        Trust(pairs.withIndex().associate { (i, pair) -> "key$i.pem" to writePem(pair) }, FileCounterStore(seen))

    private fun write(counter: Long = 7, pair: KeyPair = ours): File = bundle.writeSigned(folder, pair, counter)

    private fun read(trust: Trust? = trust()) = EdgeOcr.open(folder, OcrOptions(trust = trust)).use { ocr ->
        ocr.recognize(bundle.image).lines.map { it.text }
    }

    private inline fun <reified T : EdgeOcrException> assertRefused(
        vararg values: String,
        crossinline opening: () -> Any?,
    ): T {
        val before = if (seen.isFile) seen.readText() else null
        val error = assertThrows(T::class.java) { opening() }
        for (value in values) assertTrue("${error.message}", value in error.message!!)
        assertEquals("networks that were asked for", 0, FakeRuntime.asked.size)
        assertEquals(before, if (seen.isFile) seen.readText() else null)
        return error
    }

    private fun assertUntrusted(vararg values: String, trust: Trust = trust()): UntrustedException =
        assertRefused("$folder", *values) { read(trust) }

    @Test
    fun `a signed bundle is read, and its counter noted`() {
        write()
        assertEquals(bundle.texts, read())
        assertEquals(mapOf("demo" to 7L), FileCounterStore(seen).read())
        seen.setLastModified(1_000_000)
        assertEquals(bundle.texts, read())
        assertEquals(1_000_000, seen.lastModified())
        write(counter = 8)
        assertEquals(bundle.texts, read(trust(other, ours)))
        assertEquals(mapOf("demo" to 8L), FileCounterStore(seen).read())
    }

    @Test
    fun `counters of other releases stay`() {
        FileCounterStore(seen).write(mapOf("another" to 3L))
        write()
        read()
        assertEquals(mapOf("another" to 3L, "demo" to 7L), FileCounterStore(seen).read())
    }

    @Test
    fun `without a key every bundle is read`() {
        write(pair = other)
        assertEquals(bundle.texts, read(null))
        bundle.write(folder)
        assertFalse(signature.exists())
        assertEquals(bundle.texts, read(null))
        assertFalse(seen.exists())
    }

    @Test
    fun `an unsigned bundle is refused`() {
        bundle.write(folder)
        val error = assertUntrusted("manifest.sig")
        assertTrue("--sign" in error.hint!!)
    }

    @Test
    fun `a changed manifest is refused`() {
        write()
        manifest.writeText(manifest.readText().replace("\"counter\":7", "\"counter\":8"))
        assertMisfit()
    }

    @Test
    fun `a signature of another manifest is refused`() {
        write()
        signature.writeBytes(sign("another manifest".toByteArray(), ours))
        assertMisfit()
    }

    @Test
    fun `a signature of another length is refused`() {
        write()
        val whole = signature.readBytes()
        for (content in listOf(ByteArray(0), whole.copyOf(63), whole + 10, whole + whole)) {
            signature.writeBytes(content)
            assertMisfit()
        }
        signature.delete()
        signature.mkdir()
        assertUntrusted("$signature", "not a file")
    }

    @Test
    fun `a bundle of another key is refused`() {
        write(pair = other)
        assertMisfit()
    }

    private fun assertMisfit() {
        val name = hash(ours.public.encoded.takeLast(32).toByteArray().inputStream()).take(16)
        assertUntrusted("manifest.sig", "manifest.json", name)
    }

    @Test
    fun `a changed file of a signed bundle is refused`() {
        write()
        for (name in listOf("models/det.nb", "models/rec.nb", "models/cls.nb", "dict.txt")) {
            val file = File(folder, name)
            val content = file.readBytes()
            file.writeBytes(content.clone().also { it[0] = (it[0] + 1).toByte() })
            val error = assertThrows(BundleException::class.java) { read() }
            assertTrue("${error.message}", error.message!!.startsWith("$file is damaged: its sha256 is "))
            assertFalse(seen.exists())
            file.writeBytes(content)
        }
        assertEquals(0, FakeRuntime.asked.size)
        assertEquals(bundle.texts, read())
    }

    @Test
    fun `an older bundle is refused`() {
        write(counter = 8)
        read()
        FakeRuntime.reset("v2.13-rc")
        write(counter = 7)
        assertUntrusted("demo has counter 7, expected 8 or more")
    }

    @Test
    fun `a bundle that does not load does not lock out others`() {
        write(counter = 8)
        FakeRuntime.version = "v2.10"
        assertThrows(VersionMismatchException::class.java) { read() }
        FakeRuntime.version = "v2.13-rc"
        write(counter = 7)
        assertEquals(bundle.texts, read())
    }

    @Test
    fun `a device without Ed25519 opens nothing`() {
        write()
        val trust = trust()
        Security.getProviders("KeyFactory.Ed25519").forEach { Security.removeProvider(it.name) }
        assertRefused<NoEd25519Exception>("Ed25519") { read(trust) }
        assertEquals(bundle.texts, read(null))
        restoreProviders()
        assertEquals(bundle.texts, read(trust))
    }

    @Test
    fun `damaged counters open nothing`() {
        write()
        seen.parentFile!!.mkdirs()
        val values = listOf("\"7\"", "7.5", "true", "null", "7,").map { "{\"demo\": $it}" }
        for (content in values + listOf("", "{", "[]", "7", "{demo: 7}")) {
            seen.writeText(content)
            assertUntrusted("$seen", "damaged")
        }
        seen.writeBytes("{\"de".toByteArray() + 0xFF.toByte() + "\": 7}".toByteArray())
        assertUntrusted("$seen", "damaged")
        seen.delete()
        seen.mkdir()
        assertUntrusted("$seen", "damaged")
    }

    @Test
    fun `counters that cannot be written open nothing`() {
        write()
        seen.parentFile!!.writeText("no folder")
        val error = assertThrows(StorageException::class.java) { read() }
        assertTrue("${error.message}", "seen.json.begun cannot be written" in error.message!!)
        assertEquals(0, FakeRuntime.loaded.get())
    }

    @Test
    fun `trust without a key, or with an invalid one, is refused`() {
        val none = assertThrows(UntrustedException::class.java) { trust(*arrayOf()) }
        assertEquals("no bundle is trusted: there is no key", none.message)
        val odd = assertThrows(UntrustedException::class.java) {
            Trust(mapOf("ours.pem" to "odd"), FileCounterStore(seen))
        }
        assertEquals("ours.pem is not an Ed25519 public key in PEM form", odd.message)
    }

    // --- In assets ---

    private val home by lazy { File(temporary.root, "copies") }
    private val copy get() = home.listFiles().orEmpty().single()

    private fun unpack(trust: Trust? = trust()) = openAssets(home, folder).unpack(trust) { it.models.values }

    @Test
    fun `the copy of a signed bundle can be checked, too`() {
        write()
        unpack()
        assertArrayEquals(signature.readBytes(), File(copy, "manifest.sig").readBytes())
        EdgeOcr.open(copy, OcrOptions(trust = trust())).use { ocr ->
            assertEquals(bundle.texts, ocr.recognize(bundle.image).lines.map { it.text })
        }
        val model = File(copy, "models/rec.nb")
        model.setLastModified(1_000_000)
        unpack()
        assertEquals(1_000_000, model.lastModified())
    }

    @Test
    fun `a copy gets the signature that the assets have now`() {
        write(pair = other)
        unpack(null)
        signature.writeBytes(sign(manifest.readBytes(), ours))
        unpack()
        assertArrayEquals(signature.readBytes(), File(copy, "manifest.sig").readBytes())
        signature.delete()
        unpack(null)
        assertFalse(File(copy, "manifest.sig").exists())
    }

    @Test
    fun `a bundle that is not trusted is not copied`() {
        bundle.write(folder)
        assertRefused<UntrustedException>("manifest.sig") { unpack() }
        write(counter = 6)
        FileCounterStore(seen).write(mapOf("demo" to 7L))
        assertRefused<UntrustedException>("assets", "demo has counter 6, expected 7 or more") { unpack() }
        assertFalse(home.exists())
    }

    private fun addAssets(vararg others: Pair<String, String>) =
        addAssets(temporary.newFile("assets.apk"), folder, *others)

    private fun readAssets(options: OcrOptions = OcrOptions()) = EdgeOcr.open(app, options).use { ocr ->
        ocr.recognize(bundle.image).lines.map { it.text }
    }

    @Test
    fun `keys among the assets are found`() {
        write()
        addAssets("edge-ocr-trust/b.pem" to writePem(ours), "edge-ocr-trust/a.pem" to writePem(other))
        assertEquals(bundle.texts, readAssets())
        val counters = File(app.filesDir, "edge-ocr-trust/seen.json")
        assertEquals(mapOf("demo" to 7L), FileCounterStore(counters).read())
        assertEquals(bundle.texts, read(Trust.fromAssets(app)))
        write(counter = 6)
        assertThrows(UntrustedException::class.java) { read(Trust.fromAssets(app)) }
    }

    @Test
    fun `an unsigned bundle is refused if the app has a key`() {
        bundle.write(folder)
        addAssets("edge-ocr-trust/key.pem" to writePem(ours))
        assertRefused<UntrustedException>("manifest.sig") { readAssets() }
        assertFalse(File(app.filesDir, "edge-ocr").exists())
    }

    @Test
    fun `a key in the options counts instead of those among the assets`() {
        write()
        addAssets("edge-ocr-trust/key.pem" to writePem(other))
        assertThrows(UntrustedException::class.java) { readAssets() }
        assertEquals(bundle.texts, readAssets(OcrOptions(trust = trust())))
    }

    @Test
    fun `assets with an invalid key are refused`() {
        write()
        addAssets("edge-ocr-trust/KEY.pub" to writePem(ours))
        val error = assertRefused<UntrustedException>("edge-ocr-trust", "*.pem") { readAssets() }
        assertTrue("KEY.pem" in error.hint!!)
    }

    @Test
    fun `assets with a damaged key are refused`() {
        write()
        addAssets("edge-ocr-trust/a.pem" to writePem(ours), "edge-ocr-trust/b.pem" to "odd")
        assertRefused<UntrustedException>("edge-ocr-trust/b.pem") { readAssets() }
    }

    @Test
    fun `assets without a key accept every bundle`() {
        bundle.write(folder)
        addAssets()
        assertEquals(bundle.texts, readAssets())
        val error = assertThrows(UntrustedException::class.java) { Trust.fromAssets(app) }
        assertTrue("edge-ocr-trust" in error.message!!)
    }

    // --- A download, and the assets if it cannot be used ---

    /** Signs the bundle as the app's with counter 7, then as a download with another. */
    private fun addDownload(counter: Long, pair: KeyPair = ours) {
        write()
        addAssets("edge-ocr-trust/key.pem" to writePem(ours))
        write(counter, pair)
    }

    private fun openEither() = EdgeOcr.open(app, folder).use { ocr ->
        assertEquals(bundle.texts, ocr.recognize(bundle.image).lines.map { it.text })
        ocr.fallbackReason
    }

    @Test
    fun `a newer download is opened`() {
        addDownload(counter = 8)
        assertNull(openEither())
        assertEquals(8L, FileCounterStore(File(app.filesDir, "edge-ocr-trust/seen.json")).read()["demo"])
        assertFalse(File(app.filesDir, "edge-ocr").exists())
    }

    @Test
    fun `without a download the assets are opened`() {
        addDownload(counter = 8)
        folder.deleteRecursively()
        assertNull(openEither())
    }

    @Test
    fun `a download that is not trusted is passed over`() {
        addDownload(counter = 8, pair = other)
        assertTrue(openEither() is UntrustedException)
        // Signed, but older than the app's own bundle, which was opened.
        write(counter = 6)
        assertTrue("counter 6, expected 7 or more" in openEither()?.message!!)
    }

    @Test
    fun `a damaged download is passed over, though the assets are older than an earlier one`() {
        addDownload(counter = 8)
        assertNull(openEither())
        File(folder, "models/rec.nb").appendText("more")
        val reason = openEither()
        assertTrue("${reason?.message}", reason is BundleException && "rec.nb" in reason.message!!)
        // The app's bundle alone is still refused: it would undo the update.
        assertRefusedByCounter { readAssets() }
        File(folder, "manifest.json").delete()
        assertTrue(openEither() is BundleException)
    }

    private fun assertRefusedByCounter(opening: () -> Any?) {
        val error = assertThrows(UntrustedException::class.java) { opening() }
        assertTrue("${error.message}", "counter 7, expected 8 or more" in error.message!!)
    }

    @Test
    fun `if the assets cannot be opened either, their error is thrown`() {
        bundle.write(folder)
        addAssets("edge-ocr-trust/key.pem" to writePem(ours))
        folder.deleteRecursively()
        folder.mkdirs()
        assertRefused<UntrustedException>("assets", "manifest.sig") { EdgeOcr.open(app, folder) }
    }
}
