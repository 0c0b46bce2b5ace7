package io.github.edgeocr.demo

import android.os.Handler
import android.os.Looper
import io.github.edgeocr.EdgeOcr
import io.github.edgeocr.core.Cancellation

/**
 * Work with the networks that continues while the phone is rotated: an activity passes it to its successor.
 *
 * Use it on the main thread. [work] runs on the worker's thread and reports there how many steps are done.
 */
internal class Task<T>(worker: OcrWorker, work: (EdgeOcr, Cancellation, tell: (steps: Int) -> Unit) -> T) {
    /** How many steps are done. */
    var steps = 0
        private set

    /** Null while it runs, and always if it was cancelled. */
    var outcome: Result<T>? = null
        private set

    /** Called after each change. */
    var onChange: () -> Unit = {}

    private val main = Handler(Looper.getMainLooper())
    private val job = worker.run({ ocr, cancellation -> work(ocr, cancellation, ::tell) }) {
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
