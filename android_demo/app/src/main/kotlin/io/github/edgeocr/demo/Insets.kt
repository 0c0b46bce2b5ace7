package io.github.edgeocr.demo

import android.app.Activity
import android.os.Build
import android.view.View
import android.view.WindowInsets
import android.widget.Toolbar

/**
 * Shows a layout clear of the system bars and makes its toolbar `R.id.toolbar` the action bar.
 *
 * The theme has no action bar of its own, because since Android 15 it would cover the top of the content.
 */
internal fun Activity.showScreen(layout: Int, hasBack: Boolean = true) {
    setContentView(layout)
    val toolbar = findViewById<Toolbar>(R.id.toolbar)
    setActionBar(toolbar)
    if (hasBack) {
        actionBar?.setDisplayHomeAsUpEnabled(true)
        toolbar.setNavigationOnClickListener { finish() }
    }
    findViewById<View>(android.R.id.content).padForBars()
}

/** Keeps the content of a view clear of the system bars, the camera cutout and the keyboard. */
internal fun View.padForBars() {
    // The app draws under them only since Android 15.
    if (Build.VERSION.SDK_INT < Build.VERSION_CODES.R) return
    setOnApplyWindowInsetsListener { view, insets ->
        val covered = WindowInsets.Type.systemBars() or WindowInsets.Type.displayCutout() or WindowInsets.Type.ime()
        insets.getInsets(covered).let { view.setPadding(it.left, it.top, it.right, it.bottom) }
        WindowInsets.CONSUMED
    }
}
