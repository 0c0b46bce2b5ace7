package io.github.edgeocr

import com.baidu.paddle.lite.FakeRuntime
import com.baidu.paddle.lite.PowerMode.LITE_POWER_LOW
import io.github.edgeocr.core.BundleException
import io.github.edgeocr.core.Cancellation
import io.github.edgeocr.core.EdgeOcrException
import io.github.edgeocr.core.GoldenFiles
import io.github.edgeocr.core.ReturnWords
import org.json.JSONObject
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
import java.io.File
import java.util.concurrent.Callable
import java.util.concurrent.CancellationException
import java.util.concurrent.CompletableFuture
import java.util.concurrent.CountDownLatch
import java.util.concurrent.ExecutionException
import java.util.concurrent.Executors
import java.util.concurrent.TimeUnit
import java.util.concurrent.atomic.AtomicInteger
import kotlin.concurrent.thread

@RunWith(RobolectricTestRunner::class)
class EdgeOcrTest {
    @get:Rule
    val temporary = TemporaryFolder()

    private val bundle = TestBundle()
    private val folder get() = File(temporary.root, "bundle")
    private val threads = Executors.newCachedThreadPool()

    @Before
    fun loadNetworks() {
        FakeRuntime.reset(VERSION)
        bundle.loadNetworks()
    }

    private fun open(options: OcrOptions = OcrOptions()) = EdgeOcr.open(bundle.write(folder), options)

    private inline fun <reified T : EdgeOcrException> assertRefused(
        vararg reasons: String,
        crossinline opening: () -> EdgeOcr,
    ): T {
        val error = assertThrows(T::class.java) { opening().close() }
        for (reason in reasons) assertTrue("${error.message}", reason in error.message!!)
        assertFalse("${error.message}", '\n' in error.message!!)
        assertEquals(0, FakeRuntime.loaded.get())
        return error
    }

    @Test
    fun `a bitmap reads as on the host`() {
        open(OcrOptions(threads = 3, powerMode = PowerMode.LOW)).use { ocr ->
            val bitmap = bundle.makeBitmap()
            repeat(2) {
                val reading = ocr.recognize(bitmap)
                assertEquals(bundle.texts, reading.lines.map { it.text })
                val stages = listOf("bitmap", "detection", "crop", "orientation", "recognition")
                assertEquals(stages, reading.timingsMs.keys.toList())
                assertTrue(reading.timingsMs.values.all { it > 0 })
            }
            assertEquals(VERSION, ocr.manifest.runtimeVersion)
            assertTrue(ocr.loadMs > 0)
            assertEquals("content of golden.png\n", ocr.findFile(ocr.manifest.golden!!.image).readText())
            assertEquals(3, FakeRuntime.loaded.get())
        }
        assertEquals(listOf("det.nb", "rec.nb", "cls.nb"), FakeRuntime.asked.map { File(it.modelFromFile).name })
        assertTrue(FakeRuntime.asked.all { it.threads == 3 && it.powerMode == LITE_POWER_LOW })
        assertEquals(0, FakeRuntime.loaded.get())
    }

    @Test
    fun `every power mode has its own at Paddle-Lite`() {
        for (mode in PowerMode.entries) {
            open(OcrOptions(powerMode = mode)).close()
            assertEquals("LITE_POWER_$mode", FakeRuntime.asked.last().powerMode.name)
        }
    }

    @Test
    fun `no threads are refused`() {
        assertThrows(IllegalArgumentException::class.java) { OcrOptions(threads = 0) }
    }

    @Test
    fun `settings can be changed`() {
        val options = OcrOptions(settingsChange = { it.copy(recognition = it.recognition.copy(textScore = 1.01)) })
        open(options).use { ocr ->
            assertEquals(1.01, ocr.settings.recognition.textScore, 0.0)
            assertEquals(emptyList<Any>(), ocr.recognize(bundle.makeBitmap()).lines)
        }
    }

