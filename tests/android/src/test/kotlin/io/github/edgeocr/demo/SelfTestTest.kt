package io.github.edgeocr.demo

import android.content.Intent
import android.os.Build
import android.system.OsConstants
import android.util.Log
import android.view.View
import android.view.ViewGroup
import android.widget.TextView
import com.baidu.paddle.lite.FakeRuntime
import io.github.edgeocr.EngineKind
import io.github.edgeocr.OcrOptions
import io.github.edgeocr.PowerMode
import io.github.edgeocr.core.BundleException
import io.github.edgeocr.core.Golden
import io.github.edgeocr.core.GoldenComparison
import io.github.edgeocr.core.Reading
import io.github.edgeocr.core.TextLine
import io.github.edgeocr.core.items
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.robolectric.annotation.Config
import org.robolectric.shadows.ShadowLog
import org.robolectric.shadows.ShadowOs
import java.security.MessageDigest
import java.util.Locale
import java.util.concurrent.CountDownLatch
import java.util.concurrent.atomic.AtomicInteger

class SelfTestTest : DemoTest() {
    private val logged get() = ShadowLog.getLogsForTag("EdgeOcr").orEmpty()
    private val results get() = logged.map { JSONObject(it.msg) }

    private val ActivityController<SelfTestActivity>.verdict get() = read(R.id.selftest_verdict)
    private val ActivityController<SelfTestActivity>.details get() = read(R.id.selftest_details)
    private val ActivityController<SelfTestActivity>.lines
        get() = get().findViewById<ViewGroup>(R.id.selftest_lines).let { group ->
            List(group.childCount) { i ->
                group.getChildAt(i).let {
                    it.findViewById<TextView>(R.id.selftest_text).text.toString() to
                        it.findViewById<TextView>(R.id.selftest_difference).text.toString()
                }
            }
        }

    private fun ActivityController<SelfTestActivity>.read(id: Int) = get().findViewById<TextView>(id).text.toString()

    private fun makeIntent(token: String?) = Intent("io.github.edgeocr.demo.SELF_TEST").putExtra("token", token)

    private fun startDone(token: String? = null): ActivityController<SelfTestActivity> {
        val before = logged.size
        return start<SelfTestActivity>(makeIntent(token)).also {
            waitUntil("the result is logged") { logged.size > before }
        }
    }

    @Test
    fun `a device that reads as the host passes, and logs one line`() {
        installBundle()
        ShadowOs.setSysconfValue(OsConstants._SC_PAGESIZE, 16384)
        val test = startDone("abc-1")
        assertEquals("Passed", test.verdict)
        assertEquals(bundle.texts.map { "✓ $it" to "" }, test.lines)
        assertTrue(test.details, "Lines as expected: ${bundle.texts.size} of ${bundle.texts.size}" in test.details)
        val line = logged.single()
        assertEquals(Log.INFO, line.type)
        assertFalse('\n' in line.msg)
        val result = results.single()
        val keys = setOf(
            *arrayOf("edge_ocr", "token", "passed", "error", "engine", "engine_version", "manifest_sha256", "device"),
            *arrayOf("threads", "power_mode", "load_ms", "timings_ms", "problems", "lines"),
        )
        assertEquals(keys, result.keys().asSequence().toSet())
        assertEquals("selftest", result.getString("edge_ocr"))
        assertEquals("abc-1", result.getString("token"))
        assertTrue(result.getBoolean("passed"))
        assertTrue(result.isNull("error"))
        assertEquals("paddle_lite" to VERSION, result.getString("engine") to result.getString("engine_version"))
        val manifest = app.assets.open("edge-ocr/manifest.json").use { it.readBytes() }
        val sha256 = MessageDigest.getInstance("SHA-256").digest(manifest).joinToString("") { "%02x".format(it) }
        assertEquals(sha256, result.getString("manifest_sha256"))
        val device = result.getJSONObject("device")
        val facts = setOf("manufacturer", "model", "sdk", "abi", "page_size_bytes")
        assertEquals(facts, device.keys().asSequence().toSet())
        assertEquals(34 to 16384, device.getInt("sdk") to device.getInt("page_size_bytes"))
        assertTrue(device.getString("abi") in Build.SUPPORTED_ABIS)
        assertEquals("NO_BIND", result.getString("power_mode"))
        assertTrue(result.getDouble("load_ms") > 0)
        val stages = listOf("bitmap", "detection", "crop", "orientation", "recognition")
        assertEquals(stages, result.getJSONObject("timings_ms").keys().asSequence().toList())
        assertEquals(0, result.getJSONArray("problems").length())
        assertEquals(bundle.texts, result.items("lines").map { it.getString("text") })
        val golden = bundle.manifest.getJSONObject("golden").items("lines")
        result.items("lines").zip(golden) { found, wanted ->
            assertEquals(wanted.getDouble("rec_score"), found.getDouble("rec_score"), 0.001)
            assertEquals(4, found.getJSONArray("polygon").length())
            val (corner, wantedCorner) = listOf(found, wanted).map { it.getJSONArray("polygon").getJSONArray(2) }
            for (i in 0..1) assertEquals(wantedCorner.getDouble(i), corner.getDouble(i), 3.0)
        }
    }

