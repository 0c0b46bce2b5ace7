package io.github.edgeocr.core

import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min

/** Finds text lines with a DB network. */
public class TextDetector(private val engine: Engine, private val settings: Settings) {
    /**
     * Returns the boxes of the text lines in reading order; an empty list if there is no text.
     *
     * If the settings allow windows and text is too small at their side limit, larger scales are searched too. Inputs
     * too large for the network at once are computed in windows, whatever the settings say. [beforeWindow] may throw
     * to stop.
     *
     * Throws [BundleException] if the network does not return a prob map.
     */
    public fun detect(image: BgrImage, beforeWindow: () -> Unit = {}): List<TextBox> {
        val imageSize = Size(image.height, image.width)
        val wholeSize = planDetectionSize(image.height, image.width, settings.detection)
        var found =
            if (wholeSize.run { height * width } > settings.windows.wholePixels) {
                findInLarge(image, wholeSize, beforeWindow)
            } else {
                findInWhole(image)
            }
        if (!settings.detection.windows) return found
        var scale = wholeSize.run { max(height, width) }.toDouble() / max(image.height, image.width)
        // From the coarsest to the finest.
        val looks = mutableListOf(scale to found)
        while (true) {
            scale = planFinerScale(image, scale, found, settings.windows) ?: break
            found = findInWindows(image, scale, beforeWindow)
            looks += scale to found.map { growBox(it, imageSize, settings.windows) }
        }
        if (looks.size == 1) return found
        val boxes = looks.dropLast(1).foldRight(looks.last().second) { (coarser, seen), finer ->
            mergeBoxes(finer, seen, coarser, settings.windows)
        }
        return sortReadingOrder(boxes, settings.geometry)
    }

    // A function for each pass, so that its memory is free before the next.

    private fun findInWhole(image: BgrImage): List<TextBox> {
        val input = prepareDetection(image, settings.detection)
        val map = ProbMap.ofProbs(run(input), input.shape.let { (_, _, height, width) -> Size(height, width) })
        return findBoxes(map, Size(image.height, image.width), settings.detection, settings.geometry)
    }

    private fun findInLarge(image: BgrImage, size: Size, beforeWindow: () -> Unit): List<TextBox> {
        val map = mapLarge(image, size, settings, beforeWindow, ::run)
        return findBoxes(map, Size(image.height, image.width), settings.detection, settings.geometry)
    }

    private fun findInWindows(image: BgrImage, scale: Double, beforeWindow: () -> Unit): List<TextBox> {
        val map = mapWindows(image, scale, settings, beforeWindow, ::run)
        // Each window may have as many candidates as a whole picture.
        val count = map.size.run { listOf(height, width) }
            .map { planSpans(it, settings.detection.sideMultiple, settings.windows).spans.size }.reduce(Int::times)
        val many = settings.detection.run { copy(maxCandidates = maxCandidates * count) }
        return findBoxes(map, Size(image.height, image.width), many, settings.geometry)
    }

    /** Runs the network on 1 × 3 × H × W; H × W values in 0..1. */
    private fun run(input: Tensor): FloatArray {
        val (_, _, height, width) = input.shape
        val output = engine.run(input)
        if (!output.shape.contentEquals(intArrayOf(1, 1, height, width))) {
            throw BundleException("det returned shape ${output.shape.joinToString("×")}, expected 1×1×$height×$width")
        }
        return output.data
    }
}

/**
 * A prob map of [size], row by row: floats in 0..1, or one byte per pixel in steps of 1/255.
 *
 * As bytes, the map takes a third of the picture's memory.
 */
internal class ProbMap private constructor(
    val size: Size,
    private val probs: FloatArray?,
    private val levels: ByteArray?,
) {
    /** The probability of pixel [i], in 0..1. */
    operator fun get(i: Int): Float =
        if (levels != null) (levels[i].toInt() and 0xFF) / 255f else probs!![i]

    companion object {
        /** Wraps [size] floats in 0..1. */
        fun ofProbs(probs: FloatArray, size: Size) = ProbMap(size, probs, null)

        /** Wraps [size] bytes; 255 is 1. */
        fun ofLevels(levels: ByteArray, size: Size) = ProbMap(size, null, levels)
    }
}

/**
 * Turns a prob map into boxes in pixels of the original picture of [imageSize].
 *
 * DB post-processing: binarise, outline, fit a rotated rectangle, score, grow, fit again, scale. Corners are whole
 * pixels inside the picture. In reading order; empty if nothing passes the thresholds.
 */
internal fun findBoxes(
    probMap: ProbMap,
    imageSize: Size,
    settings: DetectionSettings,
    geometry: GeometrySettings,
): List<TextBox> {
    val fitter = RectangleFitter()
    val scorer = QuadScorer(probMap)
    val boxes = ArrayList<TextBox>()
    // Candidates for a piece of a box.
    val spare = ArrayList<TextBox>()
    val outlines = OutlineFinder(probMap).find(settings.binThreshold, settings.maxCandidates)
    for (outline in outlines) {
        val shrunk = fitter.fit(outline)
        if (shrunk.side < settings.minBoxSide) continue
        var score = scorer.score(shrunk.corners)
        var kept = boxes
        var ratio = settings.unclipRatio
        if (score < settings.boxThreshold) {
            if (!isSlanted(shrunk.corners, geometry.slantedRatio, geometry.slant)) kept = spare
            val text = scorer.scoreText(shrunk.corners, settings.binThreshold)
            score = if (text.fill >= geometry.leastFill) text.score else 0.0
            // The rectangle around a thin, bent line has more margin than that around a straight one.
            ratio *= (1 + text.fill) / 2
        }
        if (score < settings.boxThreshold) continue
        val grown = fitter.fit(unclip(shrunk.corners, ratio) ?: continue)
        if (grown.side < settings.minGrownBoxSide) continue
        kept += TextBox(scaleCorners(grown.corners, probMap.size, imageSize), score)
    }
    return sortReadingOrder(joinPieces(boxes, spare, imageSize, geometry), geometry)
}

