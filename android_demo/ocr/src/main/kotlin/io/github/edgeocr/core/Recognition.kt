package io.github.edgeocr.core

import kotlin.math.max
import kotlin.math.min

/** A part of a line, and whether a space may follow it. */
internal class Part(val line: BgrImage, val beforeSpace: Boolean)

/** Cuts a line that is wider than `maxWidth` at gaps between characters. Any other line is a single part. */
internal fun cutLine(line: BgrImage, settings: RecognitionSettings): List<Part> {
    if (line.width <= settings.maxWidth) return listOf(Part(line, false))
    val ink = measureColumns(line, 0, line.height)
    val count = (line.width + settings.partWidth - 1) / settings.partWidth
    val parts = ArrayList<Part>(count)
    var start = 0
    for (i in 1 until count) {
        val near = (i.toLong() * line.width / count).toInt() - settings.cutReach
        val gap = findGap(ink, near until near + 2 * settings.cutReach, settings.cutRange)
        val cut = (gap.first + gap.last + 1) / 2
        parts += Part(line.cutColumns(start, cut), gap.last + 1 - gap.first >= settings.spaceRatio * line.height)
        start = cut
    }
    parts += Part(line.cutColumns(start, line.width), false)
    return parts
}

/** The first longest run of columns within [reach] whose ink is at most [range] above the minimum. */
private fun findGap(ink: IntArray, reach: IntRange, range: Int): IntRange {
    val most = reach.minOf { ink[it] } + range
    var longest = IntRange.EMPTY
    var start = reach.first
    for (x in reach) {
        if (ink[x] > most) start = x + 1
        if (x + 1 - start > longest.last + 1 - longest.first) longest = start..x
    }
    return longest
}

/** What was read in a line from the [readings] of its [parts]. The score is the mean over the characters. */
internal fun joinReadings(parts: List<Part>, readings: List<LineText>): LineText {
    val text = StringBuilder()
    var total = 0.0
    var count = 0
    var beforeSpace = false
    var left = 0
    var spans: CharacterSpans? = null
    for ((part, reading) in parts.zip(readings)) {
        val isSpaced = beforeSpace && isLatin(text.lastOrNull()) && isLatin(reading.text.firstOrNull())
        val piece = if (isSpaced) " " + reading.text else reading.text
        text.append(piece)
        val length = reading.text.codePointCount(0, reading.text.length)
        total += reading.score * length
        count += length
        beforeSpace = part.beforeSpace
        val own = reading.spans
        spans = if (own == null) null else spans?.join(own, piece, left) ?: own
        left += part.line.width
    }
    return LineText(text.toString(), total / max(count, 1), spans, Size(parts[0].line.height, left))
}

/** Whether there is a character and it is ASCII and not a space. */
private fun isLatin(character: Char?) = character != null && character.code < 128 && character != ' '

/**
 * Returns the input width for a line that is [lineWidth] wide at the network's height.
 *
 * It depends on the line only, so that its text does not depend on the rest of the batch.
 */
internal fun planWidth(lineWidth: Int, settings: RecognitionSettings): Int {
    val step = settings.widthMultiple
    return max(settings.minWidth, min(settings.maxWidth, (lineWidth + step - 1) / step * step))
}

/** Largest total width of a batch in pixels; larger batches are not faster on a CPU. */
private const val BATCH_WIDTH = 1280

/**
 * Returns the indices of the lines of each batch, given the input width of each line.
 *
 * The lines of a batch have the same width. Batches have 1, 2, 4, 8 … lines, at most [batchSize], because each new
 * shape is expensive for an engine.
 */
internal fun planBatches(widths: List<Int>, batchSize: Int): List<List<Int>> {
    val order = widths.indices.sortedBy { widths[it] }
    val batches = mutableListOf<List<Int>>()
    var start = 0
    while (start < order.size) {
        val width = widths[order[start]]
        val alike = order.subList(start, min(start + batchSize, order.size)).count { widths[it] == width }
        val size = Integer.highestOneBit(min(alike, max(1, BATCH_WIDTH / width)))
        batches += order.subList(start, start + size)
        start += size
    }
    return batches
}

/** Reads text lines with a CTC network. */
public class TextRecognizer(
    private val engine: Engine,
    private val charset: Charset,
    internal val settings: RecognitionSettings,
) {
    /**
     * Returns what was read in each crop, in the given order; with [locate], also where the characters are.
     * [beforeBatch] may throw to stop. The first character of a text is the one that is read first.
     *
     * Throws [BundleException] if the network does not return N × T × classes.
     */
    internal fun recognize(
        crops: List<BgrImage>,
        locate: Boolean = false,
        beforeBatch: () -> Unit = {},
    ): List<LineText> {
        val cuts = crops.map { cutLine(resizeLine(it, settings.imageHeight), settings) }
        val readings = read(cuts.flatten().map { it.line }, locate, beforeBatch).iterator()
        return cuts.map { parts ->
            val line = joinReadings(parts, List(parts.size) { readings.next() })
            if (settings.isRightToLeft) line.copy(text = orderLogically(line.text)) else line
        }
    }

    private fun read(lines: List<BgrImage>, locate: Boolean, beforeBatch: () -> Unit): List<LineText> {
        val widths = lines.map { planWidth(it.width, settings) }
        val readings = MutableList(lines.size) { LineText("", 0.0) }
        for (batch in planBatches(widths, settings.batchSize)) {
            beforeBatch()
            val probs = engine.run(
                prepareLines(batch.map { lines[it] }, widths[batch[0]], settings.normalization, settings.padValue),
            )
            if (probs.shape.size != 3 || probs.shape[0] != batch.size || probs.shape[2] != charset.size) {
                throw BundleException(
                    "rec returned shape ${probs.shape.joinToString("×")}, expected ${batch.size}×T×${charset.size}",
                )
            }
            val steps = probs.shape[1]
            batch.forEachIndexed { i, line ->
                val decoded =
                    charset.decode(probs.data, i * steps * charset.size, steps, settings.spaceWeight)
                val spans = if (locate) findSpans(decoded, lines[line], widths[line], settings.words) else null
                readings[line] = LineText(decoded.text, decoded.score, spans)
            }
        }
        return readings
    }
}
