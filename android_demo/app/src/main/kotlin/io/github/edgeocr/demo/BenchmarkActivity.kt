package io.github.edgeocr.demo

import android.app.Activity
import android.os.Build
import android.os.Bundle
import android.view.View
import android.widget.Button
import android.widget.ProgressBar
import android.widget.TableLayout
import android.widget.TextView

/** Measures how long each stage of reading takes on this device. */
internal class BenchmarkActivity : Activity() {
    private lateinit var start: Button
    private lateinit var cancel: Button
    private lateinit var share: Button
    private lateinit var progress: ProgressBar
    private lateinit var table: TableLayout
    private lateinit var summary: TextView

    private var task: Task<BenchmarkReport>? = null

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        showScreen(R.layout.benchmark_activity)
        start = findViewById(R.id.benchmark_start)
        cancel = findViewById(R.id.benchmark_cancel)
        share = findViewById(R.id.benchmark_share)
        progress = findViewById(R.id.benchmark_progress)
        table = findViewById(R.id.benchmark_table)
        summary = findViewById(R.id.benchmark_summary)
        findViewById<TextView>(R.id.benchmark_about).text =
            getString(R.string.benchmark_about, BenchmarkReport.WARM_UP, BenchmarkReport.RUNS)
        progress.max = BenchmarkReport.WARM_UP + BenchmarkReport.RUNS
        start.setOnClickListener { run() }
        cancel.setOnClickListener {
            task?.cancel()
            follow(null)
        }
        share.setOnClickListener {
            val report = task?.outcome?.getOrNull() ?: return@setOnClickListener
            shareText(this, report.toJson(hashManifest(this)).toString(2))
        }
        @Suppress("UNCHECKED_CAST") // This class stored it.
        follow(lastNonConfigurationInstance as Task<BenchmarkReport>?)
    }

    override fun onRetainNonConfigurationInstance(): Any? = task

    override fun onDestroy() {
        super.onDestroy()
        task?.onChange = {}
        if (!isChangingConfigurations) task?.cancel()
    }

    private fun run() {
        val context = applicationContext
        follow(
            Task(worker) { ocr, cancellation, tell -> BenchmarkReport.measure(context, ocr, cancellation, tell) },
        )
    }

    private fun follow(task: Task<BenchmarkReport>?) {
        this.task = task
        task?.onChange = ::show
        show()
    }

    private fun show() {
        val isRunning = task != null && task?.outcome == null
        val report = task?.outcome?.getOrNull()
        start.visibility = if (isRunning) View.GONE else View.VISIBLE
        cancel.visibility = if (isRunning) View.VISIBLE else View.GONE
        progress.visibility = if (isRunning) View.VISIBLE else View.GONE
        progress.progress = task?.steps ?: 0
        share.visibility = if (report != null) View.VISIBLE else View.GONE
        table.visibility = share.visibility
        val error = task?.outcome?.exceptionOrNull()
        summary.text = when {
            report != null -> describe(report)
            error != null -> describeError(this, error)
            else -> null
        }
        if (report != null) fill(report)
    }

    private fun fill(report: BenchmarkReport) {
        // The first row is the header.
        table.removeViews(1, table.childCount - 1)
        for ((stage, one) in report.stagesMs) {
            val row = layoutInflater.inflate(R.layout.benchmark_row, table, false)
            val name = STAGE_NAMES[stage]?.let(::getString) ?: stage
            row.findViewById<TextView>(R.id.benchmark_stage).text = name
            row.findViewById<TextView>(R.id.benchmark_p50).text = getString(R.string.benchmark_ms, one.p50)
            row.findViewById<TextView>(R.id.benchmark_p95).text = getString(R.string.benchmark_ms, one.p95)
            table.addView(row)
        }
    }

    private fun describe(report: BenchmarkReport): String {
        val last = report.memory.last()
        val (before, after) = report.thermalStatus
        val unknown = getString(R.string.benchmark_unknown)
        return listOf(
            getString(R.string.benchmark_load, report.loadMs),
            getString(R.string.benchmark_lines, report.lineCount),
            getString(R.string.benchmark_memory, last.pssMb, last.nativeHeapMb),
            getString(R.string.benchmark_heat, before ?: unknown, after ?: unknown),
            getString(R.string.benchmark_options, report.options.threads, report.options.powerMode.name),
            getString(R.string.benchmark_side, report.detection.limitSideLen),
            getString(R.string.benchmark_device, Build.MANUFACTURER, Build.MODEL, Build.VERSION.SDK_INT),
        ).joinToString("\n")
    }

    private companion object {
        val STAGE_NAMES = mapOf(
            "bitmap" to R.string.benchmark_stage_bitmap,
            "detection" to R.string.benchmark_stage_detection,
            "crop" to R.string.benchmark_stage_crop,
            "orientation" to R.string.benchmark_stage_orientation,
            "recognition" to R.string.benchmark_stage_recognition,
            "total" to R.string.benchmark_stage_total,
        )
    }
}
