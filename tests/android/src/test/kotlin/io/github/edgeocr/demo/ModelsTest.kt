package io.github.edgeocr.demo

import android.app.Activity
import android.content.Intent
import android.net.Uri
import android.view.View
import android.widget.Spinner
import android.widget.TextView
import io.github.edgeocr.EngineKind
import io.github.edgeocr.addAssets
import io.github.edgeocr.core.BundleException
import io.github.edgeocr.core.Settings
import io.github.edgeocr.hash
import io.github.edgeocr.makeKeys
import io.github.edgeocr.writePem
import io.github.edgeocr.writeSigned
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.Robolectric
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import java.io.ByteArrayOutputStream
import java.io.File
import java.io.FilterInputStream
import java.io.InputStream
import java.util.concurrent.CountDownLatch
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream

/** Models that the user installs. */
class ModelsTest : DemoTest() {
    private val uri = Uri.parse("content://other.app/models.zip")
    private val picture = Uri.parse("content://other.app/picture")
    private val ours = makeKeys()
    private val folder get() = File(app.filesDir, "models")

    private fun ActivityController<*>.find(id: Int): View = get().findViewById(id)

    private val ActivityController<*>.state get() = (find(R.id.models_state) as TextView).text.toString()

    /** A zip of the bundle as release 8; its box threshold is not that of the app's bundle. */
    private fun pack(): ByteArray {
        bundle.manifest.getJSONObject("settings").getJSONObject("detection").put("box_threshold", NEW_THRESHOLD)
        return pack(bundle.writeSigned(temporary.newFolder(), ours, counter = 8))
    }

    private fun ActivityController<SettingsActivity>.install(open: () -> InputStream = pack()::inputStream) {
        shadowOf(app.contentResolver).registerInputStreamSupplier(uri, open)
        find(R.id.models_install).performClick()
        val asked = shadowOf(get()).nextStartedActivityForResult.intent
        assertEquals(Intent.ACTION_OPEN_DOCUMENT to "application/zip", asked.action to asked.type)
        shadowOf(get()).receiveResult(asked, Activity.RESULT_OK, Intent().setData(uri))
    }

    private fun waitForState(controller: ActivityController<*>, text: String) =
        waitUntil("the state is $text, not ${controller.state}") { controller.state == text }

    private val own get() = app.getString(R.string.models_own)
    private val installed get() = app.getString(R.string.models_release, "demo", 8)

    private fun readSettings(): Settings {
        var settings: Settings? = null
        app.worker.run({ ocr, _ -> ocr.settings }) { settings = it.getOrThrow() }
        waitUntil("the bundle is open") { settings != null }
        return settings!!
    }

    private fun readPicture(): String {
        shadowOf(app.contentResolver).registerInputStreamSupplier(picture) { bundle.encodePicture().inputStream() }
        val send = Intent(Intent.ACTION_SEND).setType("image/png").putExtra(Intent.EXTRA_STREAM, picture)
        val main = start<MainActivity>(send)
        waitUntil("the lines are shown") { main.find(R.id.progress).visibility != View.VISIBLE }
        return (main.find(R.id.status) as TextView).text.toString()
    }

    @Test
    fun `installed models are used until they are removed`() {
        installBundle()
        val before = readSettings()
        assertNotEquals(NEW_THRESHOLD, before.detection.boxThreshold, 0.0)
        val controller = start<SettingsActivity>()
        waitForState(controller, own)
        assertFalse(controller.find(R.id.models_remove).isEnabled)
        controller.install()
        waitForState(controller, installed)
        assertEquals(NEW_THRESHOLD, readSettings().detection.boxThreshold, 0.0)
        val hint = (controller.find(R.id.box_threshold) as TextView).hint.toString()
        assertEquals(app.getString(R.string.own_value, "$NEW_THRESHOLD"), hint)
        // Self-test and benchmark identify them by this.
        assertEquals(File(folder, "manifest.json").inputStream().use(::hash), hashManifest(app))
        assertFalse(readPicture(), "cannot" in readPicture())
        assertTrue(controller.find(R.id.models_remove).performClick())
        waitForState(controller, own)
        assertEquals(before, readSettings())
        assertFalse(folder.exists())
        assertFalse(controller.find(R.id.models_remove).isEnabled)
    }

    @Test
    fun `damaged models are passed over, which is said once`() {
        installBundle()
        val ownHash = hashManifest(app)
        val controller = start<SettingsActivity>()
        controller.install()
        waitForState(controller, installed)
        File(folder, "models/rec.nb").appendText("more")
        val reason = app.getString(R.string.models_fallback, "")
        val status = readPicture()
        assertTrue(status, status.startsWith(reason) && "rec.nb has " in status.lines().first())
        assertEquals(2, status.lines().size)
        assertFalse(readPicture(), reason in readPicture())
        assertEquals(ownHash, hashManifest(app))
        val again = start<SettingsActivity>()
        waitUntil("the reason is shown") { again.state.startsWith(reason) }
        // Installed again, they are used again.
        again.install()
        waitForState(again, installed)
        assertEquals(NEW_THRESHOLD, readSettings().detection.boxThreshold, 0.0)
    }