    @Test
    fun `words are returned if the options or else the bundle say so`() {
        fun count(wanted: ReturnWords?) = open(OcrOptions(returnWords = wanted)).use { ocr ->
            val words = ocr.recognize(bundle.image).lines.map { it.words }
            words.sumOf { it?.size ?: -1 } to words.sumOf { line -> line.orEmpty().sumOf { it.characters.size } }
        }
        val none = -bundle.texts.size to 0
        assertEquals(none, count(null))
        val (words, noCharacters) = count(ReturnWords.WORDS)
        assertTrue(words >= bundle.texts.size && noCharacters == 0)
        bundle.manifest.getJSONObject("settings").getJSONObject("recognition").put("return_words", "chars")
        assertEquals(words to bundle.texts.sumOf { it.replace(" ", "").length }, count(null))
        assertEquals(none, count(ReturnWords.NONE))
    }

    @Test
    fun `a bundle may lack the classifier`() {
        bundle.manifest.getJSONObject("models").remove("cls")
        open().use { ocr ->
            assertEquals(bundle.texts, ocr.recognize(bundle.image).lines.map { it.text })
            assertEquals(2, FakeRuntime.loaded.get())
        }
    }

    @Test
    fun `another Paddle-Lite is refused with both versions`() {
        FakeRuntime.version = "v2.10"
        val error = assertRefused<VersionMismatchException>("v2.10", VERSION) { open() }
        assertEquals("v2.10" to VERSION, error.libraryVersion to error.bundleVersion)
        // Loading the recogniser could end the process.
        assertEquals(listOf("det.nb"), FakeRuntime.asked.map { File(it.modelFromFile).name })
    }

    @Test
    fun `a library that cannot be loaded is reported`() {
        FakeRuntime.linkError = "dlopen failed: library not found"
        assertRefused<LibraryException>("dlopen failed: library not found") { open() }
    }

    @Test
    fun `a network that Paddle-Lite refuses is reported`() {
        FakeRuntime.networks.remove("rec.nb")
        assertRefused<BundleException>("rec.nb") { open() }
    }

    @Test
    fun `a damaged file is never loaded`() {
        for (name in listOf("models/det.nb", "models/rec.nb", "models/cls.nb", "dict.txt")) {
            val content = bundle.files.getValue(name)
            val damaged = content.clone().also { it[0] = (it[0] + 1).toByte() }
            val short = content.drop(1).toByteArray()
            for ((changed, reason) in listOf(damaged to "is damaged", short to "bytes, expected")) {
                bundle.files[name] = changed
                assertRefused<BundleException>(File(name).name, reason) { open() }
            }
            bundle.files.remove(name)
            assertRefused<BundleException>(File(name).name, "is missing") { open() }
            bundle.files[name] = content
            assertEquals(0, FakeRuntime.asked.size)
        }
        open().close()
    }

    @Test
    fun `a folder without a bundle is refused`() {
        assertRefused<BundleException>(folder.path) { EdgeOcr.open(folder) }
        bundle.write(folder)
        File(folder, "manifest.json").writeText("{")
        assertRefused<BundleException>("not JSON") { EdgeOcr.open(folder) }
    }

    @Test
    fun `files outside the bundle are refused`() {
        for (name in listOf("../dict.txt", "/dict.txt", "models/../../dict.txt", "models\\dict.txt")) {
            val files = bundle.manifest.getJSONObject("files")
            files.put(name, JSONObject().put("size_bytes", 1).put("sha256", ""))
            assertRefused<BundleException>(name, "outside") { open() }
            files.remove(name)
        }
    }

    @Test
    fun `a dictionary that does not fit is refused`() {
        val count = GoldenFiles.classes.size
        bundle.manifest.getJSONObject("charset").put("classes", count + 1)
        assertRefused<BundleException>("$count classes, expected ${count + 1}") { open() }
    }

    @Test
    fun `files missing from the manifest are not found`() {
        open().use { ocr ->
            val error = assertThrows(BundleException::class.java) { ocr.findFile("other.png") }
            assertTrue("other.png" in error.message!!)
        }
    }

    @Test
    fun `it may be closed twice and then reads no more`() {
        val ocr = open()
        ocr.close()
        ocr.close()
        assertEquals(0, FakeRuntime.loaded.get())
        assertThrows(IllegalStateException::class.java) { ocr.recognize(bundle.makeBitmap()) }
        assertThrows(IllegalStateException::class.java) { ocr.recognize(bundle.image) }
    }

