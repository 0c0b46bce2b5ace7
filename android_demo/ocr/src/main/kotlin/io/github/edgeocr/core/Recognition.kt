package io.github.edgeocr.core

import kotlin.math.max
import kotlin.math.min

/** A piece of a line, and whether a space may follow it. */
internal class Part(val line: BgrImage, val beforeSpace: Boolean)

/** Cuts a line that is wider than `maxWidth` at gaps between its characters; any other line is its only part. */
internal fun cutLine(line: BgrImage, settings: RecognitionSettings): List<Part> {
    if (line.width <= settings.maxWidth) return listOf(Part(line, false))
    val ink = measureInk(line)
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

/** How much the pixels of each column differ, in 0..255: little between characters. */
private fun measureInk(line: BgrImage): IntArray {
    // Of a row, the values of each column and channel.
    val stride = 3 * line.width
    val least = IntArray(stride) { 255 }
    val most = IntArray(stride)
    for (i in line.pixels.indices) {
        val value = line.pixels[i].toInt() and 0xFF
        val place = i % stride
        least[place] = min(least[place], value)
        most[place] = max(most[place], value)
    }
    return IntArray(line.width) { x -> (3 * x until 3 * x + 3).maxOf { most[it] - least[it] } }
}

/** The first of the longest runs of columns, of those in [reach], whose ink is at most [range] above the least. */
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

/** Text and score of a line from the [readings] of its [parts]; the score is the mean over the characters. */
internal fun joinReadings(parts: List<Part>, readings: List<DecodedText>): DecodedText {
    val text = StringBuilder()
    var total = 0.0
    var count = 0
    var beforeSpace = false
    for ((part, reading) in parts.zip(readings)) {
        val piece = reading.text
        if (beforeSpace && isLatin(text.lastOrNull()) && isLatin(piece.firstOrNull())) text.append(' ')
        text.append(piece)
        val length = piece.codePointCount(0, piece.length)
        total += reading.score * length
        count += length
        beforeSpace = part.beforeSpace
    }
    return DecodedText(text.toString(), total / max(count, 1))
}

/** Whether there is a character, of ASCII and no space. */
private fun isLatin(character: Char?) = character != null && character.code < 128 && character != ' '

/**
 * The input width for a line that is [lineWidth] wide at the network's height.
 *
 * It depends on the line alone, so a line reads the same whatever else is in its batch.
 */
internal fun planWidth(lineWidth: Int, settings: RecognitionSettings): Int {
    val step = settings.widthMultiple
    return max(settings.minWidth, min(settings.maxWidth, (lineWidth + step - 1) / step * step))
}

/** Lines together are at most this wide, in pixels: more at a time gains nothing on a CPU. */
private const val BATCH_WIDTH = 1280

/**
 * The indices of the lines to run together, given the input width of each.
 *
 * Those of one batch have one width. Batches have 1, 2, 4, 8 … lines, at most [batchSize]: each shape that an engine
 * meets for the first time costs it a lot.
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
     * Text and score of each crop, in the order given; [beforeBatch] may throw to end it.
     *
     * Throws [BundleException] where the network gives other than N × T × classes.
     */
    public fun recognize(crops: List<BgrImage>, beforeBatch: () -> Unit = {}): List<DecodedText> {
        val cuts = crops.map { cutLine(resizeLine(it, settings.imageHeight), settings) }
        val readings = read(cuts.flatten().map { it.line }, beforeBatch).iterator()
        return cuts.map { parts -> joinReadings(parts, List(parts.size) { readings.next() }) }
    }

    private fun read(lines: List<BgrImage>, beforeBatch: () -> Unit): List<DecodedText> {
        val widths = lines.map { planWidth(it.width, settings) }
        val readings = MutableList(lines.size) { DecodedText("", 0.0) }
        for (batch in planBatches(widths, settings.batchSize)) {
            beforeBatch()
            val probs = engine.run(
                prepareLines(batch.map { lines[it] }, widths[batch[0]], settings.normalization, settings.padValue),
            )
            if (probs.shape.size != 3 || probs.shape[0] != batch.size || probs.shape[2] != charset.size) {
                throw BundleException(
                    "rec gives ${probs.shape.joinToString("×")}, expected ${batch.size}×T×${charset.size}",
                )
            }
            val steps = probs.shape[1]
            batch.forEachIndexed { i, line ->
                readings[line] = charset.decode(probs.data, i * steps * charset.size, steps)
            }
        }
        return readings
    }
}
