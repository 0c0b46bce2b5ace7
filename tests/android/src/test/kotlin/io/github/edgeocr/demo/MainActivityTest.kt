package io.github.edgeocr.demo

import android.Manifest
import android.app.Activity
import android.content.ClipData
import android.content.ClipboardManager
import android.content.Intent
import android.content.pm.PackageManager.ResolveInfoFlags
import android.graphics.Bitmap
import android.graphics.Insets
import android.graphics.Rect
import android.net.Uri
import android.os.Bundle
import android.os.Looper
import android.os.Parcelable
import android.provider.MediaStore
import android.view.Menu
import android.view.View
import android.view.WindowInsets
import android.widget.ListView
import android.widget.TextView
import android.widget.Toolbar
import com.baidu.paddle.lite.FakeRuntime
import io.github.edgeocr.core.TextLine
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertNotSame
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.Robolectric
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.robolectric.annotation.Config
import java.io.ByteArrayOutputStream
import java.io.File
import java.util.concurrent.CountDownLatch
import java.util.concurrent.atomic.AtomicInteger

class MainActivityTest : DemoTest() {
    private val uri = Uri.parse("content://other.app/picture")
    private val runs = AtomicInteger()
    private val pictures get() = File(app.cacheDir, "pictures").listFiles().orEmpty().toList()

    private fun offer(content: ByteArray = bundle.encodePicture()) =
        shadowOf(app.contentResolver).registerInputStreamSupplier(uri) { content.inputStream() }

    private fun share(stream: Parcelable? = uri) = start<MainActivity>(
        Intent(Intent.ACTION_SEND).setType("image/png").putExtra(Intent.EXTRA_STREAM, stream),
    )

    /** Counts the runs of the detector; if [go] is set, each run waits for it. */
    private fun watchRuns(go: CountDownLatch? = null): CountDownLatch {
        val begun = CountDownLatch(1)
        bundle.loadNetworks {
            if (it == "det") {
                runs.incrementAndGet()
                begun.countDown()
                go?.await()
            }
        }
        return begun
    }

    private fun ActivityController<MainActivity>.find(id: Int): View = get().findViewById(id)

    private fun ActivityController<MainActivity>.isShown(id: Int) = find(id).visibility == View.VISIBLE

    private val ActivityController<MainActivity>.status get() = (find(R.id.status) as TextView).text.toString()

    private val ActivityController<MainActivity>.list get() = find(R.id.lines) as ListView

    private fun ActivityController<MainActivity>.listTexts() =
        List(list.adapter.count) { (list.adapter.getItem(it) as TextLine).text }

    private fun waitForLines(controller: ActivityController<MainActivity>) {
        waitUntil("the lines are shown") { !controller.isShown(R.id.progress) }
        assertLinesShown(controller)
    }

    private fun assertLinesShown(controller: ActivityController<MainActivity>) {
        assertEquals(controller.status, bundle.texts, controller.listTexts())
        assertEquals(bundle.texts, hear(controller.find(R.id.overlay)))
        val lines = app.resources.getQuantityString(R.plurals.lines, bundle.texts.size, bundle.texts.size)
        assertTrue(controller.status, lines in controller.status)
        // Screen readers announce it.
        assertEquals(View.ACCESSIBILITY_LIVE_REGION_POLITE, controller.find(R.id.status).accessibilityLiveRegion)
        assertFalse(controller.isShown(R.id.retry))
    }

    private fun assertFails(controller: ActivityController<MainActivity>, vararg reasons: String) {
        waitUntil("a reason is shown") { !controller.isShown(R.id.progress) }
        for (reason in reasons) assertTrue(controller.status, reason in controller.status)
        assertEquals(emptyList<String>(), controller.listTexts())
    }

    private fun openMenu(controller: ActivityController<MainActivity>): Menu {
        shadowOf(Looper.getMainLooper()).idle()
        return (controller.find(R.id.toolbar) as Toolbar).menu
    }

    private fun choose(controller: ActivityController<MainActivity>, item: Int) =
        assertTrue(shadowOf(controller.get()).clickMenuItem(item))

    private fun readClipboard() =
        app.getSystemService(ClipboardManager::class.java).primaryClip?.getItemAt(0)?.text?.toString()

    private fun kill(controller: ActivityController<MainActivity>): Bundle {
        val state = Bundle()
        controller.pause().stop().saveInstanceState(state).destroy()
        return state
    }

    private fun revive(state: Bundle, intent: Intent? = null) =
        keep(Robolectric.buildActivity(MainActivity::class.java, intent)).setup(state)

