package io.github.edgeocr.demo

import android.app.Activity
import android.os.Build
import android.view.View
import android.view.WindowInsets
import android.widget.Toolbar

/**
 * Shows a layout that has a toolbar `R.id.toolbar`, which becomes the action bar, clear of the system's bars.
 *
 * The theme has no action bar of its own: from Android 15 on that one covers the top of the content.
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

/** Keeps the content of a view clear of the system's bars, the camera's hole and the keyboard. */
internal fun View.padForBars() {
    // Only from Android 15 on does the app draw under them.
    if (Build.VERSION.SDK_INT < Build.VERSION_CODES.R) return
    setOnApplyWindowInsetsListener { view, insets ->
        val covered = WindowInsets.Type.systemBars() or WindowInsets.Type.displayCutout() or WindowInsets.Type.ime()
        insets.getInsets(covered).let { view.setPadding(it.left, it.top, it.right, it.bottom) }
        WindowInsets.CONSUMED
    }
}
