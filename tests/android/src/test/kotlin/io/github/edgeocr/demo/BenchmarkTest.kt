package io.github.edgeocr.demo

import android.content.Intent
import android.os.PowerManager
import android.view.View
import android.widget.ProgressBar
import android.widget.TableLayout
import android.widget.TextView
import com.baidu.paddle.lite.FakeRuntime
import io.github.edgeocr.EdgeOcr
import io.github.edgeocr.PictureException
import io.github.edgeocr.PowerMode
import io.github.edgeocr.core.BundleException
import io.github.edgeocr.core.Cancellation
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.robolectric.annotation.Config
import org.robolectric.util.ReflectionHelpers
import java.util.concurrent.CancellationException
import java.util.concurrent.CountDownLatch
import java.util.concurrent.atomic.AtomicInteger

class BenchmarkTest : DemoTest() {
    /** How often the detector ran. */
    private val runs = AtomicInteger()

    @Before
    fun countRuns() = bundle.loadNetworks { if (it == "det") runs.incrementAndGet() }

    private fun measure(
        cancellation: Cancellation = Cancellation { false },
        tell: (Int) -> Unit = {},
        readMemory: () -> Memory = Memory::read,
    ) = EdgeOcr.open(app).use { BenchmarkReport.measure(app, it, cancellation, tell, readMemory) }

    private fun <T : View> ActivityController<BenchmarkActivity>.find(id: Int): T = get().findViewById(id)

    private fun ActivityController<BenchmarkActivity>.isShown(id: Int) = find<View>(id).visibility == View.VISIBLE

    private val ActivityController<BenchmarkActivity>.summary
        get() = find<TextView>(R.id.benchmark_summary).text.toString()

    private val ActivityController<BenchmarkActivity>.stages
        get() = find<TableLayout>(R.id.benchmark_table).let { table ->
            List(table.childCount - 1) { i ->
                val row = table.getChildAt(i + 1)
                listOf(R.id.benchmark_stage, R.id.benchmark_p50, R.id.benchmark_p95).map {
                    row.findViewById<TextView>(it).text.toString()
                }
            }
        }

    @Test
    fun `percentiles are numpy's`() {
        fun check(p50: Double, p95: Double, vararg values: Double) {
            val found = Percentiles.find(values.toList())
            assertEquals(p50, found.p50, 1e-9)
            assertEquals(p95, found.p95, 1e-9)
        }
        // numpy.percentile(values, [50, 95])
        check(7.0, 7.0, 7.0)
        check(1.5, 1.95, 2.0, 1.0)
        check(3.0, 4.8, 5.0, 1.0, 4.0, 2.0, 3.0)
        check(10.5, 19.05, *DoubleArray(20) { 20.0 - it })
    }

    @Test
    fun `every stage is measured, and memory in between`() {
        installBundle()
        val told = ArrayList<Int>()
        var asked = 0
        val report = measure(tell = told::add) { Memory(10.0 * ++asked, runs.get().toDouble()) }
        assertEquals((1..23).toList(), told)
        assertEquals(23, runs.get())
        val stages = listOf("bitmap", "detection", "crop", "orientation", "recognition", "total")
        assertEquals(stages, report.stagesMs.keys.toList())
        assertTrue(report.stagesMs.values.all { it.p50 > 0 && it.p95 >= it.p50 })
        val parts = report.stagesMs.filterKeys { it != "total" }.values
        assertTrue(report.stagesMs.getValue("total").p95 >= parts.maxOf { it.p50 })
        // After the warm-up, half-way, at the end.
        assertEquals(listOf(3.0, 13.0, 23.0), report.memory.map { it.nativeHeapMb })
        assertEquals(bundle.texts.size, report.lineCount)
    }

    @Test
    fun `the report has everything that its figures depend on`() {
        installBundle()
        Preferences(app).threads = 1
        Preferences(app).powerMode = PowerMode.LOW
        shadowOf(app.getSystemService(PowerManager::class.java))
            .setCurrentThermalStatus(PowerManager.THERMAL_STATUS_SEVERE)
        val report = measure { Memory(12.34, 5.0) }.toJson(hashManifest(app))
        val keys = setOf(
            *arrayOf("edge_ocr", "engine", "engine_version", "manifest_sha256", "device", "threads", "power_mode"),
            *arrayOf("limit_side_len", "limit_type", "picture", "image_width", "image_height", "lines", "runs"),
            *arrayOf("windows", "warmup", "load_ms", "stages_ms", "pss_mb", "native_heap_mb", "thermal_status"),
        )
        assertEquals(keys, report.keys().asSequence().toSet())
        assertEquals("benchmark", report.getString("edge_ocr"))
        assertEquals("paddle_lite" to VERSION, report.getString("engine") to report.getString("engine_version"))
        assertEquals(64, report.getString("manifest_sha256").length)
        assertEquals(1 to "LOW", report.getInt("threads") to report.getString("power_mode"))
        val detection = bundle.manifest.getJSONObject("settings").getJSONObject("detection")
        assertEquals(detection.getInt("limit_side_len"), report.getInt("limit_side_len"))
        assertEquals(detection.getBoolean("windows"), report.getBoolean("windows"))
        assertEquals(detection.getString("limit_type"), report.getString("limit_type"))
        assertEquals(bundle.image.width, report.getInt("image_width"))
        assertEquals(bundle.image.height, report.getInt("image_height"))
        assertEquals(12.3, report.getJSONObject("pss_mb").getDouble("last"), 0.0)
        assertTrue(report.getJSONObject("stages_ms").getJSONObject("total").getDouble("p95") > 0)
        assertEquals("severe", report.getJSONObject("thermal_status").getString("after"))
    }