    @Test
    fun `it starts with what can be done`() {
        val controller = start<MainActivity>()
        assertEquals(app.getString(R.string.welcome), controller.status)
        for (id in listOf(R.id.progress, R.id.cancel, R.id.retry)) assertFalse(controller.isShown(id))
        val menu = openMenu(controller)
        for (id in listOf(R.id.copy_all, R.id.share_text, R.id.share_json)) assertFalse(menu.findItem(id).isEnabled)
        assertTrue(menu.findItem(R.id.settings).isEnabled)
    }

    @Test
    @Config(qualifiers = "zh-rCN-night")
    fun `it starts in the dark and in Chinese`() {
        installBundle()
        offer()
        val controller = share()
        waitForLines(controller)
        assertTrue(controller.status, "用时" in controller.status)
        assertEquals("选择图片", (controller.find(R.id.pick) as TextView).text.toString())
    }

    @Test
    fun `a shared picture is read and shown`() {
        installBundle()
        offer()
        val controller = share()
        assertEquals(app.getString(R.string.reading), controller.status)
        assertTrue(controller.isShown(R.id.cancel))
        waitForLines(controller)
        val row = controller.list.adapter.getView(0, null, controller.list)
        assertEquals(bundle.texts[0], row.findViewById<TextView>(android.R.id.text1).text.toString())
        val score = row.findViewById<TextView>(android.R.id.text2).text.toString()
        assertTrue(score, score.endsWith(" %"))
    }

    @Test
    fun `a line that is tapped is copied`() {
        installBundle()
        offer()
        val controller = share()
        waitForLines(controller)
        shadowOf(controller.list).populateItems()
        shadowOf(controller.list).performItemClick(1)
        assertEquals(bundle.texts[1], readClipboard())
        val overlay = controller.find(R.id.overlay) as OverlayView
        overlay.onTextChosen("word")
        assertEquals("word", readClipboard())
        val line = controller.list.adapter.getItem(0) as TextLine
        assertEquals(line.text.replace(" ", ""), line.words!!.joinToString("") { it.text })
    }

    @Test
    fun `all lines are copied and shared`() {
        installBundle()
        offer()
        val controller = share()
        waitForLines(controller)
        assertTrue(openMenu(controller).findItem(R.id.share_json).isEnabled)
        choose(controller, R.id.copy_all)
        assertEquals(bundle.texts.joinToString("\n"), readClipboard())
        choose(controller, R.id.share_text)
        assertEquals(bundle.texts.joinToString("\n"), readShared())
        choose(controller, R.id.share_json)
        val json = JSONObject(readShared()!!)
        assertEquals(bundle.texts[0], json.getJSONArray("rec_text").getString(0))
        assertEquals(bundle.image.width, json.getInt("image_width"))
        assertEquals(bundle.texts.size, json.getJSONArray("dt_polys").length())
    }

    @Test
    fun `a long screenshot is scrolled, the next picture begins at its top`() {
        val long = Bitmap.createBitmap(54, 600, Bitmap.Config.ARGB_8888)
        offer(ByteArrayOutputStream().also { long.compress(Bitmap.CompressFormat.PNG, 9, it) }.toByteArray())
        val controller = share()
        val (scroll, overlay) = controller.find(R.id.picture) to controller.find(R.id.overlay)
        waitUntil("it is shown") { scroll.canScrollVertically(1) }
        assertEquals(1200, overlay.height)
        scroll.scrollBy(0, 500)
        assertEquals(500, scroll.scrollY)
        offer()
        controller.find(R.id.pick).performClick()
        val asked = shadowOf(controller.get()).nextStartedActivityForResult.intent
        shadowOf(controller.get()).receiveResult(asked, Activity.RESULT_OK, Intent().setData(uri))
        waitUntil("the next is shown") { overlay.height == scroll.height }
        assertEquals(0, scroll.scrollY)
    }

    private fun readShared(): String? {
        val chooser = shadowOf(app).nextStartedActivity
        return chooser.getParcelableExtra(Intent.EXTRA_INTENT, Intent::class.java)?.getStringExtra(Intent.EXTRA_TEXT)
    }

    @Test
    fun `the phone may be turned while it reads and after`() {
        installBundle()
        offer()
        val go = CountDownLatch(1)
        val begun = watchRuns(go)
        val controller = share()
        waitUntil("the reading has begun") { begun.count == 0L }
        val first = controller.get()
        change(controller, "+land")
        assertNotSame(first, controller.get())
        assertTrue(controller.isShown(R.id.progress))
        go.countDown()
        waitForLines(controller)
        for (qualifiers in listOf("+port", "+night", "+zh-rCN")) {
            change(controller, qualifiers)
            assertLinesShown(controller)
        }
        assertEquals(1, runs.get())
    }

