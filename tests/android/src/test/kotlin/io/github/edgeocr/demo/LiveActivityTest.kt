package io.github.edgeocr.demo

import android.Manifest
import android.content.ClipboardManager
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.hardware.display.DisplayManager
import android.provider.Settings
import android.util.Size
import android.view.Display
import android.view.MotionEvent
import android.view.Surface
import android.view.View
import android.widget.Button
import android.widget.TextView
import com.baidu.paddle.lite.FakeRuntime
import io.github.edgeocr.core.BgrImage
import io.github.edgeocr.core.items
import io.github.edgeocr.core.rows
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.robolectric.annotation.Config
import java.util.concurrent.CountDownLatch
import java.util.concurrent.atomic.AtomicInteger

@Config(shadows = [FakeManager::class, FakeDevice::class, FakeSession::class, FakeReader::class])
class LiveActivityTest : DemoTest() {
    private val manager get() = app.getSystemService(CameraManager::class.java)
    private val texts get() = bundle.texts.joinToString("\n")

    /** How often the detector ran. */
    private val runs = AtomicInteger()

    @Before
    fun reset() {
        FakeCamera.reset()
        bundle.loadNetworks { if (it == "det") runs.incrementAndGet() }
    }

    private fun allowCamera() = shadowOf(app).grantPermissions(Manifest.permission.CAMERA)

    private fun plugCamera(facing: Int = CameraCharacteristics.LENS_FACING_BACK, degrees: Int = 0) =
        addCamera(manager, "0", facing, degrees)

    private val ActivityController<LiveActivity>.status get() = find<TextView>(R.id.live_status).text.toString()
    private val ActivityController<LiveActivity>.message
        get() = find<TextView>(R.id.live_message).takeIf { it.visibility == View.VISIBLE }?.text?.toString()
    private val ActivityController<LiveActivity>.mend get() = find<Button>(R.id.live_mend)
    private val ActivityController<LiveActivity>.toggle get() = find<Button>(R.id.live_toggle)
    private val ActivityController<LiveActivity>.shown
        get() = hear(find(R.id.live_overlay)).joinToString("\n")

    private fun <T : View> ActivityController<LiveActivity>.find(id: Int): T = get().findViewById(id)

    /** Starts the activity with a camera that delivers frames. */
    private fun startLive(): ActivityController<LiveActivity> {
        allowCamera()
        installBundle()
        return start<LiveActivity>().also(::goLive)
    }

    private fun goLive(live: ActivityController<LiveActivity>) {
        live.makeSurface()
        waitUntil("the camera draws the preview and frames") { FakeCamera.readers.size == 1 && FakeCamera.drawnOn == 2 }
    }

    private fun give(image: BgrImage = bundle.image) =
        FakeFrame(image).also { FakeCamera.readers.single().give(it) }

    /** Waits until the worker has finished everything queued before. */
    private fun waitForWorker() {
        var isNext = false
        app.worker.run({ _, _ -> }) { isNext = true }
        waitUntil("the reading is over") { isNext }
    }

    /** Width and height of the preview in a square of 1000 pixels. */
    private fun measurePreview(live: ActivityController<LiveActivity>): Pair<Int, Int> {
        val preview = live.find<View>(R.id.live_preview)
        val atMost = View.MeasureSpec.makeMeasureSpec(1000, View.MeasureSpec.AT_MOST)
        preview.measure(atMost, atMost)
        return preview.measuredWidth to preview.measuredHeight
    }

    private fun assertProblem(live: ActivityController<LiveActivity>, reason: Int) {
        waitUntil("the problem is told") { live.message != null }
        assertEquals(live.get().getString(reason), live.message)
        assertEquals(live.get().getString(R.string.live_retry), live.mend.text)
        assertFalse(live.toggle.isEnabled)
        waitUntil("the camera is free") { FakeCamera.open.isEmpty() && FakeCamera.readers.isEmpty() }
    }

    @Test
    fun `a frame is read and shown, and then the next`() {
        plugCamera()
        val live = startLive()
        assertNull(live.message)
        repeat(2) { i ->
            give()
            waitUntil("the lines are shown") { live.shown == texts && runs.get() == i + 1 }
        }
        val count = app.resources.getQuantityString(R.plurals.lines, bundle.texts.size, bundle.texts.size)
        assertTrue(live.status, live.status.startsWith(count))
        live.find<View>(R.id.live_copy).performClick()
        val copied = app.getSystemService(ClipboardManager::class.java).primaryClip
        assertEquals(texts, copied?.getItemAt(0)?.text.toString())
    }