    @Test
    fun `unknown figures are null`() {
        ReflectionHelpers.setStaticField(android.os.Build.VERSION::class.java, "SDK_INT", 28)
        assertNull(readThermalStatus(app))
        assertNull(hashManifest(app))
    }

    @Test
    fun `it can be cancelled at each reading`() {
        installBundle()
        for (after in listOf(1, 10)) {
            var done = 0
            assertThrows(CancellationException::class.java) { measure({ done == after }, { done = it }) }
            assertEquals(after, done)
        }
    }

    @Test
    fun `a golden picture that is missing or cannot be decoded is reported`() {
        bundle.putFile("golden.png", "no picture".toByteArray())
        installBundle()
        val undecoded = assertThrows(PictureException::class.java) { measure() }
        assertTrue("${undecoded.message}", "golden.png cannot be decoded" in undecoded.message!!)
    }

    @Test
    fun `a bundle without a golden picture is reported`() {
        bundle.manifest.remove("golden")
        installBundle()
        assertThrows(BundleException::class.java) { measure() }
    }

    @Test
    fun `the figures are shown and shared`() {
        installBundle()
        val benchmark = start<BenchmarkActivity>()
        assertTrue(benchmark.isShown(R.id.benchmark_start))
        assertFalse(benchmark.isShown(R.id.benchmark_share))
        assertFalse(benchmark.isShown(R.id.benchmark_table))
        benchmark.find<View>(R.id.benchmark_start).performClick()
        assertTrue(benchmark.isShown(R.id.benchmark_progress))
        waitUntil("the figures are shown") { benchmark.isShown(R.id.benchmark_table) }
        val names = listOf("Bitmap", "Detection", "Crops", "Orientation", "Recognition", "Total")
        assertEquals(names, benchmark.stages.map { it[0] })
        assertTrue("${benchmark.stages}", benchmark.stages.all { row -> row.drop(1).all { it.endsWith(" ms") } })
        assertTrue(benchmark.summary, "Lines read: ${bundle.texts.size}" in benchmark.summary)
        benchmark.find<View>(R.id.benchmark_share).performClick()
        val chooser = shadowOf(benchmark.get()).nextStartedActivity
        val sent = chooser.getParcelableExtra(Intent.EXTRA_INTENT, Intent::class.java)!!
        assertEquals("benchmark", JSONObject(sent.getStringExtra(Intent.EXTRA_TEXT)!!).getString("edge_ocr"))
    }

    @Test
    fun `it continues while the phone is rotated`() {
        installBundle()
        val finish = CountDownLatch(1)
        bundle.loadNetworks { if (it == "det" && runs.incrementAndGet() == 5) finish.await() }
        val benchmark = start<BenchmarkActivity>()
        benchmark.find<View>(R.id.benchmark_start).performClick()
        waitUntil("four readings are done") { benchmark.find<ProgressBar>(R.id.benchmark_progress).progress == 4 }
        change(benchmark, "+land")
        assertTrue(benchmark.isShown(R.id.benchmark_progress))
        assertEquals(4, benchmark.find<ProgressBar>(R.id.benchmark_progress).progress)
        finish.countDown()
        waitUntil("the figures are shown") { benchmark.isShown(R.id.benchmark_table) }
        assertEquals(23, runs.get())
        change(benchmark, "+port")
        assertEquals(6, benchmark.stages.size)
        assertEquals(23, runs.get())
    }

    @Test
    fun `cancelling and leaving end it`() {
        installBundle()
        val begun = AtomicInteger()
        bundle.loadNetworks { if (it == "det" && runs.incrementAndGet() % 2 == 0) begun.incrementAndGet() }
        for (end in listOf<(ActivityController<BenchmarkActivity>) -> Unit>(
            { it.find<View>(R.id.benchmark_cancel).performClick() },
            { it.get().finish(); it.pause().stop().destroy() },
        )) {
            val benchmark = start<BenchmarkActivity>()
            val before = runs.get()
            benchmark.find<View>(R.id.benchmark_start).performClick()
            waitUntil("it reads") { runs.get() > before }
            end(benchmark)
            waitUntil("the worker is free") { !app.worker.isBusy }
            assertTrue("${runs.get() - before}", runs.get() - before < 23)
            assertTrue(benchmark.isShown(R.id.benchmark_start) || benchmark.get().isDestroyed)
        }
    }

    @Test
    fun `a library that cannot be loaded is reported`() {
        installBundle()
        FakeRuntime.linkError = "dlopen failed"
        val benchmark = start<BenchmarkActivity>()
        benchmark.find<View>(R.id.benchmark_start).performClick()
        waitUntil("the reason is told") { "dlopen failed" in benchmark.summary }
        assertTrue(benchmark.isShown(R.id.benchmark_start))
        assertFalse(benchmark.isShown(R.id.benchmark_share))
    }

    @Test
    @Config(qualifiers = "zh-rCN-night")
    fun `it starts in Chinese and in the dark`() {
        val benchmark = start<BenchmarkActivity>()
        assertTrue("预热 3 次" in benchmark.find<TextView>(R.id.benchmark_about).text)
    }
}
