package io.github.edgeocr.demo

import android.app.Application
import android.content.Context

/** Holds the objects that all screens share. */
class DemoApp : Application() {
    internal val models = Models(this)
    internal val worker = OcrWorker(models::open) { Preferences(this).toOptions() }

    /** Frees the networks if the system is short of memory and the app is not visible. */
    override fun onTrimMemory(level: Int) {
        super.onTrimMemory(level)
        if (level >= TRIM_MEMORY_BACKGROUND && !worker.isBusy) worker.close()
    }
}

internal val Context.models: Models get() = (applicationContext as DemoApp).models

internal val Context.worker: OcrWorker get() = (applicationContext as DemoApp).worker