    @Test
    fun `lines remain for two frames without text`() {
        plugCamera()
        val live = startLive()
        give()
        waitUntil("the lines are shown") { live.shown == texts }
        // The next frames are dark.
        FakeRuntime.networks["det.nb"] = FakeRuntime.Network { shape, _ ->
            runs.incrementAndGet()
            val area = shape[2] * shape[3]
            FakeRuntime.Output(longArrayOf(1, 1, shape[2], shape[3]), FloatArray(area.toInt()))
        }
        app.worker.close()
        for (shown in listOf(texts, texts, "")) {
            val before = runs.get()
            give()
            waitUntil("it is read") { runs.get() > before }
            waitForWorker()
            assertEquals(shown, live.shown)
        }
        assertFalse(live.find<View>(R.id.live_copy).isEnabled)
    }

    @Test
    fun `frames that arrive while one is read are dropped`() {
        plugCamera()
        val finish = CountDownLatch(1)
        bundle.loadNetworks { if (it == "det") { runs.incrementAndGet(); finish.await() } }
        val live = startLive()
        give()
        waitUntil("the first is read") { runs.get() == 1 }
        val dropped = List(5) { give() }
        waitUntil("the others are dropped") { dropped.all { it.isClosed } }
        finish.countDown()
        waitForWorker()
        assertEquals(texts, live.shown)
        assertEquals(1, runs.get())
        give()
        waitUntil("the next is read") { runs.get() == 2 }
    }

    @Test
    fun `a frame of a rotated sensor is read upright`() {
        plugCamera(degrees = 90)
        val live = startLive()
        // Rotated clockwise by 90°, this is the recorded picture; the networks refuse any other.
        give(bundle.image.turnLeft())
        waitUntil("the lines are shown") { live.shown == texts }
        assertNull(live.message)
        give(bundle.image)
        waitUntil("the networks refuse the other") { live.message != null }
    }

    @Test
    fun `the preview has the ratio of its picture`() {
        plugCamera()
        assertEquals(1000 to 750, measurePreview(startLive()))
    }

    @Test
    fun `a rotated preview does, too`() {
        plugCamera(degrees = 90)
        assertEquals(750 to 1000, measurePreview(startLive()))
    }

    @Test
    fun `a surface of another size is not drawn on`() {
        plugCamera()
        allowCamera()
        val live = start<LiveActivity>()
        live.makeSurface(Size(640, 480))
        waitUntil("a camera is chosen") { measurePreview(live) == 1000 to 750 }
        assertTrue(FakeCamera.open.isEmpty())
        goLive(live)
    }

    @Test
    fun `stop frees the camera and freezes the newest frame`() {
        plugCamera()
        val live = startLive()
        give()
        waitUntil("the lines are shown") { live.shown == texts }
        live.toggle.performClick()
        waitUntil("the camera is free") { FakeCamera.open.isEmpty() && FakeCamera.readers.isEmpty() }
        assertEquals(texts, live.shown)
        assertEquals(live.get().getString(R.string.live_stopped), live.status)
        change(live, "+land")
        assertEquals(texts, live.shown)
        assertTrue(live.find<View>(R.id.live_copy).isEnabled)
        assertTrue(FakeCamera.open.isEmpty())
        live.toggle.performClick()
        goLive(live)
        assertEquals("", live.shown)
    }

    @Test
    fun `it stays stopped if no frame was read`() {
        plugCamera()
        val live = startLive()
        live.toggle.performClick()
        assertEquals("", live.status)
        change(live, "+land")
        live.makeSurface()
        waitUntil("the camera is free") { FakeCamera.open.isEmpty() }
        assertEquals(live.get().getString(R.string.live_start), live.toggle.text)
    }

    @Test
    fun `leaving frees the camera and ends the reading`() {
        plugCamera()
        val finish = CountDownLatch(1)
        bundle.loadNetworks { if (it == "det") { runs.incrementAndGet(); finish.await() } }
        val live = startLive()
        give()
        waitUntil("it is read") { runs.get() == 1 }
        live.pause()
        waitUntil("the camera is free") { FakeCamera.open.isEmpty() && FakeCamera.readers.isEmpty() }
        finish.countDown()
        waitForWorker()
        assertEquals("", live.shown)
        live.resume()
        goLive(live)
        give()
        waitUntil("the lines are shown") { live.shown == texts }
    }

