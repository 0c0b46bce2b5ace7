package io.github.edgeocr.core

/**
 * What the classifier says about a list of crops.
 *
 * @property turned Indices of those that are upside down.
 * @property unsure Indices of those that it is unsure about.
 */
public class TurnedCrops(public val turned: List<Int>, public val unsure: List<Int>)

/** Finds lines that are upside down. */
public class OrientationClassifier(private val engine: Engine, private val settings: OrientationSettings) {
    /**
     * Classifies crops, [batchSize] at a time. [beforeBatch] may throw to stop.
     *
     * Throws [BundleException] if the network does not return two probs for each crop.
     */
    public fun findTurned(crops: List<BgrImage>, batchSize: Int, beforeBatch: () -> Unit = {}): TurnedCrops {
        val turned = ArrayList<Int>()
        val unsure = ArrayList<Int>()
        var index = 0
        for (batch in crops.chunked(batchSize)) {
            beforeBatch()
            val lines = batch.map { resizeLine(it, settings.imageHeight, settings.imageWidth) }
            val output = engine.run(
                prepareLines(lines, settings.imageWidth, settings.normalization, settings.padValue),
            )
            if (!output.shape.contentEquals(intArrayOf(batch.size, 2))) {
                throw BundleException("cls returned shape ${output.shape.joinToString("×")}, expected ${batch.size}×2")
            }
            for (i in batch.indices) {
                val prob = output.data[2 * i + settings.turnedClass]
                if (prob > settings.threshold) turned += index else if (prob > 1 - settings.threshold) unsure += index
                index++
            }
        }
        return TurnedCrops(turned, unsure)
    }
}
