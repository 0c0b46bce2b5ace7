package io.github.edgeocr.demo

import android.Manifest
import android.app.Activity
import android.content.Intent
import android.content.pm.PackageManager
import android.hardware.camera2.CameraManager
import android.hardware.display.DisplayManager
import android.net.Uri
import android.os.Bundle
import android.provider.Settings
import android.view.Display
import android.view.View
import android.widget.Button
import android.widget.TextView
import io.github.edgeocr.core.BgrImage
import io.github.edgeocr.core.LineTracker
import io.github.edgeocr.core.Reading
import io.github.edgeocr.core.ReturnWords
import io.github.edgeocr.core.TextLine
import io.github.edgeocr.core.TrackedLine
import kotlin.math.roundToInt

/** Reads camera frames one after the other and shows the lines over the preview; texts are voted over frames. */
internal class LiveActivity : Activity(), Camera.Listener {
    private lateinit var preview: CameraPreview
    private lateinit var overlay: OverlayView
    private lateinit var status: TextView
    private lateinit var message: TextView
    private lateinit var mend: Button
    private lateinit var toggle: Button
    private lateinit var copy: Button

    private var camera: Camera? = null
    private var choice: CameraChoice? = null
    private var job: OcrWorker.Job? = null
    private var isAsked = false
    private val tracker = LineTracker()
    private var trackedDegrees = 0

    /** The latest frame that was read. */
    private var shot: Shot? = null

    /** Whether the user froze the latest frame. */
    private var isStopped = false