    @Test
    fun `a device that reads something else fails, and shows what`() {
        val golden = bundle.manifest.getJSONObject("golden")
        val lines = golden.items("lines")
        lines[0].put("text", "something else")
        lines[1].put("rec_score", 0.1)
        golden.getJSONArray("lines").put(JSONObject(lines[0].toString()).put("text", "more"))
        installBundle()
        val test = startDone()
        assertEquals(test.get().getString(R.string.selftest_failed), test.verdict)
        assertEquals("✗ something else" to "Read as: ${bundle.texts[0]}", test.lines[0])
        assertTrue("${test.lines[1]}", test.lines[1].second.startsWith("Corners are "))
        assertEquals("✗ more" to "Not read.", test.lines.last())
        assertEquals("✓ ${bundle.texts[2]}" to "", test.lines[2])
        val result = results.single()
        assertFalse(result.getBoolean("passed"))
        assertTrue(result.isNull("error"))
        val problems = List(3) { result.getJSONArray("problems").getString(it) }
        assertTrue("$problems", problems[0].endsWith("reads '${bundle.texts[0]}', expected 'something else'"))
        assertTrue("$problems", "scores 0." in problems[1])
        assertTrue("$problems", problems[2].endsWith("reads nothing, expected 'more'"))
    }

    @Test
    fun `an extra line is shown`() {
        bundle.manifest.getJSONObject("golden").getJSONArray("lines").apply { remove(length() - 1) }
        installBundle()
        val test = startDone()
        assertEquals("✗ ${bundle.texts.last()}" to "Read, but not expected.", test.lines.last())
        assertFalse(results.single().getBoolean("passed"))
    }

    private fun assertNotRun(reason: String) {
        val test = startDone("t")
        assertEquals("Could not run", test.verdict)
        assertTrue(test.details, reason in test.details)
        val result = results.single()
        assertFalse(result.getBoolean("passed"))
        assertTrue(result.getString("error"), reason in result.getString("error"))
        assertFalse('\n' in result.getString("error"))
        assertEquals("t", result.getString("token"))
        val unknown = listOf("engine", "engine_version", "load_ms", "timings_ms", "lines")
        for (key in unknown) assertTrue(key, result.isNull(key))
        assertEquals(0, result.getJSONArray("problems").length())
        assertTrue(result.getInt("threads") > 0)
    }

    @Test
    fun `an app without a bundle cannot run it`() {
        assertNotRun("manifest.json")
        assertTrue(results.single().isNull("manifest_sha256"))
    }

    @Test
    fun `a damaged bundle cannot run it`() {
        bundle.files["models/det.nb"] = "x".toByteArray()
        installBundle()
        assertNotRun("det.nb has 1 bytes")
        assertEquals(64, results.single().getString("manifest_sha256").length)
    }

    @Test
    fun `another Paddle-Lite cannot run it`() {
        installBundle()
        FakeRuntime.version = "v2.10"
        assertNotRun("v2.10")
    }

    @Test
    fun `a missing library cannot run it`() {
        installBundle()
        FakeRuntime.linkError = "dlopen failed"
        assertNotRun("dlopen failed")
    }

    @Test
    fun `a device without enough memory cannot run it`() {
        installBundle()
        bundle.loadNetworks { throw OutOfMemoryError("no memory left") }
        assertNotRun("memory")
    }

    @Test
    fun `the user's settings are ignored`() {
        installBundle()
        Preferences(app)[NumberSetting.TEXT_SCORE] = 1.0
        Preferences(app).threads = 1
        Preferences(app).powerMode = PowerMode.LOW
        startDone()
        val result = results.single()
        assertTrue("${result.getJSONArray("problems")}", result.getBoolean("passed"))
        assertEquals(1 to "LOW", result.getInt("threads") to result.getString("power_mode"))
        // Opened with the user's settings and with the bundle's; the self-test frees what it opened.
        assertEquals(6, FakeRuntime.asked.size)
        assertTrue(FakeRuntime.asked.all { it.threads == 1 })
        assertEquals(3, FakeRuntime.loaded.get())
    }

