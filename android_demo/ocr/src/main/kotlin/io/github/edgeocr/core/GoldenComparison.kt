package io.github.edgeocr.core

import java.util.Locale
import kotlin.math.abs
import kotlin.math.hypot
import kotlin.math.max

/**
 * A line that the manifest expects and the line that was read there.
 *
 * @property expected Null if the manifest expects none.
 * @property found Null if none was read.
 */
public class GoldenLine internal constructor(public val expected: TextLine?, public val found: TextLine?) {
    /** The largest distance between corners, in pixels of the picture; NaN without a counterpart. */
    public val cornerPx: Double

    /** The largest difference of scores; NaN without a counterpart. */
    public val scoreDiff: Double

    init {
        if (expected == null || found == null) {
            cornerPx = Double.NaN
            scoreDiff = Double.NaN
        } else {
            // Kotlin's maximum keeps NaN, which is then never near enough.
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

    /** Whether the text is equal. */
    public val isTextRight: Boolean = expected?.text == found?.text

    /** Whether the text is equal, and corners and scores are within the rounding of an engine. */
    public val isRight: Boolean =
        isTextRight && cornerPx <= GoldenComparison.MAX_CORNER_PX && scoreDiff <= GoldenComparison.MAX_SCORE_DIFF
}

/**
 * The golden picture as this device reads it.
 *
 * @property lines In reading order.
 */
public class GoldenComparison private constructor(image: String, public val lines: List<GoldenLine>) {
    /** Whether every line is right. */
    public val isPassed: Boolean = lines.all { it.isRight }

    /** One sentence for each line that differs. */
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

        /** The rounding of another engine can move a box by a pixel of the prob map. */
        public const val MAX_CORNER_PX: Double = 3.0

        /** By how much scores may differ. */
        public const val MAX_SCORE_DIFF: Double = 0.02

        /** Throws [BundleException] if a line of [golden] does not have four corners. */
        @JvmStatic
        public fun compare(reading: Reading, golden: Golden): GoldenComparison {
            for (line in golden.lines) {
                if (line.polygon.size != 2 * CORNERS) {
                    throw BundleException("${golden.image}: ${quote(line)} does not have four corners in the manifest")
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