    @Test
    fun `a reading can be cancelled and begun again`() {
        installBundle()
        offer()
        val go = CountDownLatch(1)
        val begun = watchRuns(go)
        val controller = share()
        waitUntil("the reading has begun") { begun.count == 0L }
        controller.find(R.id.cancel).performClick()
        assertEquals(app.getString(R.string.cancelled), controller.status)
        assertFalse(controller.isShown(R.id.progress))
        go.countDown()
        waitUntil("the worker is free") { !app.worker.isBusy }
        assertEquals(app.getString(R.string.cancelled), controller.status)
        controller.find(R.id.retry).performClick()
        waitForLines(controller)
        assertEquals(2, runs.get())
    }

    @Test
    fun `a slow picture can be cancelled and requested again`() {
        installBundle()
        val go = CountDownLatch(1)
        shadowOf(app.contentResolver).registerInputStreamSupplier(uri) {
            go.await()
            bundle.encodePicture().inputStream()
        }
        val controller = share()
        controller.find(R.id.cancel).performClick()
        assertEquals(app.getString(R.string.cancelled), controller.status)
        go.countDown()
        waitUntil("the worker is free") { !app.worker.isBusy }
        assertEquals(emptyList<File>(), pictures)
        controller.find(R.id.retry).performClick()
        waitForLines(controller)
    }

    @Test
    fun `leaving ends the reading and deletes the copy`() {
        installBundle()
        offer()
        val (go, others) = CountDownLatch(1) to AtomicInteger()
        val begun = CountDownLatch(1)
        bundle.loadNetworks { if (it == "det") begun.countDown().also { go.await() } else others.incrementAndGet() }
        val controller = share()
        waitUntil("the reading has begun") { begun.count == 0L }
        assertEquals(1, pictures.size)
        controller.get().finish()
        controller.pause().stop().destroy()
        go.countDown()
        waitUntil("the worker is free") { !app.worker.isBusy }
        assertEquals(0, others.get())
        assertEquals(emptyList<File>(), pictures)
    }

    @Test
    fun `when the process was killed the picture is read again from the copy`() {
        installBundle()
        offer()
        watchRuns()
        val before = share()
        waitForLines(before)
        choose(before, R.id.show_texts)
        val state = kill(before)
        shadowOf(app.contentResolver).registerInputStreamSupplier(uri) { throw SecurityException("revoked") }
        // The system passes the first intent again; it must be ignored.
        val after = revive(state, before.intent)
        waitForLines(after)
        assertEquals(2, runs.get())
        assertFalse((after.find(R.id.overlay) as OverlayView).showsTexts)
        assertFalse(openMenu(after).findItem(R.id.show_texts).isChecked)
    }

    @Test
    fun `when the process was killed before the copy was made it is made again`() {
        installBundle()
        offer()
        val before = share()
        val state = kill(before)
        waitForLines(revive(state, before.intent))
    }

    @Test
    fun `a missing copy is reported`() {
        installBundle()
        offer()
        val before = share()
        waitForLines(before)
        val state = kill(before)
        pictures.forEach(File::delete)
        assertFails(revive(state), app.getString(R.string.error_gone))
    }

    @Test
    fun `a picture that is picked is read in place of the one before`() {
        installBundle()
        offer()
        val controller = share()
        waitForLines(controller)
        val before = pictures
        controller.find(R.id.pick).performClick()
        val asked = shadowOf(controller.get()).nextStartedActivityForResult.intent
        assertEquals(Intent.ACTION_GET_CONTENT to "image/*", asked.action to asked.type)
        // The user cancelled.
        shadowOf(controller.get()).receiveResult(asked, Activity.RESULT_CANCELED, null)
        assertLinesShown(controller)
        controller.find(R.id.pick).performClick()
        shadowOf(controller.get()).receiveResult(asked, Activity.RESULT_OK, Intent().setData(uri))
        assertEquals(emptyList<String>(), controller.listTexts())
        waitForLines(controller)
        assertEquals(1, pictures.size)
        assertTrue(pictures != before)
    }

    @Test
    fun `a picker that returns a list works`() {
        installBundle()
        offer()
        val controller = start<MainActivity>()
        controller.find(R.id.pick).performClick()
        val asked = shadowOf(controller.get()).nextStartedActivityForResult.intent
        val answer = Intent().apply { clipData = ClipData.newRawUri(null, uri) }
        shadowOf(controller.get()).receiveResult(asked, Activity.RESULT_OK, answer)
        waitForLines(controller)
    }

