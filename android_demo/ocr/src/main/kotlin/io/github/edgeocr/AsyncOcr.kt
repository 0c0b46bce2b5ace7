package io.github.edgeocr

import android.content.Context
import android.graphics.Bitmap
import io.github.edgeocr.core.BgrImage
import io.github.edgeocr.core.Reading
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.asCoroutineDispatcher
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext
import java.io.File
import java.util.concurrent.Executor

/**
 * Receives the outcome of work in the background: one of the two functions is called, on the executor that was given
 * with the callback.
 *
 * What they throw goes to the thread's handler of uncaught exceptions.
 */
public interface OcrCallback<in T : Any> {
    /** The work succeeded. */
    public fun onResult(result: T)

    /** The work failed: any exception that the blocking function throws, or an error such as [OutOfMemoryError]. */
    public fun onError(error: Throwable)
}

/** Work in the background that can be cancelled. */
public fun interface OcrJob {
    /**
     * Stops the work soon: a reading after at most one run of a network. Does not wait for that.
     *
     * Afterwards the callback is not called, even if the work had already ended. A call that another thread has already
     * begun continues. Does nothing the second time.
     */
    public fun cancel()
}

/**
 * Opens and reads in the background and passes the outcome to a callback; for Java. In Kotlin, use [openSuspending]
 * and [recognizeSuspending].
 *
 * Callbacks run on the executor that is given, such as `new Handler(Looper.getMainLooper())::post` for the main thread.
 * If it rejects the call, nothing is called.
 */
public object AsyncOcr {
    private val readings = Dispatchers.IO.limitedParallelism(1)

    /**
     * Does what [EdgeOcr.open] does. Loading cannot be stopped: if the job is cancelled, what was opened is closed.
     */
    @JvmStatic
    @JvmOverloads
    public fun open(
        context: Context,
        options: OcrOptions = OcrOptions(),
        executor: Executor,
        callback: OcrCallback<EdgeOcr>,
    ): OcrJob = start(Dispatchers.IO, executor, callback, EdgeOcr::close) { EdgeOcr.open(context, options) }

    /** The same for the bundle in [folder], or else the one in the app's assets. */
    @JvmStatic
    @JvmOverloads
    public fun open(
        context: Context,
        folder: File,
        options: OcrOptions = OcrOptions(),
        executor: Executor,
        callback: OcrCallback<EdgeOcr>,
    ): OcrJob = start(Dispatchers.IO, executor, callback, EdgeOcr::close) { EdgeOcr.open(context, folder, options) }

    /** The same for the bundle in a folder. */
    @JvmStatic
    @JvmOverloads
    public fun open(
        folder: File,
        options: OcrOptions = OcrOptions(),
        executor: Executor,
        callback: OcrCallback<EdgeOcr>,
    ): OcrJob = start(Dispatchers.IO, executor, callback, EdgeOcr::close) { EdgeOcr.open(folder, options) }

    /**
     * Does what [EdgeOcr.recognize] does. Readings run in the order of the calls, one at a time, also those of several
     * [EdgeOcr]. If it is closed meanwhile, the error is an [IllegalStateException].
     *
     * The bitmap must not change or be recycled before the callback is called. After a cancellation, leave it to the
     * garbage collector.
     */
    @JvmStatic
    public fun recognize(
        ocr: EdgeOcr,
        bitmap: Bitmap,
        executor: Executor,
        callback: OcrCallback<Reading>,
    ): OcrJob = start(readings, executor, callback) { readWhileActive { ocr.recognize(bitmap, it) } }

    /** The same for a picture that is not a bitmap. */
    @JvmStatic
    public fun recognize(
        ocr: EdgeOcr,
        image: BgrImage,
        executor: Executor,
        callback: OcrCallback<Reading>,
    ): OcrJob = start(readings, executor, callback) { readWhileActive { ocr.recognize(image, it) } }

    private fun <T : Any> start(
        dispatcher: CoroutineDispatcher,
        executor: Executor,
        callback: OcrCallback<T>,
        discard: (T) -> Unit = {},
        work: CoroutineScope.() -> T,
    ): OcrJob {
        val job = CoroutineScope(dispatcher).launch {
            val outcome = runCatching { work() }
            var isDelivered = false
            try {
                // Does not run if the job is cancelled before its turn on the executor.
                withContext(executor.asCoroutineDispatcher()) {
                    isDelivered = true
                    outcome.fold(callback::onResult, callback::onError)
                }
            } finally {
                if (!isDelivered) outcome.onSuccess(discard)
            }
        }
        return OcrJob { job.cancel() }
    }
}
