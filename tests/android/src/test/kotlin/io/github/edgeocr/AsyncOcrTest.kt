package io.github.edgeocr

import com.baidu.paddle.lite.FakeRuntime
import io.github.edgeocr.core.BundleException
import io.github.edgeocr.core.Reading
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import java.util.concurrent.CompletableFuture
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit
import kotlin.concurrent.thread

@RunWith(RobolectricTestRunner::class)
class AsyncOcrTest : BackgroundTest() {
    private fun read(calls: OcrCallback<Reading>) = AsyncOcr.recognize(ocr, bundle.makeBitmap(), mine, calls)

    /** Waits until all readings that were started have ended and been delivered. */
    private fun settle() {
        val last = Calls<Reading>()
        read(last)
        last.takeResult()
    }

    @Test
    fun `works on one thread and calls on another`() {
        val opened = Calls<EdgeOcr>()
        AsyncOcr.open(folder, OcrOptions(), mine, opened)
        val (result, thread) = take(opened.all)
        assertEquals(MINE, thread)
        result.getOrThrow().use { opened ->
            val readings = Calls<Reading>()
            AsyncOcr.recognize(opened, bundle.makeBitmap(), mine, readings)
            AsyncOcr.recognize(opened, bundle.image, mine, readings)
            repeat(2) {
                val (reading, called) = take(readings.all)
                assertReads(reading.getOrThrow())
                assertEquals(MINE, called)
            }
        }
        assertTrue(runs.none { it.second == MINE || it.second == Thread.currentThread().name })
    }

    @Test
    fun `readings come in the order of the calls`() {
        val order = ArrayList<Int>()
        val all = List(8) { i ->
            CompletableFuture<Reading>().also { done ->
                AsyncOcr.recognize(
                    ocr,
                    bundle.makeBitmap(),
                    mine,
                    object : OcrCallback<Reading> {
                        override fun onResult(result: Reading) {
                            order += i
                            done.complete(result)
                        }

                        override fun onError(error: Throwable) {
                            done.completeExceptionally(error)
                        }
                    },
                )
            }
        }
        all.forEach { assertReads(it.get(LONG_S, TimeUnit.SECONDS)) }
        assertEquals(List(8) { it }, order)
    }

    @Test
    fun `errors are delivered once`() {
        val calls = Calls<Reading>()
        isBroken = true
        read(calls)
        assertTrue(calls.takeError() is EngineException)
        isBroken = false
        settle()
        assertEquals(0, calls.all.size)

        val opened = Calls<EdgeOcr>()
        AsyncOcr.open(RuntimeEnvironment.getApplication(), executor = mine, callback = opened)
        assertTrue(opened.takeError() is BundleException)
        FakeRuntime.linkError = "no library"
        AsyncOcr.open(folder, executor = mine, callback = opened)
        assertTrue(opened.takeError() is LibraryException)
    }

    @Test
    fun `memory errors are delivered`() {
        val opened = Calls<EdgeOcr>()
        AsyncOcr.open(folder, OcrOptions(settingsChange = { throw OutOfMemoryError("test") }), mine, opened)
        assertTrue(opened.takeError() is OutOfMemoryError)
    }

    @Test
    fun `a cancelled reading ends before the next network and calls nothing`() {
        holdDetector()
        val (running, waiting) = Calls<Reading>() to Calls<Reading>()
        val first = read(running)
        val second = read(waiting)
        awaitDetector()
        first.cancel()
        second.cancel()
        second.cancel()
        hold.countDown()
        settle()
        // The detector of the last reading is the next to run.
        assertEquals("det", runs.first().first)
        assertEquals(0, running.all.size + waiting.all.size)
    }

    @Test
    fun `nothing is called after cancelling though the reading has ended`() {
        val late = LateExecutor()
        val calls = Calls<Reading>()
        val job = AsyncOcr.recognize(ocr, bundle.makeBitmap(), late, calls)
        settle()
        job.cancel()
        late.runNext()
        settle()
        assertEquals(0, calls.all.size)
        isBroken = true
        val failing = AsyncOcr.recognize(ocr, bundle.makeBitmap(), late, calls)
        val last = Calls<Reading>()
        read(last)
        last.takeError()
        failing.cancel()
        late.runNext()
        assertEquals(0, calls.all.size)
    }

    @Test
    fun `what was opened for a cancelled job is closed`() {
        val late = LateExecutor()
        val calls = Calls<EdgeOcr>()
        val opened = CountDownLatch(1)
        val options = OcrOptions(settingsChange = { it.also { opened.countDown() } })
        val job = AsyncOcr.open(folder, options, late, calls)
        opened.await()
        job.cancel()
        late.runNext()
        val end = System.nanoTime() + TimeUnit.SECONDS.toNanos(LONG_S)
        while (FakeRuntime.loaded.get() != 0 && System.nanoTime() < end) Thread.sleep(1)
        assertEquals(3, FakeRuntime.asked.size)
        assertEquals(0, FakeRuntime.loaded.get())
        assertEquals(0, calls.all.size)
    }

    @Test
    fun `closing while reading is an error`() {
        holdDetector()
        val calls = Calls<Reading>()
        read(calls)
        awaitDetector()
        val closing = thread { ocr.close() }
        while (closing.state != Thread.State.WAITING) Thread.sleep(1)
        hold.countDown()
        assertEquals(IllegalStateException::class.java, calls.takeError().javaClass)
        closing.join()
        read(calls)
        assertEquals(IllegalStateException::class.java, calls.takeError().javaClass)
    }

    @Test
    fun `what a callback throws reaches the handler of uncaught exceptions`() {
        val before = Thread.getDefaultUncaughtExceptionHandler()
        val uncaught = CompletableFuture<Throwable>()
        Thread.setDefaultUncaughtExceptionHandler { _, error -> uncaught.complete(error) }
        try {
            read(
                object : OcrCallback<Reading> {
                    override fun onResult(result: Reading) = throw ArithmeticException("of the app")

                    override fun onError(error: Throwable) = throw AssertionError(error)
                },
            )
            assertEquals("of the app", uncaught.get(LONG_S, TimeUnit.SECONDS).message)
        } finally {
            Thread.setDefaultUncaughtExceptionHandler(before)
        }
    }
}
