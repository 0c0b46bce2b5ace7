package io.github.edgeocr.demo

import android.os.Handler
import android.os.Looper
import io.github.edgeocr.EdgeOcr
import io.github.edgeocr.OcrOptions
import io.github.edgeocr.core.Cancellation
import java.util.concurrent.Executor
import java.util.concurrent.Executors
import java.util.concurrent.atomic.AtomicInteger

/** The app's only [EdgeOcr], on one background thread. Call its functions on the main thread, [close] on any. */
internal class OcrWorker(private val open: (OcrOptions) -> EdgeOcr, private val options: () -> OcrOptions) {
    /** Work that was requested and can be cancelled. */
    class Job : Cancellation {
        @Volatile
        private var isCancelled = false

        fun cancel() {
            isCancelled = true
        }

        override fun isCancelled() = isCancelled
    }

    private val ocrThread = Executors.newSingleThreadExecutor { Thread(it, "ocr") }

    // Another app's file may come slowly from a network; other work must not wait for it.
    private val otherThreads = Executors.newCachedThreadPool { Thread(it, "prepare") }
    private val mainThread = Handler(Looper.getMainLooper())
    private val unfinished = AtomicInteger()

    // Used on the thread "ocr" only.
    private var opened: EdgeOcr? = null
    private var openedWith: OcrOptions? = null

    /** Whether work is running or queued. */
    val isBusy: Boolean get() = unfinished.get() > 0

    /**
     * Queues [work]; opens the bundle first if it is not open or the options changed.
     *
     * [done] receives the outcome on the main thread; it is not called after the job is cancelled. Every exception,
     * also from opening and also [OutOfMemoryError], is a failure of the Result.
     */
    fun <T> run(work: (EdgeOcr, Cancellation) -> T, done: (Result<T>) -> Unit): Job =
        start(ocrThread, { job -> work(findOpen(), job) }, done)

    /** Runs [work] that needs no networks, on another thread; otherwise like [run]. */
    fun <T> prepare(work: (Cancellation) -> T, done: (Result<T>) -> Unit): Job = start(otherThreads, work, done)

    /** Frees the native memory after all queued work; the next [run] opens the bundle again. */
    fun close() = ocrThread.execute(::closeOpen)

    private fun <T> start(thread: Executor, work: (Job) -> T, done: (Result<T>) -> Unit): Job {
        val job = Job()
        unfinished.incrementAndGet()
        thread.execute {
            val result = if (job.isCancelled()) null else runCatching { work(job) }
            unfinished.decrementAndGet()
            if (result != null) mainThread.post { if (!job.isCancelled()) done(result) }
        }
        return job
    }

    private fun findOpen(): EdgeOcr {
        val wanted = options()
        opened?.let { if (openedWith?.isSameAs(wanted) == true) return it }
        closeOpen()
        return open(wanted).also {
            opened = it
            openedWith = wanted
        }
    }

    private fun closeOpen() {
        opened?.close()
        opened = null
    }

    private fun OcrOptions.isSameAs(other: OcrOptions) =
        threads == other.threads && powerMode == other.powerMode && settingsChange == other.settingsChange &&
            returnWords == other.returnWords && engine == other.engine
}
