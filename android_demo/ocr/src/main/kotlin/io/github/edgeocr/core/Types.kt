package io.github.edgeocr.core

/**
 * One detected text line.
 *
 * @property polygon 8 floats: x and y of four corners in pixels of the original picture, in the order top left, top
 * right, bottom right, bottom left as seen on the upright page, whatever the direction of the text.
 * @property detScore Mean probability inside the box, in 0..1.
 */
public class TextBox(public val polygon: FloatArray, public val detScore: Double)

/**
 * One character of a word.
 *
 * @property text A code point, or several that the dictionary keeps together.
 * @property score Its probability, in 0..1.
 * @property polygon 8 floats, as in [TextBox].
 */
public class Character(public val text: String, public val score: Double, public val polygon: FloatArray)

/**
 * A word of a line.
 *
 * @property text Its characters, without spaces around them.
 * @property score Mean probability of its characters, in 0..1.
 * @property polygon 8 floats, as in [TextBox].
 * @property characters In the order in which they are read; empty unless requested.
 */
public class Word(
    public val text: String,
    public val score: Double,
    public val polygon: FloatArray,
    public val characters: List<Character>,
)

/** What each line has besides its text. */
public enum class ReturnWords {
    /** Nothing. */
    NONE,

    /** Words. */
    WORDS,

    /** Words and their characters. */
    CHARS,
}

/**
 * One line that was detected and read.
 *
 * @property polygon 8 floats, as in [TextBox].
 * @property detScore Mean probability inside the box, in 0..1.
 * @property text The text, in the order in which it is read.
 * @property recScore Mean probability of the characters, in 0..1.
 * @property words In the order in which they are read; null unless requested.
 */
public class TextLine @JvmOverloads constructor(
    public val polygon: FloatArray,
    public val detScore: Double,
    public val text: String,
    public val recScore: Double,
    public val words: List<Word>? = null,
)

/**
 * The text of one picture.
 *
 * @property lines From top to bottom, and within a row in the direction of the text; empty without text.
 * @property timingsMs Time of each stage in milliseconds, in order.
 * @property pageAngle How far the page is turned clockwise in the picture, 0, 90, 180 or 270 degrees; null if that was
 * not examined.
 */
public class Reading @JvmOverloads constructor(
    public val lines: List<TextLine>,
    public val timingsMs: Map<String, Double>,
    public val pageAngle: Int? = null,
)

/**
 * An array of floats. Images are N × C × H × W.
 *
 * @property shape Length of each axis.
 * @property data The values in row-major order.
 */
public class Tensor(public val shape: IntArray, public val data: FloatArray) {
    init {
        require(shape.fold(1, Int::times) == data.size) { "${data.size} values for shape ${shape.joinToString("×")}" }
    }
}

/** One network, ready to run. */
public fun interface Engine {
    /**
     * Runs the network on one N × C × H × W batch and returns its output.
     *
     * The output may be the engine's own buffer, valid until the next run.
     */
    public fun run(input: Tensor): Tensor
}

/** Asked between the steps of a reading whether to stop. */
public fun interface Cancellation {
    /** Whether to stop. Called often and from the reading's thread, so it must be fast. */
    public fun isCancelled(): Boolean
}