    @Test
    fun `models that the app does not trust are not installed`() {
        val written = bundle.write(temporary.newFolder())
        addAssets(temporary.newFile(), written, "edge-ocr-trust/k.pem" to writePem(makeKeys()))
        val controller = start<SettingsActivity>()
        controller.install()
        waitUntil("the reason is shown") { controller.state.startsWith(app.getString(R.string.error_untrusted)) }
        assertTrue(controller.state, "manifest.sig does not match" in controller.state)
        assertFalse(folder.exists())
        assertTrue(controller.find(R.id.models_install).isEnabled)
    }

    @Test
    fun `a file without a bundle is refused, and the earlier models stay`() {
        installBundle()
        val controller = start<SettingsActivity>()
        controller.install()
        waitForState(controller, installed)
        controller.install { "<html>".byteInputStream() }
        waitUntil("the reason is shown") { "not a whole zip" in controller.state }
        assertEquals(NEW_THRESHOLD, readSettings().detection.boxThreshold, 0.0)
        controller.install { throw SecurityException("denied") }
        waitUntil("the reason is shown") { app.getString(R.string.error_access) in controller.state }
        assertEquals(listOf("models"), app.filesDir.list()!!.toList())
    }

    /** A stream that says that it was begun, and waits before its end. */
    private class SlowStream(content: ByteArray, val begun: CountDownLatch, val go: CountDownLatch) :
        FilterInputStream(content.inputStream()) {
        override fun read(buffer: ByteArray, start: Int, length: Int): Int {
            begun.countDown()
            go.await()
            return super.read(buffer, start, length)
        }
    }

    @Test
    fun `the phone may be turned while models are installed`() {
        installBundle()
        val (begun, go) = CountDownLatch(1) to CountDownLatch(1)
        val controller = start<SettingsActivity>()
        val packed = pack()
        controller.install { SlowStream(packed, begun, go) }
        begun.await()
        change(controller, "+land")
        assertEquals(app.getString(R.string.models_installing, 0), controller.state)
        for (id in listOf(R.id.models_install, R.id.models_remove)) assertFalse(controller.find(id).isEnabled)
        go.countDown()
        waitForState(controller, installed)
        change(controller, "+port")
        waitForState(controller, installed)
    }

    @Test
    fun `leaving the screen cancels`() {
        installBundle()
        val (begun, go) = CountDownLatch(1) to CountDownLatch(1)
        val controller = start<SettingsActivity>()
        val packed = pack()
        controller.install { SlowStream(packed, begun, go) }
        begun.await()
        controller.get().finish()
        controller.pause().stop().destroy()
        go.countDown()
        waitUntil("it has ended") { !app.worker.isBusy }
        assertFalse(folder.exists())
    }

    @Test
    fun `progress is told in MB`() {
        val packed = ByteArrayOutputStream()
        ZipOutputStream(packed).use { zip ->
            zip.setLevel(0)
            zip.putNextEntry(ZipEntry("large"))
            zip.write(ByteArray(3_500_000))
        }
        shadowOf(app.contentResolver).registerInputStreamSupplier(uri) { packed.toByteArray().inputStream() }
        val told = ArrayList<Int>()
        val outcome = runCatching { app.models.install(uri, { false }, told::add) }
        assertTrue("${outcome.exceptionOrNull()}", outcome.exceptionOrNull() is BundleException)
        assertEquals(listOf(1, 2, 3), told)
    }

    @Test
    fun `a device without a picker says so`() {
        shadowOf(app).checkActivities(true)
        val controller = start<SettingsActivity>()
        controller.find(R.id.models_install).performClick()
        assertEquals(app.getString(R.string.models_no_picker), controller.state)
    }

    // --- The engine ---

    private val ActivityController<SettingsActivity>.engine get() = find(R.id.engine) as Spinner

    @Test
    fun `one of the app's engines can be chosen`() {
        installBundle()
        val controller = start<SettingsActivity>()
        assertEquals(View.VISIBLE, controller.find(R.id.engine_row).visibility)
        assertNull(Preferences(app).engine)
        readSettings()
        for (kind in EngineKind.entries.reversed()) {
            controller.engine.setSelection(1 + kind.ordinal)
            waitUntil("$kind is kept") { Preferences(app).engine == kind }
        }
        // The bundle is opened again, and has no networks for it.
        assertTrue(readPicture(), "no networks for ONNX Runtime" in readPicture())
        controller.find(R.id.reset).performClick()
        waitUntil("no engine is kept") { Preferences(app).engine == null }
        readSettings()
    }

    @Test
    fun `the only engine is not offered`() {
        val controller = keep(Robolectric.buildActivity(SettingsActivity::class.java))
        controller.get().engines = listOf(EngineKind.PADDLE_LITE)
        controller.setup()
        assertEquals(View.GONE, controller.find(R.id.engine_row).visibility)
        controller.find(R.id.reset).performClick()
        assertNull(Preferences(app).engine)
    }

    private companion object {
        const val NEW_THRESHOLD = 0.375
    }
}
