package io.github.edgeocr.core

/** The text of each class of the recogniser; [blankIndex] is the CTC blank. */
public class Charset(private val classes: List<String>, private val blankIndex: Int) {
    /** How many classes there are. */
    public val size: Int get() = classes.size

    private val space = classes.indexOf(" ")

    /**
     * Decodes the probs of one line: [steps] × [size] floats in [probs] from [start] on.
     *
     * A step at which the blank is best is a space if [spaceWeight] times the probability of a space is higher.
     * Drops repeats, then blanks. The score is the mean probability of the characters. Only blanks give "" and 0.0.
     */
    @JvmOverloads
    public fun decode(probs: FloatArray, start: Int, steps: Int, spaceWeight: Float = 1f): DecodedText {
        val text = StringBuilder()
        var sum = 0.0
        var count = 0
        var previous = blankIndex
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
            if (best == blankIndex && space >= 0 && spaceWeight * probs[row + space] > bestProb) {
                best = space
                bestProb = probs[row + space]
            }
            if (best != blankIndex && best != previous) {
                text.append(classes[best])
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
