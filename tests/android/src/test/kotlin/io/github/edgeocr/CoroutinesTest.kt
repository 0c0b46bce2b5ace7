package io.github.edgeocr

import com.baidu.paddle.lite.FakeRuntime
import io.github.edgeocr.core.BundleException
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.asCoroutineDispatcher
import kotlinx.coroutines.async
import kotlinx.coroutines.launch
import kotlinx.coroutines.supervisorScope
import kotlinx.coroutines.withTimeoutOrNull
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import java.util.concurrent.CountDownLatch
import java.util.concurrent.Executors
import kotlin.concurrent.thread

@RunWith(RobolectricTestRunner::class)
class CoroutinesTest : BackgroundTest() {
    private inline fun <reified T : Throwable> assertFails(work: () -> Unit): T {
        val error = runCatching(work).exceptionOrNull()
        assertTrue("$error", error is T)
        return error as T
    }

    @Test
    fun `opens and reads on other threads`() = run {
        EdgeOcr.openSuspending(folder).use { opened ->
            assertReads(opened.recognizeSuspending(bundle.makeBitmap()))
            assertReads(opened.recognizeSuspending(bundle.image))
        }
        assertFalse(runs.any { (_, thread) -> thread == Thread.currentThread().name })
    }

    @Test
    fun `opens and reads on the dispatcher that is given`() = run {
        val dispatcher = mine.asCoroutineDispatcher()
        var thread = ""
        val options = OcrOptions(settingsChange = { settings -> settings.also { thread = Thread.currentThread().name } })
        EdgeOcr.openSuspending(folder, options, dispatcher).use { opened ->
            assertReads(opened.recognizeSuspending(bundle.makeBitmap(), dispatcher))
        }
        assertEquals(setOf(MINE), runs.map { it.second.substringBefore(" @") }.toSet())
        assertEquals(MINE, thread.substringBefore(" @"))
    }

    @Test
    fun `exceptions are those of the blocking functions`() = run {
        isBroken = true
        assertTrue("rec.nb" in assertFails<EngineException> { ocr.recognizeSuspending(bundle.image) }.message!!)
        isBroken = false
        assertReads(ocr.recognizeSuspending(bundle.image))
        val bitmap = bundle.makeBitmap().also { it.recycle() }
        assertFails<PictureException> { ocr.recognizeSuspending(bitmap) }
        FakeRuntime.version = "v2.10"
        assertEquals("v2.10", assertFails<VersionMismatchException> { EdgeOcr.openSuspending(folder) }.libraryVersion)
        // The app has no bundle.
        assertFails<BundleException> {
            EdgeOcr.openSuspending(RuntimeEnvironment.getApplication())
        }
    }

    @Test
    fun `cancelling ends a reading before the next network`() = run {
        holdDetector()
        val reading = launch(Dispatchers.Default) { ocr.recognizeSuspending(bundle.makeBitmap()) }
        awaitDetector()
        reading.cancel()
        // It ends when the bitmap is no longer used.
        assertFalse(reading.isCompleted)
        hold.countDown()
        reading.join()
        assertEquals(0, runs.size)
        assertReads(ocr.recognizeSuspending(bundle.makeBitmap()))
    }

    @Test
    fun `a reading that waits for its turn can be cancelled`() = run {
        holdDetector()
        val first = async(Dispatchers.Default) { ocr.recognizeSuspending(bundle.image) }
        awaitDetector()
        val second = launch(Dispatchers.Default) { ocr.recognizeSuspending(bundle.image) }
        second.cancel()
        second.join()
        assertTrue(first.isActive)
        hold.countDown()
        assertReads(first.await())
    }

    @Test
    fun `a time limit applies`() = run {
        holdDetector()
        thread {
            awaitDetector()
            Thread.sleep(100)
            hold.countDown()
        }
        assertNull(withTimeoutOrNull(50) { ocr.recognizeSuspending(bundle.image) })
    }

    @Test
    fun `closing is an error and not a cancellation`() = run {
        supervisorScope {
            holdDetector()
            val reading = async(Dispatchers.Default) { ocr.recognizeSuspending(bundle.image) }
            awaitDetector()
            val closing = thread { ocr.close() }
            // It is closed before it waits.
            while (closing.state != Thread.State.WAITING) Thread.sleep(1)
            hold.countDown()
            val error = assertFails<IllegalStateException> { reading.await() }
            assertFalse("$error", error is CancellationException)
            closing.join()
            assertFails<IllegalStateException> { ocr.recognizeSuspending(bundle.image) }
        }
    }

    @Test
    fun `an interrupted thread is an error and not a cancellation`() = run {
        val threads = Executors.newSingleThreadExecutor()
        holdDetector()
        supervisorScope {
            val reading = async { ocr.recognizeSuspending(bundle.image, threads.asCoroutineDispatcher()) }
            launch(Dispatchers.Default) {
                awaitDetector()
                // Interrupts the detector while it waits.
                hold = CountDownLatch(0)
                threads.shutdownNow()
            }
            val error = runCatching { reading.await() }.exceptionOrNull()
            assertFalse("$error", error is CancellationException)
            assertTrue("$error", error != null)
        }
    }

    @Test
    fun `what was opened for a cancelled coroutine is closed`() = run {
        val (begun, finish) = CountDownLatch(1) to CountDownLatch(1)
        val options = OcrOptions(
            settingsChange = { settings ->
                begun.countDown()
                finish.await()
                settings
            },
        )
        val opening = launch(Dispatchers.Default) { EdgeOcr.openSuspending(folder, options) }
        begun.await()
        opening.cancel()
        finish.countDown()
        opening.join()
        assertEquals(3, FakeRuntime.asked.size)
        assertEquals(0, FakeRuntime.loaded.get())
    }
}
