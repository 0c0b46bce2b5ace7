package io.github.edgeocr.demo

import android.Manifest
import android.content.Intent
import android.graphics.BitmapFactory
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraManager
import android.net.Uri
import android.view.View
import android.widget.ListView
import android.widget.TextView
import com.baidu.paddle.lite.FakeRuntime
import io.github.edgeocr.BundleArchive
import io.github.edgeocr.Cases
import io.github.edgeocr.EdgeOcr
import io.github.edgeocr.EngineKind
import io.github.edgeocr.core.TextLine
import io.github.edgeocr.core.items
import io.github.edgeocr.readBitmap
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.robolectric.annotation.Config
import org.robolectric.shadows.ShadowLog
import java.io.File
import java.io.IOException

/** The app with real networks on ONNX Runtime, mapped from its assets. */
@Config(shadows = [FakeManager::class, FakeDevice::class, FakeSession::class, FakeReader::class])
class NetworksTest : DemoTest() {
    private val case = Cases.bundles.first()
    private val folder = Cases.findFolder(case)
    private val golden = JSONObject(File(folder, "manifest.json").readText()).getJSONObject("golden")
    private val texts = golden.items("lines").map { it.getString("text") }

    private fun ActivityController<*>.find(id: Int): View = get().findViewById(id)

    @Test
    fun `a shared picture is read as on the host`() {
        installBundle(folder)
        val uri = Uri.parse("content://other.app/picture")
        val content = File(folder, golden.getString("image")).readBytes()
        shadowOf(app.contentResolver).registerInputStreamSupplier(uri) { content.inputStream() }
        val intent = Intent(Intent.ACTION_SEND).setType("image/png").putExtra(Intent.EXTRA_STREAM, uri)
        val shown = start<MainActivity>(intent)
        waitUntil("it is read") { shown.find(R.id.progress).visibility != View.VISIBLE }
        val list = (shown.find(R.id.lines) as ListView).adapter
        assertEquals(texts, List(list.count) { (list.getItem(it) as TextLine).text })
        // The networks were mapped: only what must be a file was copied, and nothing ran on Paddle-Lite.
        app.assets.openFd("${EdgeOcr.ASSETS_FOLDER}/onnx/det.onnx").use { assertTrue(it.declaredLength > 0) }
        val copied = File(app.filesDir, EdgeOcr.ASSETS_FOLDER).walk().filter(File::isFile).map { it.extension }.toSet()
        assertEquals(setOf("json", "png", "txt"), copied)
        assertEquals(0, FakeRuntime.loaded.get())
    }

    @Test
    fun `the self-test passes`() {
        installBundle(folder)
        val test = start<SelfTestActivity>(Intent("io.github.edgeocr.demo.SELF_TEST"))
        waitUntil("the result is logged") { ShadowLog.getLogsForTag("EdgeOcr").orEmpty().isNotEmpty() }
        assertEquals("Passed", (test.find(R.id.selftest_verdict) as TextView).text)
        val result = JSONObject(ShadowLog.getLogsForTag("EdgeOcr").single().msg)
        assertTrue(result.getBoolean("passed"))
        assertEquals("onnxruntime", result.getString("engine"))
        val version = result.getString("engine_version")
        assertTrue(version, Regex("""\d+\.\d+\.\d+""").matches(version))
    }

    @Test
    fun `the benchmark measures every stage`() {
        installBundle(folder)
        val report = EdgeOcr.open(app, Preferences(app).toOptions()).use { ocr ->
            assertEquals(EngineKind.ONNXRUNTIME, ocr.engine)
            BenchmarkReport.measure(app, ocr, { false }, {}, { Memory(0.0, 0.0) })
        }
        assertEquals(texts.size, report.lineCount)
        assertTrue(report.stagesMs.values.all { it.p50 > 0 })
        assertEquals("onnxruntime", report.toJson(hashManifest(app)).getString("engine"))
    }

    @Test
    fun `a camera's frame is read`() {
        FakeCamera.reset()
        installBundle(folder)
        shadowOf(app).grantPermissions(Manifest.permission.CAMERA)
        addCamera(app.getSystemService(CameraManager::class.java), "0", CameraCharacteristics.LENS_FACING_BACK, 0)
        val live = start<LiveActivity>()
        live.makeSurface()
        waitUntil("the camera draws") { FakeCamera.readers.size == 1 && FakeCamera.drawnOn == 2 }
        val picture = readBitmap(BitmapFactory.decodeFile(File(folder, golden.getString("image")).path))
        FakeCamera.readers.single().give(FakeFrame(picture))
        waitUntil("the lines are shown") { hear(live.find(R.id.live_overlay)).isNotEmpty() }
        val shown = hear(live.find(R.id.live_overlay))
        // Frames have half the colour resolution, so single lines may differ.
        assertTrue("$shown", texts.count { it in shown } >= texts.size - 1)
    }

    @Test
    fun `installed networks are mapped from their folder`() {
        val models = File(app.filesDir, "models")
        BundleArchive.unpack(app, pack(folder).inputStream(), models)
        val picture = BitmapFactory.decodeFile(File(folder, golden.getString("image")).path)
        EdgeOcr.open(app, models).use { ocr ->
            assertNull(ocr.fallbackReason)
            assertEquals(EngineKind.ONNXRUNTIME, ocr.engine)
            assertEquals(texts, ocr.recognize(picture).lines.map { it.text })
        }
    }

    @Test
    fun `networks that are compressed in the APK are read, too`() {
        installBundle(folder, isStored = false)
        assertThrows(IOException::class.java) { app.assets.openFd("${EdgeOcr.ASSETS_FOLDER}/onnx/det.onnx") }
        val picture = BitmapFactory.decodeFile(File(folder, golden.getString("image")).path)
        EdgeOcr.open(app).use { ocr -> assertEquals(texts, ocr.recognize(picture).lines.map { it.text }) }
    }
}