    /** A frame and the lines to show over it. */
    private class Shot(val image: BgrImage, tracked: List<TrackedLine>) {
        val lines = tracked.map { it.line }
        val ids = tracked.map { it.id }
    }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        showScreen(R.layout.live_activity)
        preview = findViewById(R.id.live_preview)
        overlay = findViewById(R.id.live_overlay)
        status = findViewById(R.id.live_status)
        message = findViewById(R.id.live_message)
        mend = findViewById(R.id.live_mend)
        toggle = findViewById(R.id.live_toggle)
        copy = findViewById(R.id.live_copy)
        overlay.onTextChosen = { copyText(this, it) }
        toggle.setOnClickListener { if (isStopped) start() else stop() }
        copy.setOnClickListener { shot?.let { copyText(this, it.lines.toText()) } }
        isAsked = savedInstanceState?.getBoolean(IS_ASKED) ?: false
        isStopped = savedInstanceState?.getBoolean(IS_STOPPED) ?: false
        shot = lastNonConfigurationInstance as Shot?
    }

    override fun onResume() {
        super.onResume()
        if (isStopped) stop() else start()
    }

    override fun onPause() {
        super.onPause()
        release()
    }

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        outState.putBoolean(IS_ASKED, isAsked)
        outState.putBoolean(IS_STOPPED, isStopped)
    }

    /** Keeps the frozen frame when the phone is rotated. */
    override fun onRetainNonConfigurationInstance(): Any? = if (isStopped) shot else null

    private fun start() {
        release()
        isStopped = false
        shot = null
        tracker.reset()
        overlay.show(null, emptyList(), 1, 1)
        copy.isEnabled = false
        toggle.setText(R.string.live_stop)
        toggle.isEnabled = true
        hideMessage()
        if (hasPermission()) {
            status.setText(R.string.live_starting)
            camera = Camera(getSystemService(CameraManager::class.java), this).also { it.choose() }
        } else if (!isAsked) {
            // The activity resumes after the answer.
            askPermission()
        } else if (shouldShowRequestPermissionRationale(Manifest.permission.CAMERA)) {
            showMessage(getString(R.string.live_denied), R.string.live_allow, ::askPermission)
        } else {
            // The system does not ask again.
            showMessage(getString(R.string.live_denied_for_good), R.string.live_open_settings, ::openAppSettings)
        }
    }

    private fun stop() {
        release()
        isStopped = true
        toggle.setText(R.string.live_start)
        status.text = shot?.let { getString(R.string.live_stopped) }
        shot?.let { overlay.show(it.image.toBitmap(), it.lines, it.image.width, it.image.height, it.ids) }
        copy.isEnabled = shot != null
    }

    /** Releases the camera and ends the reading. */
    private fun release() {
        camera?.close()
        camera = null
        preview.forget()
        job?.cancel()
        job = null
    }

    override fun onChosen(choice: CameraChoice) {
        this.choice = choice
        preview.prepare(choice.size, choice.findTurn(findRotation()) % 180 != 0) { surface ->
            camera?.open(choice, surface)
            camera?.requestFrame()
        }
    }

    override fun onFrame(frame: YuvFrame) {
        val choice = choice ?: return
        // Read for each frame: there is no callback when a phone is rotated by 180°.
        val degrees = choice.findTurn(findRotation())
        if (degrees != trackedDegrees) tracker.reset()
        trackedDegrees = degrees
        job = worker.run(
            { ocr, cancellation ->
                frame.toBgr(degrees).let { it to ocr.recognize(it, cancellation, ReturnWords.NONE) }
            },
        ) { result ->
            result.fold({ (image, reading) -> show(image, reading, choice.isFront) }, ::fail)
            camera?.requestFrame()
        }
    }

    private fun show(image: BgrImage, reading: Reading, isMirrored: Boolean) {
        val shot = Shot(image, tracker.update(reading.lines))
        this.shot = shot
        val lines = if (isMirrored) shot.lines.map { it.mirror(image.width) } else shot.lines
        overlay.show(null, lines, image.width, image.height, shot.ids)
        copy.isEnabled = lines.isNotEmpty()
        val count = resources.getQuantityString(R.plurals.lines, lines.size, lines.size)
        status.text = getString(R.string.read, count, reading.timingsMs.values.sum().roundToInt())
    }

    override fun onProblem(problem: CameraProblem) {
        // A permission can be revoked at any time; start reports that.
        if (problem == CameraProblem.DENIED && !hasPermission()) return start()
        fail(
            getString(
                when (problem) {
                    CameraProblem.MISSING -> R.string.live_no_camera
                    CameraProblem.IN_USE -> R.string.live_in_use
                    CameraProblem.DISABLED, CameraProblem.DENIED -> R.string.live_disabled
                    CameraProblem.DISCONNECTED -> R.string.live_disconnected
                    CameraProblem.FAILED -> R.string.live_failed
                },
            ),
        )
    }

    private fun fail(error: Throwable) = fail(describeError(this, error))

    private fun fail(reason: String) {
        release()
        overlay.show(null, emptyList(), 1, 1)
        showMessage(reason, R.string.live_retry, ::start)
    }

    private fun showMessage(text: String, action: Int, onAction: () -> Unit) {
        message.text = text
        mend.setText(action)
        mend.setOnClickListener { onAction() }
        message.visibility = View.VISIBLE
        mend.visibility = View.VISIBLE
        status.text = null
        toggle.isEnabled = false
    }

    private fun hideMessage() {
        message.visibility = View.GONE
        mend.visibility = View.GONE
    }

    private fun hasPermission() =
        checkSelfPermission(Manifest.permission.CAMERA) == PackageManager.PERMISSION_GRANTED

    private fun askPermission() {
        isAsked = true
        requestPermissions(arrayOf(Manifest.permission.CAMERA), 0)
    }

    private fun openAppSettings() {
        startActivity(Intent(Settings.ACTION_APPLICATION_DETAILS_SETTINGS, Uri.fromParts("package", packageName, null)))
    }

    private fun findRotation(): Int {
        // A view that is not attached to a window has no display.
        val displays = getSystemService(DisplayManager::class.java)
        return (preview.display ?: displays.getDisplay(Display.DEFAULT_DISPLAY)).rotation
    }

    private companion object {
        const val IS_ASKED = "is_asked"
        const val IS_STOPPED = "is_stopped"
    }
}

/** Mirrors a line in a picture [width] pixels wide; its corners stay clockwise. */
internal fun TextLine.mirror(width: Int): TextLine {
    val mirrored = FloatArray(8) { i ->
        val from = 2 * (i / 2 xor 1) + i % 2
        if (i % 2 == 0) width - polygon[from] else polygon[from]
    }
    return TextLine(mirrored, detScore, text, recScore)
}