private fun scaleCorners(corners: FloatArray, mapSize: Size, imageSize: Size): FloatArray {
    val scaleX = imageSize.width.toDouble() / mapSize.width
    val scaleY = imageSize.height.toDouble() / mapSize.height
    return roundCorners(imageSize) { corners[it] * (if (it % 2 == 0) scaleX else scaleY) }
}

/** The mean probability of the text in a quadrilateral, and the share that text fills; both in 0..1. */
internal class TextScore(val score: Double, val fill: Double)

private const val FIXED_BITS = 16

/** Averages a prob map inside quadrilaterals, over the pixels that OpenCV's fillPoly paints. */
internal class QuadScorer(private val probMap: ProbMap) {
    private val size = probMap.size
    private var first = IntArray(64)
    private var last = IntArray(64)

    /** The mean probability inside a quadrilateral (8 floats) of the map, in 0..1. */
    fun score(quad: FloatArray): Double = scoreText(quad, Float.NEGATIVE_INFINITY).score

    /**
     * Returns the mean probability of the pixels above [binThreshold] (text) inside a quadrilateral, and their share.
     *
     * Networks see slanted lines thin and bent, so the rectangle around one is half empty.
     */
    fun scoreText(quad: FloatArray, binThreshold: Float): TextScore {
        val left = floor(minOf(quad[0], quad[2], quad[4], quad[6])).toInt().coerceIn(0, size.width - 1)
        val top = floor(minOf(quad[1], quad[3], quad[5], quad[7])).toInt().coerceIn(0, size.height - 1)
        val bottom = ceil(maxOf(quad[1], quad[3], quad[5], quad[7])).toInt().coerceIn(0, size.height - 1)
        val rows = bottom - top + 1
        if (first.size < rows) {
            first = IntArray(2 * rows)
            last = IntArray(2 * rows)
        }
        first.fill(Int.MAX_VALUE, 0, rows)
        last.fill(Int.MIN_VALUE, 0, rows)
        for (i in 0 until 4) {
            val k = (i + 1) and 3
            // Corners are truncated to whole pixels, as in PP-OCR's own scoring.
            val x0 = (quad[2 * i] - left).toInt()
            val y0 = (quad[2 * i + 1] - top).toInt()
            val x1 = (quad[2 * k] - left).toInt()
            val y1 = (quad[2 * k + 1] - top).toInt()
            if (y0 <= y1) markCrossings(x0, y0, x1, y1, rows) else markCrossings(x1, y1, x0, y0, rows)
            if (x0 <= x1) markLine(x0, y0, x1, y1, rows) else markLine(x1, y1, x0, y0, rows)
        }
        var sum = 0.0
        var count = 0
        var area = 0
        for (row in 0 until rows) {
            if (first[row] == Int.MAX_VALUE) continue
            val start = (top + row) * size.width
            val from = max(left + first[row], 0)
            val to = min(left + last[row], size.width - 1)
            for (i in start + from..start + to) {
                if (probMap[i] <= binThreshold) continue
                sum += probMap[i]
                count++
            }
            area += max(to - from + 1, 0)
        }
        return TextScore(if (count == 0) 0.0 else sum / count, count.toDouble() / max(area, 1))
    }

    /** Widens each row to where an edge, given from top to bottom, crosses the row's middle. */
    private fun markCrossings(x0: Int, y0: Int, x1: Int, y1: Int, rows: Int) {
        if (y0 == y1) return
        val step = ((x1 - x0).toLong() shl FIXED_BITS) / (y1 - y0)
        for (row in max(y0, 0) until min(y1, rows)) {
            val x = (x0.toLong() shl FIXED_BITS) + step * (row - y0)
            // A span that starts between two pixels starts at the second; one that ends there ends at the first.
            first[row] = min(first[row], ((x + (1L shl FIXED_BITS) - 1) shr FIXED_BITS).toInt())
            last[row] = max(last[row], (x shr FIXED_BITS).toInt())
        }
    }

    /** Widens each row to the pixels of a Bresenham line, given from left to right. */
    private fun markLine(x0: Int, y0: Int, x1: Int, y1: Int, rows: Int) {
        val dx = x1 - x0
        val dy = abs(y1 - y0)
        val stepY = if (y1 > y0) 1 else -1
        val isFlat = dx >= dy
        val (long, short) = if (isFlat) dx to dy else dy to dx
        var error = long - 2 * short
        var x = x0
        var y = y0
        repeat(long + 1) {
            if (y in 0 until rows) {
                first[y] = min(first[y], x)
                last[y] = max(last[y], x)
            }
            val isStep = error < 0
            if (isStep) error += 2 * long
            error -= 2 * short
            if (isFlat || isStep) x++
            if (!isFlat || isStep) y += stepY
        }
    }
}
