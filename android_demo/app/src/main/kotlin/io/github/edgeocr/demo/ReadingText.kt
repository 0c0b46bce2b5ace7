package io.github.edgeocr.demo

import android.content.ClipData
import android.content.ClipboardManager
import android.content.Context
import android.content.Intent
import android.os.Build
import android.os.TransactionTooLargeException
import android.widget.Toast
import io.github.edgeocr.core.Reading
import io.github.edgeocr.core.TextLine
import io.github.edgeocr.core.Word
import org.json.JSONArray
import org.json.JSONObject

/** The texts of all lines, one per line. */
internal fun List<TextLine>.toText(): String = joinToString("\n") { it.text }

/** A part of a result: its text, and the polygons of the words or lines that it consists of. */
internal class Selection(val text: String, val polygons: List<FloatArray>)

/**
 * Selects the words, and the lines without words, whose middle is in a rectangle, in pixels of the picture.
 *
 * The text has a line for each line, in reading order; it is empty if nothing is there.
 */
internal fun List<TextLine>.select(left: Float, top: Float, right: Float, bottom: Float): Selection {
    fun isInside(polygon: FloatArray): Boolean {
        val (x, y) = (0..1).map { axis -> (axis until 8 step 2).map { polygon[it] }.average().toFloat() }
        return x in left..right && y in top..bottom
    }

    val texts = ArrayList<String>()
    val polygons = ArrayList<FloatArray>()
    for (line in this) {
        val words = line.words.orEmpty()
        val chosen = words.map { isInside(it.polygon) }
        if (words.isEmpty() && isInside(line.polygon)) {
            texts += line.text
            polygons += line.polygon
        } else if (true in chosen) {
            texts += joinWords(line.text, words, chosen)
            polygons += words.filterIndexed { i, _ -> chosen[i] }.map { it.polygon }
        }
    }
    return Selection(texts.joinToString("\n"), polygons)
}

/** The [chosen] words of a line; neighbours have between them what they have in the line's text. */
private fun joinWords(text: String, words: List<Word>, chosen: List<Boolean>): String {
    val joined = StringBuilder()
    var end = 0
    for ((i, word) in words.withIndex()) {
        val start = text.indexOf(word.text, end)
        val gap = if (start < 0) " " else text.substring(end, start)
        if (start >= 0) end = start + word.text.length
        if (!chosen[i]) continue
        if (joined.isNotEmpty()) joined.append(if (chosen[i - 1]) gap else " ")
        joined.append(word.text)
    }
    return joined.toString()
}

/**
 * The result as JSON, with the keys of all edge-ocr interfaces (`Reading.describe` in edge_ocr/core/types.py).
 *
 * [width] and [height] are the size in pixels of the picture that the polygons refer to.
 */
internal fun Reading.toJson(width: Int, height: Int): JSONObject = JSONObject()
    .put("image_width", width)
    .put("image_height", height)
    .put("dt_polys", JSONArray(lines.map { line -> JSONArray(List(4) { describeCorner(line.polygon, it) }) }))
    .put("dt_scores", JSONArray(lines.map { it.detScore }))
    .put("rec_text", JSONArray(lines.map { it.text }))
    .put("rec_score", JSONArray(lines.map { it.recScore }))
    .apply {
        pageAngle?.let { put("page_angle", it) }
        if (lines.any { it.words != null }) putWords(this, lines.map { it.words.orEmpty() })
    }

private fun putWords(json: JSONObject, lines: List<List<Word>>) {
    fun put(key: String, describe: (Word) -> Any) =
        json.put(key, JSONArray(lines.map { words -> JSONArray(words.map(describe)) }))

    fun round(word: Word) = word.polygon.map { Math.rint(it.toDouble()).toInt() }
    put("text_word") { it.text }
    put("text_word_region") { word -> JSONArray(round(word).chunked(2, ::JSONArray)) }
    put("text_word_score") { it.score }
    put("text_word_boxes") { word ->
        val (x, y) = round(word).chunked(2) { (x, y) -> x to y }.unzip()
        JSONArray(listOf(x.min(), y.min(), x.max(), y.max()))
    }
}

private fun describeCorner(polygon: FloatArray, corner: Int) =
    JSONArray(listOf(polygon[2 * corner].toInt(), polygon[2 * corner + 1].toInt()))

/** The same lines in a picture scaled by these factors; the words lose their characters. */
internal fun Reading.scale(byX: Float, byY: Float): Reading {
    fun scale(polygon: FloatArray) = FloatArray(polygon.size) { polygon[it] * (if (it % 2 == 0) byX else byY) }
    return Reading(
        lines.map { line ->
            val words = line.words?.map { Word(it.text, it.score, scale(it.polygon), emptyList()) }
            TextLine(scale(line.polygon), line.detScore, line.text, line.recScore, words)
        },
        timingsMs,
        pageAngle,
    )
}

/** Lets the user choose an app to send [text] to; [context] is the activity that asks. */
internal fun shareText(context: Context, text: String) = handOver(context) {
    val send = Intent(Intent.ACTION_SEND).setType("text/plain").putExtra(Intent.EXTRA_TEXT, text)
    context.startActivity(Intent.createChooser(send, null))
}

internal fun copyText(context: Context, text: String) = handOver(context) {
    val clipboard = context.getSystemService(ClipboardManager::class.java)
    clipboard.setPrimaryClip(ClipData.newPlainText(context.getString(R.string.app_name), text))
    // Since Android 13, the system itself shows this.
    if (Build.VERSION.SDK_INT < Build.VERSION_CODES.TIRAMISU) tell(context, R.string.copied)
}

/** Shows a message if the text is too long: data for another app must fit into a buffer of 1 MB. */
private inline fun handOver(context: Context, pass: () -> Unit) = try {
    pass()
} catch (error: RuntimeException) {
    if (error.cause !is TransactionTooLargeException) throw error
    tell(context, R.string.too_long)
}

private fun tell(context: Context, text: Int) = Toast.makeText(context, text, Toast.LENGTH_LONG).show()
