package io.github.edgeocr.core

import java.util.Locale
import kotlin.math.abs
import kotlin.math.hypot
import kotlin.math.max

/** A line that the manifest expects ([expected]), and what was read in its place; null where one has no counterpart. */
public class GoldenLine internal constructor(public val expected: TextLine?, public val found: TextLine?) {
    /** How far the furthest corner is off, in pixels of the picture; NaN without a counterpart. */
    public val cornerPx: Double

    /** By how much the scores are off, at most; NaN without a counterpart. */
    public val scoreDiff: Double

    init {
        if (expected == null || found == null) {
            cornerPx = Double.NaN
            scoreDiff = Double.NaN
        } else {
            // Kotlin's maximum hands on what is not a number, which is then never near enough.
            cornerPx = (0 until CORNERS).maxOf { i ->
                val (x, y) = 2 * i to 2 * i + 1
                hypot(
                    found.polygon[x].toDouble() - expected.polygon[x],
                    found.polygon[y].toDouble() - expected.polygon[y],
                )
            }
            scoreDiff = max(abs(found.detScore - expected.detScore), abs(found.recScore - expected.recScore))
        }
    }

    public val isTextRight: Boolean = expected?.text == found?.text

    /** Whether the text is the same to the letter, and corners and scores are within what an engine's rounding does. */
    public val isRight: Boolean =
        isTextRight && cornerPx <= GoldenComparison.MAX_CORNER_PX && scoreDiff <= GoldenComparison.MAX_SCORE_DIFF
}

/** How a device read the golden picture of its bundle: [lines] in reading order. */
public class GoldenComparison private constructor(image: String, public val lines: List<GoldenLine>) {
    public val isPassed: Boolean = lines.all { it.isRight }

    /** One sentence for each line that is not right. */
    public val problems: List<String> = lines.mapIndexedNotNull { i, line ->
        val place = "$image: line ${i + 1} of ${lines.count { it.expected != null }}"
        when {
            line.isRight -> null
            !line.isTextRight -> "$place reads ${quote(line.found)}, expected ${quote(line.expected)}"
            else -> "$place: corners are %.1f px off, expected at most %.1f; scores %.4f, expected at most %.2f"
                .format(Locale.ROOT, line.cornerPx, MAX_CORNER_PX, line.scoreDiff, MAX_SCORE_DIFF)
        }
    }

    public companion object {
        // The host's: edge_ocr/core/selftest.py.

        /** Another engine's rounding can move the outline of a box by a pixel of the prob map. */
        public const val MAX_CORNER_PX: Double = 3.0
        public const val MAX_SCORE_DIFF: Double = 0.02

        /** Throws [BundleException] where a line of [golden] has no four corners. */
        @JvmStatic
        public fun compare(reading: Reading, golden: Golden): GoldenComparison {
            for (line in golden.lines) {
                if (line.polygon.size != 2 * CORNERS) {
                    throw BundleException("${golden.image}: the manifest has no four corners for ${quote(line)}")
                }
            }
            val count = max(reading.lines.size, golden.lines.size)
            return GoldenComparison(
                golden.image,
                List(count) { GoldenLine(golden.lines.getOrNull(it), reading.lines.getOrNull(it)) },
            )
        }

        private fun quote(line: TextLine?) = line?.let { "'${it.text}'" } ?: "nothing"
    }
}

private const val CORNERS = 4
