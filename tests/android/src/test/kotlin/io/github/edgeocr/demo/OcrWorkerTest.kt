package io.github.edgeocr.demo

import com.baidu.paddle.lite.FakeRuntime
import io.github.edgeocr.EdgeOcr
import io.github.edgeocr.OcrOptions
import io.github.edgeocr.core.BundleException
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertSame
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import java.util.concurrent.CountDownLatch

class OcrWorkerTest : DemoTest() {
    private var threads = 1
    private var openings = 0
    private val worker = OcrWorker(
        {
            openings++
            EdgeOcr.open(app, it)
        },
        { OcrOptions(threads) },
    )

    @Before
    fun install() = installBundle()

    private fun <T> finish(work: (EdgeOcr) -> T): Result<T> {
        var outcome: Result<T>? = null
        worker.run({ ocr, _ -> work(ocr) }) {
            assertSame(app.mainLooper.thread, Thread.currentThread())
            outcome = it
        }
        waitUntil("the work is done") { outcome != null }
        return outcome!!
    }

    @Test
    fun `the bundle is opened once, on a thread of its own`() {
        val names = List(2) { finish { Thread.currentThread().name }.getOrThrow() }
        assertEquals(listOf("ocr", "ocr"), names)
        assertEquals(1, openings)
        assertEquals(bundle.texts, finish { it.recognize(bundle.image) }.getOrThrow().lines.map { it.text })
        assertFalse(worker.isBusy)
    }

    @Test
    fun `other options open it again and close the previous one`() {
        finish {}
        threads = 2
        finish {}
        finish {}
        assertEquals(2, openings)
        assertEquals(2, FakeRuntime.asked.last().threads)
        assertEquals(3, FakeRuntime.loaded.get())
    }

    @Test
    fun `an exception is a failure and the next work runs`() {
        FakeRuntime.linkError = "dlopen failed"
        assertTrue(finish {}.isFailure)
        FakeRuntime.linkError = null
        assertTrue(finish { throw OutOfMemoryError() }.exceptionOrNull() is OutOfMemoryError)
        assertTrue(finish { throw BundleException("no") }.exceptionOrNull() is BundleException)
        assertEquals(3, finish { 3 }.getOrThrow())
        assertEquals(2, openings)
    }

    @Test
    fun `work waits for earlier work, preparing does not`() {
        val (begun, go) = CountDownLatch(1) to CountDownLatch(1)
        val order = ArrayList<String>()
        worker.run({ _, _ -> begun.countDown(); go.await() }) { order += "first" }
        worker.run({ _, _ -> }) { order += "second" }
        begun.await()
        worker.prepare({ }) { order += "prepared" }
        waitUntil("what needs no networks is done") { order.isNotEmpty() }
        assertTrue(worker.isBusy)
        go.countDown()
        waitUntil("all is done") { order.size == 3 }
        assertEquals(listOf("prepared", "first", "second"), order)
        assertFalse(worker.isBusy)
    }

    @Test
    fun `cancelled work does not begin, stops, and is not reported`() {
        val (begun, go) = CountDownLatch(1) to CountDownLatch(1)
        var told = 0
        var isStopped = false
        val running = worker.run({ _, job -> begun.countDown(); go.await(); isStopped = job.isCancelled() }) { told++ }
        val waiting = worker.run({ _, _ -> error("it was cancelled") }) { told++ }
        begun.await()
        running.cancel()
        waiting.cancel()
        go.countDown()
        finish {}
        assertTrue(isStopped)
        assertEquals(0, told)
    }

    @Test
    fun `work cancelled after its end is not reported either`() {
        var told = 0
        val job = worker.run({ _, _ -> }) { told++ }
        while (worker.isBusy) Thread.sleep(1)
        job.cancel()
        finish {}
        assertEquals(0, told)
    }

    @Test
    fun `closing frees the networks and the next work opens them`() {
        finish {}
        assertEquals(3, FakeRuntime.loaded.get())
        worker.close()
        waitUntil("all is freed") { FakeRuntime.loaded.get() == 0 }
        assertTrue(finish { it.recognize(bundle.image) }.isSuccess)
        assertEquals(2, openings)
    }

    @Test
    fun `the app frees the networks in the background, unless they are at work`() {
        val demo = app as DemoApp
        val (begun, go) = CountDownLatch(1) to CountDownLatch(1)
        var isDone = false
        demo.worker.run({ _, _ -> begun.countDown(); go.await() }) { isDone = true }
        begun.await()
        demo.onTrimMemory(android.content.ComponentCallbacks2.TRIM_MEMORY_BACKGROUND)
        go.countDown()
        waitUntil("the work is done") { isDone }
        demo.onTrimMemory(android.content.ComponentCallbacks2.TRIM_MEMORY_UI_HIDDEN)
        var isOpen = false
        demo.worker.run({ _, _ -> isOpen = FakeRuntime.asked.size == 3 }) {}
        waitUntil("it was not opened again") { isOpen }
        demo.onTrimMemory(android.content.ComponentCallbacks2.TRIM_MEMORY_BACKGROUND)
        waitUntil("all is freed") { FakeRuntime.loaded.get() == 0 }
    }
}
