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
        val order = lines.indices.sortedBy { widths[it] }
        val readings = MutableList(crops.size) { DecodedText("", 0.0) }
        var start = 0
        while (start < order.size) {
            beforeBatch()
            val width = widths[order[start]]
            val batch = order.subList(start, min(start + settings.batchSize, order.size)).filter { widths[it] == width }
            val probs = engine.run(
                prepareLines(batch.map { lines[it] }, width, settings.normalization, settings.padValue),
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
            start += batch.size
        }
        return readings
    }
}