    @Test
    fun `only plain tokens are logged`() {
        fun read(token: String?) = readToken(makeIntent(token))
        for (token in listOf("a", "A-9", "x".repeat(64))) assertEquals(token, read(token))
        val others = listOf(null, "", "x".repeat(65), "a b", "a\n", "é", "字", "a\"", "a_b")
        for (token in others) assertNull(token, read(token))
        assertNull(readToken(Intent()))
        assertNull(readToken(Intent().putExtra("token", 5)))
    }

    @Test
    fun `extras that cannot be unpacked are not a token`() {
        // Up to Android 12, an object of a class that only the other app has causes this exception.
        val intent = object : Intent() {
            override fun getStringExtra(name: String?) = throw RuntimeException("ClassNotFoundException")
        }
        assertNull(readToken(intent))
    }

    @Test
    fun `a second start logs another line`() {
        installBundle()
        val (begun, finish) = CountDownLatch(1) to CountDownLatch(1)
        bundle.loadNetworks { begun.countDown(); finish.await() }
        val test = start<SelfTestActivity>(makeIntent("first"))
        begun.await()
        test.newIntent(makeIntent("second"))
        test.newIntent(makeIntent("third;"))
        finish.countDown()
        waitUntil("all are logged") { logged.size == 3 }
        assertEquals(listOf("first", "second", JSONObject.NULL), results.map { it.get("token") })
        assertTrue(results.all { it.getBoolean("passed") })
        assertEquals("Passed", test.verdict)
    }

    @Test
    fun `turning the phone runs and logs it once`() {
        installBundle()
        val runs = AtomicInteger()
        val (begun, finish) = CountDownLatch(1) to CountDownLatch(1)
        bundle.loadNetworks { if (it == "det") runs.incrementAndGet(); begun.countDown(); finish.await() }
        val test = start<SelfTestActivity>(makeIntent("t"))
        begun.await()
        change(test, "+land")
        assertEquals(test.get().getString(R.string.selftest_running), test.verdict)
        finish.countDown()
        waitUntil("it passes") { test.verdict == "Passed" }
        change(test, "+port")
        assertEquals("Passed", test.verdict)
        assertEquals("t", results.single().getString("token"))
        assertEquals(1, runs.get())
    }

    @Test
    fun `leaving ends it, and logs that it did not pass`() {
        installBundle()
        val (begun, finish) = CountDownLatch(1) to CountDownLatch(1)
        bundle.loadNetworks { begun.countDown(); finish.await() }
        val test = start<SelfTestActivity>(makeIntent("t"))
        begun.await()
        test.get().finish()
        test.pause().stop().destroy()
        val result = results.single()
        assertFalse(result.getBoolean("passed"))
        assertTrue(result.getString("error"), "closed before" in result.getString("error"))
        finish.countDown()
        // The worker reports in order.
        var isNext = false
        app.worker.run({ _, _ -> }) { isNext = true }
        waitUntil("the reading is over") { isNext }
        assertEquals(1, logged.size)
    }

    @Test
    fun `a hidden screen continues`() {
        installBundle()
        val (begun, finish) = CountDownLatch(1) to CountDownLatch(1)
        bundle.loadNetworks { begun.countDown(); finish.await() }
        val test = start<SelfTestActivity>(makeIntent("t"))
        begun.await()
        test.pause().stop()
        finish.countDown()
        waitUntil("it is logged") { logged.size == 1 }
        assertTrue(results.single().getBoolean("passed"))
    }

    @Test
    fun `it runs again and is shared`() {
        installBundle()
        val test = startDone("t")
        test.get().findViewById<View>(R.id.selftest_again).performClick()
        waitUntil("it is logged again") { logged.size == 2 }
        assertTrue(results.last().isNull("token"))
        test.get().findViewById<View>(R.id.selftest_share).performClick()
        val chooser = shadowOf(test.get()).nextStartedActivity
        val sent = chooser.getParcelableExtra(Intent.EXTRA_INTENT, Intent::class.java)!!
        assertEquals(logged.last().msg, sent.getStringExtra(Intent.EXTRA_TEXT))
    }

