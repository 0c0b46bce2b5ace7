package io.github.edgeocr.demo

import android.app.Application
import android.content.Context
import io.github.edgeocr.EdgeOcr

/** Holds the objects that all screens share. */
class DemoApp : Application() {
    internal val worker = OcrWorker({ EdgeOcr.open(this, it) }, { Preferences(this).toOptions() })

    /** Frees the networks if the system is short of memory and the app is not visible. */
    override fun onTrimMemory(level: Int) {
        super.onTrimMemory(level)
        if (level >= TRIM_MEMORY_BACKGROUND && !worker.isBusy) worker.close()
    }
}

internal val Context.worker: OcrWorker get() = (applicationContext as DemoApp).worker
