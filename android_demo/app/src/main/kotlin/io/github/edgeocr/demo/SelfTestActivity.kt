package io.github.edgeocr.demo

import android.app.Activity
import android.content.Context
import android.content.Intent
import android.os.Bundle
import android.util.Log
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.TextView
import io.github.edgeocr.core.GoldenComparison
import io.github.edgeocr.core.GoldenLine
import java.util.concurrent.CancellationException

/** Reads the bundle's golden picture, shows what differs, and writes the result to the log, for scripts. */
internal class SelfTestActivity : Activity() {
    private lateinit var verdict: TextView
    private lateinit var details: TextView
    private lateinit var lines: ViewGroup
    private lateinit var again: Button
    private lateinit var share: Button

    /** All that were requested; the last one is shown. */
    private var runs = emptyList<SelfTestRun>()

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        showScreen(R.layout.selftest_activity)
        verdict = findViewById(R.id.selftest_verdict)
        details = findViewById(R.id.selftest_details)
        lines = findViewById(R.id.selftest_lines)
        again = findViewById(R.id.selftest_again)
        share = findViewById(R.id.selftest_share)
        again.setOnClickListener { start(null) }
        share.setOnClickListener { runs.last().line?.let { shareText(this, it) } }
        @Suppress("UNCHECKED_CAST") // This class stored it.
        runs = lastNonConfigurationInstance as List<SelfTestRun>? ?: emptyList()
        if (runs.isEmpty()) {
            // If the process was killed, the script has its answer or is gone.
            start(if (savedInstanceState == null) readToken(intent) else null)
        } else {
            follow()
        }
    }

    override fun onNewIntent(intent: Intent) {
        super.onNewIntent(intent)
        start(readToken(intent))
    }

    override fun onRetainNonConfigurationInstance(): Any = runs

    override fun onDestroy() {
        super.onDestroy()
        runs.last().onChange = {}
        // A script may still wait if the system destroys the activity to free memory or behind the lock screen.
        if (isFinishing) runs.forEach { it.cancel() }
    }

    private fun start(token: String?) {
        runs.lastOrNull()?.onChange = {}
        runs = runs.filter { it.line == null } + SelfTestRun(applicationContext, token)
        follow()
    }

    private fun follow() {
        runs.last().onChange = ::show
        show()
    }

    private fun show() {
        val run = runs.last()
        val outcome = run.outcome
        val report = outcome?.getOrNull()
        again.isEnabled = outcome != null
        share.isEnabled = run.line != null
        verdict.setText(
            when {
                outcome == null -> R.string.selftest_running
                report == null -> R.string.selftest_not_run
                report.comparison.isPassed -> R.string.selftest_passed
                else -> R.string.selftest_failed
            },
        )
        details.text = when {
            report != null -> describe(report)
            outcome != null -> outcome.exceptionOrNull()?.let { describeError(this, it) }
            else -> null
        }
        lines.removeAllViews()
        report?.comparison?.lines?.forEach(::addLine)
    }

    private fun describe(report: SelfTestReport): String {
        val (right, all) = report.comparison.lines.let { lines -> lines.count { it.isRight } to lines.size }
        return getString(R.string.selftest_summary, right, all, report.loadMs, report.reading.timingsMs.values.sum())
    }

    private fun addLine(line: GoldenLine) {
        val view = layoutInflater.inflate(R.layout.selftest_line, lines, false)
        val mark = if (line.isRight) R.string.selftest_right else R.string.selftest_wrong
        val text = line.expected?.text ?: line.found?.text
        view.findViewById<TextView>(R.id.selftest_text).text = getString(mark, text)
        val difference = view.findViewById<TextView>(R.id.selftest_difference)
        difference.text = describeDifference(line)
        difference.visibility = if (line.isRight) View.GONE else View.VISIBLE
        lines.addView(view)
    }

    private fun describeDifference(line: GoldenLine): String? {
        val found = line.found
        return when {
            line.isRight -> null
            found == null -> getString(R.string.selftest_missing)
            line.expected == null -> getString(R.string.selftest_unexpected)
            !line.isTextRight -> getString(R.string.selftest_read_as, found.text)
            else -> getString(
                R.string.selftest_off,
                line.cornerPx,
                GoldenComparison.MAX_CORNER_PX,
                line.scoreDiff,
                GoldenComparison.MAX_SCORE_DIFF,
            )
        }
    }
}

/** One self-test, which writes one line to the log when it finishes or is cancelled; used on the main thread. */
internal class SelfTestRun(private val context: Context, private val token: String?) {
    /** The line in the log; null while it runs. */
    var line: String? = null
        private set

    /** Null while it runs. */
    val outcome: Result<SelfTestReport>? get() = task.outcome

    /** Called when it finishes. */
    var onChange: () -> Unit = {}

    private val task = Task(context.worker) { ocr, cancellation, _ -> SelfTestReport.make(context, ocr, cancellation) }

    init {
        task.onChange = {
            outcome?.let(::log)
            onChange()
        }
    }

    /** Cancels it if it is not finished. */
    fun cancel() {
        if (line != null) return
        task.cancel()
        log(Result.failure(CancellationException("the self-test was closed before it finished")))
    }

    private fun log(outcome: Result<SelfTestReport>) {
        line = formatSelfTest(token, outcome, Preferences(context).toOptions(), hashManifest(context)).also {
            Log.i("EdgeOcr", it)
        }
    }
}
