package io.github.edgeocr.demo

import android.content.Context
import android.content.Intent
import io.github.edgeocr.EdgeOcr
import io.github.edgeocr.EngineKind
import io.github.edgeocr.OcrOptions
import io.github.edgeocr.core.Cancellation
import io.github.edgeocr.core.EdgeOcrException
import io.github.edgeocr.core.GoldenComparison
import io.github.edgeocr.core.Reading
import io.github.edgeocr.core.TextLine
import org.json.JSONArray
import org.json.JSONObject

/** The bundle's golden picture as this device reads it. */
internal class SelfTestReport(
    val comparison: GoldenComparison,
    val reading: Reading,
    val loadMs: Double,
    val engine: EngineKind,
    val engineVersion: String,
) {
    companion object {
        /**
         * Reads the golden picture with the bundle's own settings, to which its expected lines belong.
         *
         * Throws what opening and recognition throw.
         */
        fun make(context: Context, ocr: EdgeOcr, cancellation: Cancellation): SelfTestReport {
            if (ocr.settings == ocr.manifest.settings) return make(ocr, cancellation)
            val options = Preferences(context).toOptions()
            val own = OcrOptions(options.threads, options.powerMode, engine = options.engine)
            return context.models.open(own).use { make(it, cancellation) }
        }

        private fun make(ocr: EdgeOcr, cancellation: Cancellation): SelfTestReport {
            val picture = GoldenPicture.read(ocr)
            val reading = ocr.recognize(picture.bitmap, cancellation)
            val comparison = GoldenComparison.compare(reading, picture.golden)
            return SelfTestReport(comparison, reading, ocr.loadMs, ocr.engine, ocr.engineVersion)
        }
    }
}

/**
 * The token that a script gave to find its line in the log; null if it gave none.
 *
 * Any app may start the self-test, so only 1 to 64 letters, digits and hyphens are written to the log.
 */
internal fun readToken(intent: Intent): String? =
    try {
        intent.getStringExtra("token")?.takeIf(Regex("[A-Za-z0-9-]{1,64}")::matches)
    } catch (_: RuntimeException) {
        // Extras cannot be unpacked; the exception depends on the version of Android.
        null
    }

/**
 * The line for the log: JSON of at most [MAX_BYTES] in UTF-8, because the log cuts longer lines.
 *
 * Lines that do not fit are left out from the end; `lines_omitted` is their number. If the self-test could not run,
 * [outcome] has the reason and unknown values are null.
 */
internal fun formatSelfTest(
    token: String?,
    outcome: Result<SelfTestReport>,
    options: OcrOptions,
    manifestSha256: String?,
): String {
    val report = outcome.getOrNull()
    val timings = report?.let { JSONObject() }
    report?.reading?.timingsMs?.forEach { (stage, spent) -> timings?.put(stage, spent.round(2)) }
    val json = JSONObject()
        .put("edge_ocr", "selftest")
        .put("token", token.orJsonNull())
        .put("passed", report?.comparison?.isPassed ?: false)
        .put("error", outcome.exceptionOrNull()?.let { cut(explain(it), ERROR_BYTES) }.orJsonNull())
        .put("engine", report?.engine?.name?.lowercase().orJsonNull())
        .put("engine_version", report?.engineVersion.orJsonNull())
        .put("manifest_sha256", manifestSha256.orJsonNull())
        .put("device", describeDevice())
        .put("threads", options.threads)
        .put("power_mode", options.powerMode.name)
        .put("load_ms", report?.loadMs?.round(2).orJsonNull())
        .put("timings_ms", timings.orJsonNull())
        .put("problems", JSONArray(shorten(report?.comparison?.problems.orEmpty())))
    if (report == null) return json.put("lines", JSONObject.NULL).toString()
    val lines = report.reading.lines
    for (count in lines.size downTo 0) {
        json.put("lines", JSONArray(lines.take(count).map(::describe)))
        if (count < lines.size) json.put("lines_omitted", lines.size - count)
        if (count == 0 || json.toString().encodeToByteArray().size <= MAX_BYTES) break
    }
    return json.toString()
}

/** The reason and the hint, in English whatever the user's language, because scripts read it. */
private fun explain(error: Throwable): String =
    if (error is EdgeOcrException) listOfNotNull(error.message, error.hint).joinToString("; ") else error.toString()

private fun shorten(problems: List<String>): List<String> {
    val kept = problems.take(MOST_PROBLEMS).map { cut(it, PROBLEM_BYTES) }
    return if (kept.size == problems.size) kept else kept + "and ${problems.size - kept.size} more"
}

/** The start of a text that takes at most so many bytes as a JSON string. */
private fun cut(text: String, bytes: Int): String {
    fun isFitting(part: String) = JSONObject.quote(part).encodeToByteArray().size <= bytes
    if (isFitting(text)) return text
    var end = minOf(text.length, bytes)
    while (!isFitting(text.substring(0, end) + "…")) end = text.offsetByCodePoints(end, -1)
    return text.substring(0, end) + "…"
}

private fun describe(line: TextLine): JSONObject {
    val polygon = JSONArray()
    for (i in 0 until 4) polygon.put(JSONArray(List(2) { line.polygon[2 * i + it].toDouble().round(1) }))
    return JSONObject()
        .put("text", line.text)
        .put("det_score", line.detScore.round(4).orJsonNull())
        .put("rec_score", line.recScore.round(4).orJsonNull())
        .put("polygon", polygon)
}

/** Android's log keeps about 4,000 bytes per line. */
internal const val MAX_BYTES = 3900

// Leaves room for the rest.
private const val ERROR_BYTES = 1000
private const val MOST_PROBLEMS = 4
private const val PROBLEM_BYTES = 400