    @Test
    fun `a network that fails is reported and may run again`() {
        open().use { ocr ->
            val network = FakeRuntime.networks.getValue("rec.nb")
            var isBroken = true
            FakeRuntime.networks["rec.nb"] = FakeRuntime.Network { shape, data ->
                if (isBroken) null else network.run(shape, data)
            }
            EdgeOcr.open(folder).use { broken ->
                val error = assertThrows(EngineException::class.java) { broken.recognize(bundle.image) }
                assertTrue("${error.message}", "rec.nb" in error.message!!)
                isBroken = false
                assertEquals(bundle.texts, broken.recognize(bundle.image).lines.map { it.text })
            }
            assertEquals(bundle.texts, ocr.recognize(bundle.image).lines.map { it.text })
        }
    }

    @Test
    fun `threads take turns`() {
        val inside = AtomicInteger()
        val most = AtomicInteger()
        bundle.loadNetworks {
            most.accumulateAndGet(inside.incrementAndGet(), ::maxOf)
            Thread.sleep(2)
            inside.decrementAndGet()
        }
        open().use { ocr ->
            val readings = List(4) { threads.submit(Callable { ocr.recognize(bundle.image) }) }
            for (reading in readings) {
                assertEquals(bundle.texts, reading.get(LONG_S, TimeUnit.SECONDS).lines.map { it.text })
            }
        }
        assertEquals(1, most.get())
    }

    @Test
    fun `a reading can be cancelled`() {
        open().use { ocr ->
            var asked = 0
            ocr.recognize(bundle.image, Cancellation { asked++ < 0 })
            assertTrue(asked > 4)
            for (step in 0 until asked) {
                var left = step
                assertThrows(CancellationException::class.java) {
                    ocr.recognize(bundle.image, Cancellation { left-- == 0 })
                }
            }
            assertEquals(bundle.texts, ocr.recognize(bundle.image).lines.map { it.text })
        }
    }

    @Test
    fun `an interrupted thread stops reading and stays interrupted`() {
        open().use { ocr ->
            Thread.currentThread().interrupt()
            assertThrows(CancellationException::class.java) { ocr.recognize(bundle.image) }
            assertTrue(Thread.interrupted())
        }
    }

    /** Starts a reading and waits until its detector runs. */
    private fun startReading(ocr: EdgeOcr, begun: CountDownLatch) =
        threads.submit(Callable { ocr.recognize(bundle.image) }).also { begun.await() }

    @Test
    fun `a waiting reading can be cancelled`() {
        val (begun, finish) = CountDownLatch(1) to CountDownLatch(1)
        bundle.loadNetworks { begun.countDown(); finish.await() }
        open().use { ocr ->
            val first = startReading(ocr, begun)
            var asked = 0
            assertThrows(CancellationException::class.java) {
                ocr.recognize(bundle.image, Cancellation { asked++ > 2 })
            }
            val isInterrupted = CompletableFuture<Boolean>()
            val waiting = thread {
                assertThrows(CancellationException::class.java) { ocr.recognize(bundle.image) }
                isInterrupted.complete(Thread.interrupted())
            }
            waiting.interrupt()
            assertTrue(isInterrupted.get(LONG_S, TimeUnit.SECONDS))
            finish.countDown()
            assertEquals(bundle.texts, first.get(LONG_S, TimeUnit.SECONDS).lines.map { it.text })
        }
    }

    @Test
    fun `closing ends a reading and waits for it`() {
        val (begun, finish) = CountDownLatch(1) to CountDownLatch(1)
        bundle.loadNetworks { begun.countDown(); finish.await() }
        val ocr = open()
        val reading = startReading(ocr, begun)
        val closing = threads.submit { ocr.close() }
        Thread.sleep(50)
        assertFalse(closing.isDone)
        assertEquals(3, FakeRuntime.loaded.get())
        finish.countDown()
        closing.get(LONG_S, TimeUnit.SECONDS)
        assertEquals(0, FakeRuntime.loaded.get())
        val error = assertThrows(ExecutionException::class.java) { reading.get(LONG_S, TimeUnit.SECONDS) }
        assertTrue("${error.cause}", error.cause is CancellationException)
    }

    private companion object {
        const val VERSION = "v2.13-rc"

        /** Limit for work that takes milliseconds. */
        const val LONG_S = 30L
    }
}
