package io.github.edgeocr.demo

import android.os.Handler
import android.os.Looper
import io.github.edgeocr.EdgeOcr
import io.github.edgeocr.core.Cancellation

/**
 * Work that continues while the phone is rotated: an activity passes it to its successor.
 *
 * Use it on the main thread. [start] begins the work, which reports on its thread how many steps are done, and on the
 * main thread its outcome.
 */
internal class Task<T>(start: (tell: (steps: Int) -> Unit, done: (Result<T>) -> Unit) -> OcrWorker.Job) {
    /** Work with the networks. */
    constructor(worker: OcrWorker, work: (EdgeOcr, Cancellation, tell: (steps: Int) -> Unit) -> T) :
        this({ tell, done -> worker.run({ ocr, cancellation -> work(ocr, cancellation, tell) }, done) })

    /** How many steps are done. */
    var steps = 0
        private set

    /** Null while it runs, and always if it was cancelled. */
    var outcome: Result<T>? = null
        private set

    /** Called after each change. */
    var onChange: () -> Unit = {}

    private val main = Handler(Looper.getMainLooper())
    private val job = start(::tell) {
        outcome = it
        onChange()
    }

    /** Cancels it; nothing changes afterwards. */
    fun cancel() {
        onChange = {}
        job.cancel()
    }

    private fun tell(steps: Int) {
        main.post {
            this.steps = steps
            onChange()
        }
    }
}