    @Test
    fun `leaving while the camera opens frees it`() {
        plugCamera()
        allowCamera()
        val live = start<LiveActivity>()
        live.makeSurface()
        // The camera answers before and after the activity is paused.
        waitUntil("the camera is being opened") { FakeCamera.open.size == 1 }
        live.pause()
        waitUntil("the camera is free") { FakeCamera.open.isEmpty() && FakeCamera.readers.isEmpty() }
        FakeCamera.tell { onOpened(it) }
        FakeCamera.tell { onError(it, CameraDevice.StateCallback.ERROR_CAMERA_DEVICE) }
        waitUntil("the camera is free") { FakeCamera.open.isEmpty() && FakeCamera.readers.isEmpty() }
        assertNull(live.message)
    }

    @Test
    fun `rotating the phone continues live and upright`() {
        plugCamera(degrees = 90)
        val live = startLive()
        give(bundle.image.turnLeft())
        waitUntil("the lines are shown") { live.shown == texts }
        val display = app.getSystemService(DisplayManager::class.java).getDisplay(Display.DEFAULT_DISPLAY)
        shadowOf(display).setRotation(Surface.ROTATION_90)
        change(live, "+land")
        waitUntil("the old use is over") { FakeCamera.readers.isEmpty() }
        goLive(live)
        // The sensor now has the orientation of the display.
        give()
        waitUntil("the lines are shown") { live.shown == texts }
        assertEquals(1000 to 750, measurePreview(live))
    }

    /** Taps the last line, at its mirrored position or not, and returns what was copied. */
    private fun tapLastLine(live: ActivityController<LiveActivity>, isMirrored: Boolean): String? {
        val (width, height) = bundle.image.width to bundle.image.height
        val overlay = live.find<View>(R.id.live_overlay)
        overlay.layout(0, 0, width, height)
        val corners = bundle.manifest.getJSONObject("golden").items("lines").last().rows("polygon")
        val (x, y) = List(2) { axis -> corners.filterIndexed { i, _ -> i % 2 == axis }.average().toFloat() }
        for (action in listOf(MotionEvent.ACTION_DOWN, MotionEvent.ACTION_UP)) {
            overlay.dispatchTouchEvent(MotionEvent.obtain(0, 0, action, if (isMirrored) width - x else x, y, 0))
        }
        return app.getSystemService(ClipboardManager::class.java).primaryClip?.getItemAt(0)?.text?.toString()
    }

    @Test
    fun `lines are where the preview shows them`() {
        plugCamera()
        val live = startLive()
        give()
        waitUntil("the lines are shown") { live.shown == texts }
        assertEquals(bundle.texts.last(), tapLastLine(live, isMirrored = false))
    }

    @Test
    fun `a front camera is read unmirrored and shown mirrored`() {
        plugCamera(CameraCharacteristics.LENS_FACING_FRONT)
        val live = startLive()
        give()
        waitUntil("the lines are shown") { live.shown == texts }
        assertEquals(bundle.texts.last(), tapLastLine(live, isMirrored = true))
    }

    @Test
    fun `the permission is requested once and then explained`() {
        plugCamera()
        val live = start<LiveActivity>()
        val asked = shadowOf(live.get()).lastRequestedPermission
        assertEquals(listOf(Manifest.permission.CAMERA), asked.requestedPermissions.toList())
        assertNull(live.message)
        shadowOf(app.packageManager).setShouldShowRequestPermissionRationale(Manifest.permission.CAMERA, true)
        live.pause().resume()
        assertEquals(live.get().getString(R.string.live_denied), live.message)
        assertEquals(live.get().getString(R.string.live_allow), live.mend.text)
        change(live, "+land")
        assertEquals(live.get().getString(R.string.live_denied), live.message)
        assertNull(shadowOf(live.get()).lastRequestedPermission)
        live.mend.performClick()
        allowCamera()
        live.pause().resume()
        assertNull(live.message)
        goLive(live)
    }

