package io.github.edgeocr.core

import kotlin.math.max
import kotlin.math.min

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
        val lines = crops.map { resizeLine(it, settings.imageHeight, settings.maxWidth) }
        val widths = lines.map { planWidth(it.width, settings) }
        val readings = MutableList(crops.size) { DecodedText("", 0.0) }
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