    private fun askForPhoto(controller: ActivityController<MainActivity>): Intent {
        shadowOf(app).grantPermissions(Manifest.permission.CAMERA)
        controller.find(R.id.take).performClick()
        return shadowOf(controller.get()).nextStartedActivityForResult.intent
    }

    private fun takePhoto(asked: Intent) {
        val target = asked.getParcelableExtra(MediaStore.EXTRA_OUTPUT, Uri::class.java)!!
        assertEquals(target, asked.clipData?.getItemAt(0)?.uri)
        app.contentResolver.openOutputStream(target)!!.use { it.write(bundle.encodePicture()) }
    }

    @Test
    fun `a photo that is taken is read`() {
        installBundle()
        val controller = start<MainActivity>()
        val asked = askForPhoto(controller)
        assertEquals(MediaStore.ACTION_IMAGE_CAPTURE, asked.action)
        assertTrue(asked.flags and Intent.FLAG_GRANT_WRITE_URI_PERMISSION != 0)
        takePhoto(asked)
        shadowOf(controller.get()).receiveResult(asked, Activity.RESULT_OK, null)
        waitForLines(controller)
    }

    @Test
    fun `a photo is read even if the process was killed meanwhile`() {
        installBundle()
        val before = start<MainActivity>()
        shadowOf(app).grantPermissions(Manifest.permission.CAMERA)
        before.find(R.id.take).performClick()
        val asked = shadowOf(before.get()).nextStartedActivityForResult
        val state = kill(before)
        takePhoto(asked.intent)
        val after = revive(state)
        assertEquals(app.getString(R.string.welcome), after.status)
        // Robolectric returns a result to the activity that asked; the system returns it to its successor.
        after.get().startActivityForResult(asked.intent, asked.requestCode)
        shadowOf(after.get()).receiveResult(asked.intent, Activity.RESULT_OK, null)
        waitForLines(after)
    }

    @Test
    fun `a camera that returns nothing is reported`() {
        val controller = start<MainActivity>()
        val asked = askForPhoto(controller)
        shadowOf(controller.get()).receiveResult(asked, Activity.RESULT_OK, null)
        assertFails(controller, app.getString(R.string.error_gone))
    }

    @Test
    fun `without the permission no photo is requested, and the result stays`() {
        installBundle()
        offer()
        val controller = share()
        waitForLines(controller)
        controller.find(R.id.take).performClick()
        val question = shadowOf(controller.get()).nextStartedActivityForResult.intent
        assertNotEquals(MediaStore.ACTION_IMAGE_CAPTURE, question.action)
        val permissions = arrayOf(Manifest.permission.CAMERA)
        val asked = shadowOf(controller.get()).lastRequestedPermission.requestedPermissions
        assertEquals(permissions.toList(), asked.toList())
        controller.get().onRequestPermissionsResult(2, permissions, intArrayOf())
        assertLinesShown(controller)
        controller.get().onRequestPermissionsResult(2, permissions, intArrayOf(-1))
        assertEquals(app.getString(R.string.error_camera_denied), controller.status)
        assertEquals(bundle.texts, controller.listTexts())
        shadowOf(app).grantPermissions(Manifest.permission.CAMERA)
        controller.get().onRequestPermissionsResult(2, permissions, intArrayOf(0))
        assertEquals(
            MediaStore.ACTION_IMAGE_CAPTURE,
            shadowOf(controller.get()).nextStartedActivityForResult.intent.action,
        )
    }

    @Test
    fun `no app to pick or take with is reported`() {
        shadowOf(app).checkActivities(true)
        shadowOf(app).grantPermissions(Manifest.permission.CAMERA)
        val controller = start<MainActivity>()
        controller.find(R.id.pick).performClick()
        assertFails(controller, app.getString(R.string.error_no_picker))
        controller.find(R.id.take).performClick()
        assertFails(controller, app.getString(R.string.error_no_camera_app))
    }

    @Test
    fun `shared content that is not a picture is reported`() {
        installBundle()
        offer("a text".toByteArray())
        val controller = share()
        assertFails(controller, app.getString(R.string.error_no_picture))
        assertTrue(controller.isShown(R.id.retry))
        for (stream in listOf(null, Rect(), Uri.parse("file:///etc/hosts"))) {
            assertFails(share(stream), app.getString(R.string.error_no_content))
        }
    }

