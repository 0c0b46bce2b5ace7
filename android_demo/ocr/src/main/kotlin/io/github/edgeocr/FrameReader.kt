@file:JvmName("EdgeOcrFrames")

package io.github.edgeocr

import android.graphics.Bitmap
import io.github.edgeocr.core.Reading
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.asCoroutineDispatcher
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.catch
import kotlinx.coroutines.flow.conflate
import kotlinx.coroutines.flow.consumeAsFlow
import kotlinx.coroutines.flow.map
import kotlinx.coroutines.launch
import java.io.Closeable
import java.util.concurrent.Executor

/**
 * The text of one frame.
 *
 * @property frame The bitmap that was passed.
 * @property reading What it says; polygons are in its pixels.
 */
public class FrameReading(public val frame: Bitmap, public val reading: Reading)

/**
 * Reads a stream of bitmaps, such as a camera's, and returns the readings in the order of the frames.
 *
 * While a frame is read and its reading collected, only the newest of the others waits; the rest are dropped, and
 * [frames] never has to wait. A frame must not be recycled before a reading of it or of a later one comes.
 *
 * The flow ends after the last frame, and with the exception of [recognizeSuspending] if that fails. Cancelling its
 * collector stops the reading. [dispatcher]: as for [recognizeSuspending].
 */
public fun EdgeOcr.recognizeFrames(
    frames: Flow<Bitmap>,
    dispatcher: CoroutineDispatcher = Dispatchers.IO,
): Flow<FrameReading> = recognizeEach(frames.conflate(), dispatcher)

private fun EdgeOcr.recognizeEach(frames: Flow<Bitmap>, dispatcher: CoroutineDispatcher) =
    frames.map { FrameReading(it, recognizeSuspending(it, dispatcher)) }

/**
 * Reads the frames of a camera in the background, and calls [callback] on [executor] with each reading; for Java. In
 * Kotlin, use [recognizeFrames].
 *
 * While a frame is read and the callback runs, only the newest of the others waits; the rest are dropped. The first
 * error ends this: [OcrCallback.onError] is called once, and nothing after it. Thread-safe.
 */
public class FrameReader(ocr: EdgeOcr, executor: Executor, callback: OcrCallback<FrameReading>) : Closeable {
    private val frames = Channel<Bitmap>(Channel.CONFLATED)

    private val job = CoroutineScope(executor.asCoroutineDispatcher()).launch {
        ocr.recognizeEach(frames.consumeAsFlow(), Dispatchers.IO)
            .catch { error ->
                // A reading may fail after this was closed.
                currentCoroutineContext().ensureActive()
                callback.onError(error)
            }
            .collect(callback::onResult)
    }

    /**
     * Passes a frame and returns at once: true if it is read now, or next unless a newer one comes; false after an
     * error or [close].
     *
     * The frame must not change or be recycled until the callback has a reading of it or of a later one. After [close],
     * leave it to the garbage collector.
     */
    public fun offer(frame: Bitmap): Boolean = job.isActive && frames.trySend(frame).isSuccess

    /**
     * Ends the reading soon, without waiting for it, and drops the frame that waits. Afterwards the callback is not
     * called; a call that another thread has already begun continues. Does not close the [EdgeOcr].
     */
    override fun close() {
        job.cancel()
        frames.cancel()
    }
}
