package io.github.edgeocr.demo

import android.content.ContentResolver
import android.net.Uri
import io.github.edgeocr.core.EdgeOcrException
import io.github.edgeocr.core.Reading
import java.io.File

/**
 * One picture from its arrival to its text. It outlives the activity when the phone is rotated.
 *
 * Use it on the main thread. [onChange] is called after each step. Copies are in [folder].
 */
internal class PictureReading(
    private val worker: OcrWorker,
    private val resolver: ContentResolver,
    private val folder: File,
    private val models: Models,
) {
    var onChange: () -> Unit = {}

    /** Where to copy the picture from; null after it was copied. */
    var source: Uri? = null
        private set

    var file: PictureFile? = null
        private set

    var picture: ShownPicture? = null
        private set

    /** Size in pixels of the picture's file. */
    var reading: Reading? = null
        private set

    var error: Throwable? = null
        private set

    /** Why it was read with other models than those installed, if the user does not know yet. */
    var fallbackReason: EdgeOcrException? = null
        private set

    val isBusy: Boolean get() = job != null

    /** Whether there is a picture, copied or not. */
    val isBegun: Boolean get() = source != null || file != null

    private var job: OcrWorker.Job? = null

    /** Reads a picture from another app and replaces the previous one. */
    fun start(from: Uri) {
        clear()
        source = from
        step(worker.prepare({ job -> PictureFile.copy(resolver, from, folder, job) }, next(::start)))
    }

    /** Reads a picture in the app's own files. */
    fun start(own: PictureFile) {
        if (own !== file) clear()
        source = null
        file = own
        val work = worker.prepare(
            { own.decode().let { it to it.shrink() } },
            next { (whole, shown) ->
                picture = shown
                read(whole)
            },
        )
        step(work)
    }

    /** Continues after a cancellation or failure. */
    fun retry() {
        source?.let { return start(it) }
        file?.let(::start)
    }

    fun cancel() {
        job?.cancel()
        job = null
        onChange()
    }

    /** Stops, and deletes the app's own copy. */
    fun clear() {
        job?.cancel()
        job = null
        file?.delete()
        file = null
        source = null
        picture = null
        reading = null
        fallbackReason = null
        error = null
    }

    /** Reports a failure before reading; the previous result stays. */
    fun fail(reason: Throwable) {
        error = reason
        onChange()
    }

    private fun read(read: Picture) {
        val work = worker.run(
            { ocr, job ->
                val found = ocr.recognize(read.bitmap, job)
                val (byX, byY) = read.width.toFloat() / read.bitmap.width to read.height.toFloat() / read.bitmap.height
                found.scale(byX, byY)
            },
            next { found ->
                reading = found
                fallbackReason = models.takeReason()
                error = null
                onChange()
            },
        )
        step(work)
    }

    private fun step(started: OcrWorker.Job) {
        job = started
        error = null
        onChange()
    }

    /** Continues if a step succeeds; stops if it fails. */
    private fun <T> next(goOn: (T) -> Unit): (Result<T>) -> Unit = { result ->
        job = null
        result.onSuccess(goOn).onFailure {
            error = it
            onChange()
        }
    }
}
