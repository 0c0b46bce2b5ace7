package io.github.edgeocr.core

import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min

/** How a page is turned: [turns] quarters clockwise, 0 to 3, and whether that is certain. */
internal class PageTurns(val turns: Int, val isCertain: Boolean)

/** Distinguishes pages that are upright from those turned by 90°, 180° and 270° clockwise. */
public class PageClassifier(private val engine: Engine, private val settings: PageOrientationSettings) {
    /** Classifies a picture. Throws [BundleException] if the network does not return four probs. */
    internal fun findTurns(image: BgrImage): PageTurns {
        val output = engine.run(preparePage(image, settings))
        if (!output.shape.contentEquals(intArrayOf(1, CLASSES))) {
            throw BundleException("page returned shape ${output.shape.joinToString("×")}, expected 1×$CLASSES")
        }
        val turns = (0 until CLASSES).maxBy { output.data[it] }
        return PageTurns(turns, output.data[turns] > settings.threshold)
    }

    private companion object {
        const val CLASSES = 4
    }
}

/** The classifier's input, 1 × 3 × H × W, channels red, green, blue: the shorter side scaled, the middle cut out. */
internal fun preparePage(image: BgrImage, settings: PageOrientationSettings): Tensor {
    val view = settings.maxViewRatio * min(image.height, image.width)
    val seen = Size(min(image.height, view), min(image.width, view))
    val middle = image.cut((image.width - seen.width) / 2, (image.height - seen.height) / 2, seen)
    val size = Size(settings.imageHeight, settings.imageWidth)
    val side = max(settings.resizeShort, max(size.height, size.width))
    val scale = side.toDouble() / min(seen.height, seen.width)

    // Halves are rounded to even, as on the host.
    fun fit(length: Int) = Math.rint(length * scale).toInt()

    val scaled = resize(middle, Size(fit(seen.height), fit(seen.width)))
    val plane = size.height * size.width
    val bgr = FloatArray(3 * plane)
    val table = settings.normalization.run { Normalization(mean.reversed(), std.reversed()) }.tabulate()
    fillWindow(scaled, (scaled.width - size.width) / 2, (scaled.height - size.height) / 2, size, bgr, table)
    val rgb = FloatArray(3 * plane)
    for (channel in 0 until 3) bgr.copyInto(rgb, channel * plane, (2 - channel) * plane, (3 - channel) * plane)
    return Tensor(intArrayOf(1, 3, size.height, size.width), rgb)
}

/** Returns a picture whose page is turned by [turns] quarters clockwise with the page upright. */
internal fun turnUpright(image: BgrImage, turns: Int): BgrImage = when (turns) {
    1 -> image.turnLeft()
    2 -> image.turnAround()
    3 -> image.turnRight()
    else -> image
}

/**
 * Maps a polygon from the upright page to the picture of [imageSize] that [turnUpright] turned.
 *
 * The order of the corners does not change: the first is where the line begins.
 */
internal fun turnBack(polygon: FloatArray, turns: Int, imageSize: Size): FloatArray = FloatArray(8) { i ->
    val x = polygon[i - i % 2]
    val y = polygon[i - i % 2 + 1]
    val isX = i % 2 == 0
    when (turns) {
        1 -> if (isX) imageSize.width - y else x
        2 -> if (isX) imageSize.width - x else imageSize.height - y
        3 -> if (isX) y else imageSize.height - x
        else -> if (isX) x else y
    }
}

/** How well a line reads as it was cut out ([score]) and turned by 180° ([other]). */
internal class BothWays(val polygon: FloatArray, val score: Double, val other: Double)

/**
 * Returns by how many quarters clockwise a page is turned, 0 to 3; null if its [lines] do not tell.
 *
 * A line votes for the way in which it reads clearly better and scores at least [least], by its length times the
 * difference.
 */
internal fun chooseTurns(lines: List<BothWays>, least: Double, settings: Settings): Int? {
    val votes = DoubleArray(4)
    for (line in lines) {
        val difference = abs(line.score - line.other)
        if (max(line.score, line.other) < least || difference <= settings.orientation.turnedScoreMargin) continue
        // The crop of a vertical line was laid by a quarter turn.
        val laid = if (isVertical(measureSides(line.polygon), settings.geometry)) 1 else 0
        val turned = if (line.other > line.score) 2 else 0
        votes[laid + turned] += measureLine(line.polygon).length * difference
    }
    return votes.indices.maxBy { votes[it] }.takeIf { votes[it] > 0 }
}
