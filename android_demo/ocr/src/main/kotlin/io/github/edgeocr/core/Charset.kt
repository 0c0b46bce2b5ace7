package io.github.edgeocr.core

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
        val text = StringBuilder()
        var sum = 0.0
        var count = 0
        var previous = blankIndex
        var last = ""
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
            } else if (best != previous) {
                if (spaced && last.isNotBlank() && classes[best].isNotBlank()) text.append(' ')
                spaced = false
                last = classes[best]
                text.append(last)
                sum += bestProb
                count++
            }
            previous = best
        }
        return DecodedText(text.toString(), if (count == 0) 0.0 else sum / count)
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
