package io.github.edgeocr.core

import kotlin.math.min

/**
 * A line's text, and where its characters are among the time [steps].
 *
 * [pieces]: text of each character, in the order of the steps; followed by a space if one was added. [scores]: in 0..1.
 * [starts]: first step of each character. [ends]: the step after its last one.
 *
 * @property text The characters.
 * @property score Mean probability of the characters, in 0..1; 0.0 without any.
 */
public class DecodedText internal constructor(
    public val text: String,
    public val score: Double,
    internal val pieces: List<String>,
    internal val scores: FloatArray,
    internal val starts: IntArray,
    internal val ends: IntArray,
    internal val steps: Int,
)

/** The text of each class of the recogniser; [blankIndex] is the CTC blank. */
public class Charset(private val classes: List<String>, private val blankIndex: Int) {
    /** How many classes there are. */
    public val size: Int get() = classes.size

    private val space = classes.indexOf(" ")

    /**
     * Decodes the probs of one line: [steps] × [size] floats in [probs] from [start] on.
     *
     * A step at which the blank is best is a space if [spaceWeight] times the probability of a space is higher, and it
     * is between two characters other than spaces. Such a space does not count in the score.
     * Drops repeats, then blanks. The score is the mean probability of the characters. Only blanks give "" and 0.0.
     */
    @JvmOverloads
    public fun decode(probs: FloatArray, start: Int, steps: Int, spaceWeight: Float = 1f): DecodedText {
        val pieces = ArrayList<String>()
        val scores = FloatArray(steps)
        val starts = IntArray(steps)
        val ends = IntArray(steps)
        var previous = blankIndex
        var spaced = false
        for (step in 0 until steps) {
            val row = start + step * size
            var best = 0
            var bestProb = probs[row]
            for (i in 1 until size) {
                val prob = probs[row + i]
                if (prob > bestProb) {
                    best = i
                    bestProb = prob
                }
            }
            if (best == blankIndex) {
                spaced = spaced || (space >= 0 && spaceWeight * probs[row + space] > bestProb)
            } else {
                if (best != previous) {
                    val last = pieces.lastOrNull()
                    val isBetween = !last.isNullOrBlank() && classes[best].isNotBlank()
                    if (spaced && isBetween) pieces[pieces.lastIndex] = "$last "
                    spaced = false
                    // A softmax of float values may exceed 1 by a rounding error.
                    scores[pieces.size] = min(bestProb, 1f)
                    starts[pieces.size] = step
                    pieces += classes[best]
                }
                ends[pieces.lastIndex] = step + 1
            }
            previous = best
        }
        val count = pieces.size
        val score = if (count == 0) 0.0 else (0 until count).sumOf { scores[it].toDouble() } / count
        val text = pieces.joinToString("")
        return DecodedText(text, score, pieces, scores.copyOf(count), starts.copyOf(count), ends.copyOf(count), steps)
    }

    public companion object {
        /**
         * Parses a dictionary: one character per line, line n is class n, each line ends with LF.
         *
         * Throws [BundleException] if it does not have [classCount] classes.
         */
        @JvmStatic
        public fun parse(dictionary: String, classCount: Int, blankIndex: Int): Charset {
            val classes = listOf("") + dictionary.split("\n").dropLast(1)
            if (classes.size != classCount) {
                throw BundleException("the dictionary has ${classes.size} classes, expected $classCount")
            }
            return Charset(classes, blankIndex)
        }
    }
}