    private fun makeReport(count: Int, text: String, wanted: String = text, score: Double = 0.9): SelfTestReport {
        fun makeLines(text: String) = List(count) { TextLine(FloatArray(8) { 1000.123f }, 0.9, text, score) }
        val reading = Reading(makeLines(text), mapOf("detection" to 1.234))
        val comparison = GoldenComparison.compare(reading, Golden("golden.png", makeLines(wanted)))
        return SelfTestReport(comparison, reading, 5.0, EngineKind.PADDLE_LITE, VERSION)
    }

    private fun format(outcome: Result<SelfTestReport>): String =
        formatSelfTest("x".repeat(64), outcome, OcrOptions(), "0".repeat(64)).also {
            assertTrue("${it.encodeToByteArray().size}", it.encodeToByteArray().size <= 3900)
        }

    @Test
    fun `lines that do not fit into the log are left out and counted`() {
        val few = JSONObject(format(Result.success(makeReport(3, "文字"))))
        assertEquals(3, few.getJSONArray("lines").length())
        assertFalse(few.has("lines_omitted"))
        // All lengths, so that some are just too long.
        for (length in 1..40) {
            val many = JSONObject(format(Result.success(makeReport(60, "x".repeat(length)))))
            assertEquals(60, many.getJSONArray("lines").length() + many.getInt("lines_omitted"))
            assertTrue(many.getJSONArray("lines").length() > 10)
        }
        assertTrue(JSONObject(format(Result.success(makeReport(300, "文字")))).getInt("lines_omitted") > 250)
        val one = JSONObject(format(Result.success(makeReport(1, "字\"".repeat(2000)))))
        assertEquals(0 to 1, one.getJSONArray("lines").length() to one.getInt("lines_omitted"))
    }

    @Test
    fun `problems and errors that do not fit are cut`() {
        val report = makeReport(9, "\"/".repeat(600), "𠮷".repeat(300))
        val problems = JSONObject(format(Result.success(report))).getJSONArray("problems")
        assertEquals("and 5 more", problems.getString(4))
        assertTrue(problems.getString(0).startsWith("golden.png: line 1 of 9 reads"))
        assertTrue(problems.getString(0).endsWith("…"))
        val error = BundleException("𠮷\"".repeat(2000), "hint")
        val text = JSONObject(format(Result.failure(error))).getString("error")
        assertTrue(text.endsWith("…") && text.dropLast(1).last().let { !it.isHighSurrogate() })
        val short = JSONObject(format(Result.failure(BundleException("reason", "hint"))))
        assertEquals("reason; hint", short.getString("error"))
    }

    @Test
    fun `numbers are in the log's digits, whatever the user's are`() {
        val own = Locale.getDefault()
        Locale.setDefault(Locale.forLanguageTag("ar-EG-u-nu-arab"))
        try {
            assertEquals("٠٫٥", "%.1f".format(0.5))
            val line = TextLine(FloatArray(8), 0.9, "text", 0.9)
            val golden = Golden("golden.png", listOf(TextLine(FloatArray(8) { 4.5f }, 0.9, "text", 0.5)))
            val reading = Reading(listOf(line), mapOf("detection" to 1.234))
            val comparison = GoldenComparison.compare(reading, golden)
            val report = SelfTestReport(comparison, reading, 5.5, EngineKind.PADDLE_LITE, VERSION)
            val text = format(Result.success(report))
            assertTrue(text, text.all { it.code < 128 })
            assertTrue(text, "corners are 6.4 px off" in text)
            installBundle()
            assertTrue("${hashManifest(app)}", Regex("[0-9a-f]{64}").matches(hashManifest(app)!!))
        } finally {
            Locale.setDefault(own)
        }
    }

    @Test
    fun `NaN is null in the log`() {
        val line = JSONObject(format(Result.success(makeReport(1, "text", score = Double.NaN))))
        assertFalse(line.getBoolean("passed"))
        assertTrue(line.items("lines").single().isNull("rec_score"))
    }

    @Test
    @Config(qualifiers = "zh-rCN-night")
    fun `it starts in Chinese and in the dark`() {
        installBundle()
        val test = startDone()
        assertEquals("通过", test.verdict)
        assertTrue(results.single().getBoolean("passed"))
    }

    @Test
    fun `scripts may start it, and a second start comes to the same screen`() {
        val found = app.packageManager.resolveActivity(makeIntent(null).setPackage(app.packageName), 0)!!.activityInfo
        assertEquals(SelfTestActivity::class.java.name, found.name)
        assertTrue(found.exported)
        assertEquals(android.content.pm.ActivityInfo.LAUNCH_SINGLE_TASK, found.launchMode)
    }
}
