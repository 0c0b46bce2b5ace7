package io.github.edgeocr.demo

import android.os.Handler
import android.os.Looper
import io.github.edgeocr.EdgeOcr
import io.github.edgeocr.OcrOptions
import io.github.edgeocr.core.Cancellation
import java.util.concurrent.Executor
import java.util.concurrent.Executors
import java.util.concurrent.atomic.AtomicInteger

/** The app's one [EdgeOcr], on one background thread. Its functions are for the main thread. */
internal class OcrWorker(private val open: (OcrOptions) -> EdgeOcr, private val options: () -> OcrOptions) {
    /** Work that was asked for, and that may be given up. */
    class Job : Cancellation {
        @Volatile
        private var isCancelled = false

        fun cancel() {
            isCancelled = true
        }

        override fun isCancelled() = isCancelled
    }

    private val ocrThread = Executors.newSingleThreadExecutor { Thread(it, "ocr") }

    // Another app's file may come slowly from a network; what comes after must not wait for it.
    private val otherThreads = Executors.newCachedThreadPool { Thread(it, "prepare") }
    private val mainThread = Handler(Looper.getMainLooper())
    private val unfinished = AtomicInteger()

    // Of the thread "ocr" only.
    private var opened: EdgeOcr? = null
    private var openedWith: OcrOptions? = null

    /** Whether work is under way or waits for its turn. */
    val isBusy: Boolean get() = unfinished.get() > 0

    /**
     * Runs [work] behind what was asked before; opens the bundle first if it is not open or the options changed.
     *
     * [done] gets the outcome on the main thread, and is not called once the job is cancelled. Whatever is thrown,
     * also by opening, is a failure of the Result, [OutOfMemoryError] too.
     */
    fun <T> run(work: (EdgeOcr, Cancellation) -> T, done: (Result<T>) -> Unit): Job =
        start(ocrThread, { job -> work(findOpen(), job) }, done)

    /** Runs [work] that needs no networks, on a thread of its own; the rest as with [run]. */
    fun <T> prepare(work: (Cancellation) -> T, done: (Result<T>) -> Unit): Job = start(otherThreads, work, done)

    /** Frees the native memory when all that was asked before is done; the next [run] opens the bundle again. */
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
        threads == other.threads && powerMode == other.powerMode && settingsChange == other.settingsChange
}