    @Test
    fun `a camera that is denied for good can be allowed in the settings`() {
        plugCamera()
        val live = start<LiveActivity>()
        live.pause().resume()
        assertEquals(live.get().getString(R.string.live_denied_for_good), live.message)
        live.mend.performClick()
        val shadow = shadowOf(live.get())
        val opened = shadow.nextStartedActivityForResult?.intent ?: shadow.nextStartedActivity
        assertEquals(Settings.ACTION_APPLICATION_DETAILS_SETTINGS, opened.action)
        assertEquals("package:${app.packageName}", opened.dataString)
        allowCamera()
        live.pause().resume()
        goLive(live)
    }

    @Test
    fun `a device without a camera is reported, and it may be plugged in`() {
        allowCamera()
        val live = start<LiveActivity>()
        assertProblem(live, R.string.live_no_camera)
        plugCamera()
        live.mend.performClick()
        goLive(live)
        assertNull(live.message)
        assertTrue(live.toggle.isEnabled)
    }

    @Test
    fun `a camera that does not open is reported`() {
        plugCamera()
        allowCamera()
        val live = start<LiveActivity>()
        live.makeSurface()
        for ((refusal, reason) in mapOf(
            CameraAccessException(CameraAccessException.CAMERA_IN_USE) to R.string.live_in_use,
            CameraAccessException(CameraAccessException.MAX_CAMERAS_IN_USE) to R.string.live_in_use,
            CameraAccessException(CameraAccessException.CAMERA_DISABLED) to R.string.live_disabled,
            CameraAccessException(CameraAccessException.CAMERA_DISCONNECTED) to R.string.live_disconnected,
            CameraAccessException(CameraAccessException.CAMERA_ERROR) to R.string.live_failed,
            SecurityException("no") to R.string.live_disabled,
            IllegalArgumentException("gone") to R.string.live_failed,
            NullPointerException("of the maker's own") to R.string.live_failed,
        )) {
            FakeCamera.refusal = refusal
            live.pause().resume()
            assertProblem(live, reason)
        }
        FakeCamera.refusal = null
        live.mend.performClick()
        goLive(live)
    }

    @Test
    fun `a camera that fails while it opens is reported`() {
        plugCamera()
        allowCamera()
        val live = start<LiveActivity>()
        live.makeSurface()
        for ((error, reason) in mapOf(
            CameraDevice.StateCallback.ERROR_CAMERA_IN_USE to R.string.live_in_use,
            CameraDevice.StateCallback.ERROR_MAX_CAMERAS_IN_USE to R.string.live_in_use,
            CameraDevice.StateCallback.ERROR_CAMERA_DISABLED to R.string.live_disabled,
            CameraDevice.StateCallback.ERROR_CAMERA_DEVICE to R.string.live_failed,
            CameraDevice.StateCallback.ERROR_CAMERA_SERVICE to R.string.live_failed,
        )) {
            FakeCamera.error = error
            live.pause().resume()
            assertProblem(live, reason)
        }
    }

    @Test
    fun `a camera with another frame format is reported`() {
        plugCamera()
        val live = startLive()
        FakeCamera.frameError = UnsupportedOperationException("another format than was asked for")
        give()
        assertProblem(live, R.string.live_failed)
    }

    @Test
    fun `a camera that is taken away is reported`() {
        plugCamera()
        val live = startLive()
        give()
        waitUntil("the lines are shown") { live.shown == texts }
        FakeCamera.tell { onDisconnected(it) }
        assertProblem(live, R.string.live_disconnected)
        assertEquals("", live.shown)
        live.mend.performClick()
        goLive(live)
    }

    @Test
    fun `an app without a bundle reports that and frees the camera`() {
        plugCamera()
        allowCamera()
        val live = start<LiveActivity>()
        goLive(live)
        give()
        waitUntil("the reason is told") { live.message != null }
        assertTrue("${live.message}", "manifest.json" in live.message!!)
        waitUntil("the camera is free") { FakeCamera.open.isEmpty() && FakeCamera.readers.isEmpty() }
    }

    @Test
    fun `another Paddle-Lite is reported`() {
        plugCamera()
        FakeRuntime.version = "v2.10"
        val live = startLive()
        give()
        waitUntil("the reason is told") { live.message != null }
        assertTrue("${live.message}", "v2.10" in live.message!!)
    }

    @Test
    @Config(qualifiers = "zh-rCN-night")
    fun `it starts in Chinese and in the dark`() {
        allowCamera()
        val live = start<LiveActivity>()
        waitUntil("the problem is told") { live.message != null }
        assertEquals("本设备没有可用的相机，请改为选择图片。", live.message)
    }
}
