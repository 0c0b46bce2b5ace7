package io.github.edgeocr

import com.baidu.paddle.lite.FakeRuntime
import io.github.edgeocr.core.Reading
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.rules.TemporaryFolder
import java.io.File
import java.util.concurrent.CountDownLatch
import java.util.concurrent.Executor
import java.util.concurrent.Executors
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.TimeUnit

/** What the tests of reading in the background share: an open bundle, and a detector that can be held. */
abstract class BackgroundTest {
    @get:Rule
    val temporary = TemporaryFolder()

    protected val bundle = TestBundle()
    protected val folder get() = File(temporary.root, "bundle")
    protected val ocr: EdgeOcr by lazy { EdgeOcr.open(folder) }

    /** The networks that ran, and on which threads. */
    protected val runs = LinkedBlockingQueue<Pair<String, String>>()

    /** Set to hold the detector until it is counted down. */
    @Volatile
    protected var hold = CountDownLatch(0)

    /** Set to make the recogniser fail. */
    @Volatile
    protected var isBroken = false

    protected val mine = Executors.newSingleThreadExecutor { Thread(it, MINE) }

    @Before
    fun loadNetworks() {
        FakeRuntime.reset("v2.13-rc")
        bundle.loadNetworks { model ->
            runs += model to Thread.currentThread().name
            if (model == "det") hold.await()
        }
        val recognizer = FakeRuntime.networks.getValue("rec.nb")
        FakeRuntime.networks["rec.nb"] = FakeRuntime.Network { shape, data ->
            if (isBroken) null else recognizer.run(shape, data)
        }
        bundle.write(folder)
    }

    @After
    fun close() {
        hold.countDown()
        ocr.close()
        mine.shutdown()
        assertTrue(mine.awaitTermination(LONG_S, TimeUnit.SECONDS))
        assertEquals(0, FakeRuntime.loaded.get())
    }

    protected fun holdDetector() {
        hold = CountDownLatch(1)
    }

    /** Waits until the detector runs. */
    protected fun awaitDetector() {
        while (take(runs).first != "det") continue
    }

    protected fun assertReads(reading: Reading) = assertEquals(bundle.texts, reading.lines.map { it.text })

    protected fun run(test: suspend CoroutineScope.() -> Unit) =
        runBlocking { withTimeout(TimeUnit.SECONDS.toMillis(LONG_S), test) }

    /** Runs what it is given when a test says so. */
    protected class LateExecutor : Executor {
        private val waiting = LinkedBlockingQueue<Runnable>()

        override fun execute(command: Runnable) {
            waiting += command
        }

        /** Waits for work and returns it. */
        fun takeNext(): Runnable = take(waiting)

        fun runNext() = takeNext().run()
    }

    /** Keeps what it is called with, and on which thread. */
    protected class Calls<T : Any> : OcrCallback<T> {
        val all = LinkedBlockingQueue<Pair<Result<T>, String>>()

        override fun onResult(result: T) {
            all += Result.success(result) to Thread.currentThread().name
        }

        override fun onError(error: Throwable) {
            all += Result.failure<T>(error) to Thread.currentThread().name
        }

        fun takeResult(): T = take(all).first.getOrThrow()

        fun takeError(): Throwable = take(all).first.exceptionOrNull()!!
    }

    protected companion object {
        const val MINE = "mine"

        /** Limit for work that takes milliseconds. */
        const val LONG_S = 30L

        fun <T : Any> take(queue: LinkedBlockingQueue<T>): T =
            checkNotNull(queue.poll(LONG_S, TimeUnit.SECONDS)) { "nothing came in $LONG_S s" }
    }
}