    @Test
    fun `shared extras that cannot be unpacked are reported`() {
        // Up to Android 12, an object of a class that only the other app has causes this exception.
        val intent = object : Intent(ACTION_SEND) {
            override fun <T> getParcelableExtra(name: String?, type: Class<T>): T? =
                throw RuntimeException("ClassNotFoundException")
        }
        assertFails(start<MainActivity>(intent), app.getString(R.string.error_no_content))
    }

    @Test
    fun `a picture without access is reported and can be retried`() {
        installBundle()
        shadowOf(app.contentResolver).registerInputStreamSupplier(uri) { throw SecurityException("revoked") }
        val controller = share()
        assertFails(controller, app.getString(R.string.error_access))
        change(controller, "+land")
        assertFails(controller, app.getString(R.string.error_access))
        offer()
        controller.find(R.id.retry).performClick()
        waitForLines(controller)
    }

    @Test
    fun `an app without a bundle reports that and shows the picture`() {
        offer()
        val controller = share()
        assertFails(controller, app.getString(R.string.error_bundle), "manifest.json", EXPORT)
    }

    @Test
    fun `a damaged bundle is reported`() {
        bundle.files["models/det.nb"] = bundle.files.getValue("models/det.nb").clone().also { it[0] = 0 }
        installBundle()
        offer()
        assertFails(share(), app.getString(R.string.error_bundle), "is damaged")
    }

    @Test
    fun `a library that is missing or of another version is reported`() {
        installBundle()
        offer()
        FakeRuntime.linkError = "dlopen failed: libpaddle_lite_jni.so not found"
        val controller = share()
        assertFails(controller, app.getString(R.string.error_library), "dlopen failed", EXPORT)
        FakeRuntime.linkError = null
        FakeRuntime.version = "v2.10"
        controller.find(R.id.retry).performClick()
        assertFails(controller, app.getString(R.string.error_version), "v2.10", VERSION, "edge-ocr libs fetch")
        FakeRuntime.version = VERSION
        controller.find(R.id.retry).performClick()
        waitForLines(controller)
    }

    @Test
    fun `too little memory is reported`() {
        installBundle()
        offer()
        var isFull = true
        bundle.loadNetworks { if (isFull) throw OutOfMemoryError() }
        val controller = share()
        assertFails(controller, app.getString(R.string.error_picture), "memory", "downsample")
        isFull = false
        controller.find(R.id.retry).performClick()
        waitForLines(controller)
    }

    @Test
    fun `a picture without text is reported`() {
        installBundle()
        offer()
        Preferences(app)[NumberSetting.TEXT_SCORE] = 1.0
        val controller = share()
        waitUntil("it was read") { !controller.isShown(R.id.progress) }
        assertEquals(app.getString(R.string.no_text), controller.status)
        assertFalse(openMenu(controller).findItem(R.id.copy_all).isEnabled)
    }

    @Test
    fun `the menu leads to all screens`() {
        val controller = start<MainActivity>()
        val screens = mapOf(
            R.id.live to LiveActivity::class,
            R.id.benchmark to BenchmarkActivity::class,
            R.id.self_test to SelfTestActivity::class,
            R.id.settings to SettingsActivity::class,
        )
        for ((item, screen) in screens) {
            choose(controller, item)
            assertEquals(screen.java.name, shadowOf(app).nextStartedActivity.component?.className)
        }
    }

    @Test
    fun `pictures can be shared to it, texts cannot`() {
        val takers = listOf("image/png", "text/plain").map { type ->
            app.packageManager.resolveActivity(Intent(Intent.ACTION_SEND).setType(type), ResolveInfoFlags.of(0))
        }
        assertEquals(listOf(MainActivity::class.java.name, null), takers.map { it?.activityInfo?.name })
    }

    @Test
    fun `nothing is under the system bars`() {
        val content = start<MainActivity>().find(android.R.id.content)
        for (keyboard in listOf(300, 0)) {
            val insets = WindowInsets.Builder()
                .setInsets(WindowInsets.Type.statusBars(), Insets.of(0, 24, 0, 0))
                .setInsets(WindowInsets.Type.navigationBars(), Insets.of(0, 0, 48, 0))
                .setInsets(WindowInsets.Type.ime(), Insets.of(0, 0, 0, keyboard))
                .build()
            content.dispatchApplyWindowInsets(insets)
            val paddings = content.run { listOf(paddingLeft, paddingTop, paddingRight, paddingBottom) }
            assertEquals(listOf(0, 24, 48, keyboard), paddings)
        }
    }

    private companion object {
        const val EXPORT = "edge-ocr export --target android"
    }
}
