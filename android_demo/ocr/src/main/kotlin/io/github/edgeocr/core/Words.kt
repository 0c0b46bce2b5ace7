package io.github.edgeocr.core

import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min

/**
 * The characters of a line, or of a part of it, in the order of the picture.
 *
 * [texts]: as the dictionary has them, with the spaces around them: together they are the line's text. [scores]: in
 * 0..1. [lefts] and [rights]: ends of each, [top] and [bottom]: those of the ink, in pixels of the line.
 */
internal class CharacterSpans(
    val texts: List<String>,
    val scores: List<Double>,
    val lefts: List<Double>,
    val rights: List<Double>,
    val top: Double,
    val bottom: Double,
) {
    /** These and those of the line's next part, which begins at [left] and adds [text] to the line's. */
    fun join(next: CharacterSpans, text: String, left: Int): CharacterSpans {
        if (next.texts.isEmpty()) {
            val all = if (texts.isEmpty()) texts else texts.dropLast(1) + (texts.last() + text)
            return CharacterSpans(all, scores, lefts, rights, top, bottom)
        }
        // With the space that was added before them.
        val first = text.dropLast(next.texts.drop(1).sumOf { it.length })
        return CharacterSpans(
            texts + first + next.texts.drop(1),
            scores + next.scores,
            lefts + next.lefts.map { it + left },
            rights + next.rights.map { it + left },
            if (texts.isEmpty()) next.top else min(top, next.top),
            if (texts.isEmpty()) next.bottom else max(bottom, next.bottom),
        )
    }
}

/**
 * What was read in a crop: "" and 0.0 if nothing was; [score] is the mean probability of the characters, in 0..1.
 *
 * [spans]: where the characters are in the crop scaled to the network's height, which has [size] pixels; null unless
 * requested.
 */
internal data class LineText(
    val text: String,
    val score: Double,
    val spans: CharacterSpans? = null,
    val size: Size = Size(1, 1),
)

/**
 * Returns where the characters of a [line] are.
 *
 * [width]: pixels of the network's input, at whose left the line is and which the time steps divide.
 */
internal fun findSpans(decoded: DecodedText, line: BgrImage, width: Int, settings: WordSettings): CharacterSpans {
    val halfStep = if (decoded.steps == 0) 0.0 else width.toDouble() / decoded.steps / 2
    val count = decoded.pieces.size
    val end = line.width.toDouble()
    val middles = DoubleArray(count) { ((decoded.starts[it] + decoded.ends[it]) * halfStep).coerceIn(0.5, end - 0.5) }
    val between = DoubleArray(max(0, count - 1)) {
        ((decoded.ends[it] + decoded.starts[it + 1]) * halfStep).coerceIn(middles[it], middles[it + 1])
    }
    val rows = findRows(line, settings)
    // With background above the ink, but without a rule below it.
    val columns = measureColumns(line, max(0, rows.first - 2), rows.last + 1)
    val cuts = findCuts(columns, middles, between, settings)
    val ink = findInk(columns, settings)
    val lefts = DoubleArray(count)
    val rights = DoubleArray(count)
    for (i in 0 until count) {
        val least = if (i == 0) 0.0 else cuts[i - 1]
        val most = if (i == count - 1) end else cuts[i]
        val reach = settings.reach * line.height
        val first = ink.search(max(least, middles[i] - reach))
        val last = ink.search(min(most, middles[i] + reach)) - 1
        // Without ink, the nearer cut is as far from the middle as the other end.
        val half = max(minOf(middles[i] - least, most - middles[i], reach), 0.5)
        lefts[i] = if (first <= last) ink[first].toDouble() else middles[i] - half
        rights[i] = if (first <= last) ink[last] + 1.0 else middles[i] + half
    }
    val pieces = decoded.pieces
    val kept = pieces.indices.filter { pieces[it].isNotBlank() }
    return CharacterSpans(
        // Spaces belong to the character before them, those at the start of the line to the first one.
        kept.indices.map { place ->
            val start = if (place == 0) 0 else kept[place]
            pieces.subList(start, kept.getOrElse(place + 1) { pieces.size }).joinToString("")
        },
        kept.map { decoded.scores[it].toDouble() },
        kept.map { lefts[it] },
        kept.map { rights[it] },
        rows.first.toDouble(),
        rows.last + 1.0,
    )
}

/** The range of values in each column between the rows [top] and [bottom], 0..255: small without ink. */
internal fun measureColumns(line: BgrImage, top: Int, bottom: Int): IntArray {
    // One row: the values of each column and channel.
    val stride = 3 * line.width
    val least = IntArray(stride) { 255 }
    val most = IntArray(stride)
    for (y in top until bottom) {
        for (i in 0 until stride) {
            val value = line.pixels[y * stride + i].toInt() and 0xFF
            least[i] = min(least[i], value)
            most[i] = max(most[i], value)
        }
    }
    return IntArray(line.width) { x -> (3 * x until 3 * x + 3).maxOf { most[it] - least[it] } }
}

/** The range of values in each row between the columns [left] and [right], 0..255. */
private fun measureRows(line: BgrImage, left: Int, right: Int) = IntArray(line.height) { y ->
    var widest = 0
    for (channel in 0 until 3) {
        var least = 255
        var most = 0
        for (x in left until right) {
            val value = line.pixels[3 * (y * line.width + x) + channel].toInt() and 0xFF
            least = min(least, value)
            most = max(most, value)
        }
        widest = max(widest, most - least)
    }
    widest
}

/** The indexes of the columns or rows with ink; none if ink cannot be told from background. */
private fun findInk(ranges: IntArray, settings: WordSettings): IntArray {
    val least = ranges.min()
    val most = ranges.max()
    if (most - least < settings.leastInk) return IntArray(0)
    val level = least + settings.inkShare * (most - least)
    return ranges.indices.filter { ranges[it] > level }.toIntArray()
}

/**
 * The rows with ink, from the first to the last, but for rules, such as an underline, along the line.
 *
 * All rows if ink cannot be told from background, as in a line of Chinese that is cut out tightly.
 */
private fun findRows(line: BgrImage, settings: WordSettings): IntRange {
    val margin = min(line.height / 4, line.width / 8)
    val rows = findInk(measureRows(line, margin, line.width - margin), settings)
    return if (rows.isEmpty()) 0 until line.height else rows.first()..rows.last()
}

/** Where to cut between neighbours: near the middle [between] them, where there is little ink. */
private fun findCuts(
    columns: IntArray,
    middles: DoubleArray,
    between: DoubleArray,
    settings: WordSettings,
): DoubleArray {
    val cuts = between.copyOf()
    val costs = DoubleArray(between.size) { Double.POSITIVE_INFINITY }
    val most = max(columns.max(), 1).toDouble()
    var next = 0
    for (x in columns.indices) {
        while (next < middles.size && middles[next] < x) next++
        val place = next - 1
        if (place !in between.indices) continue
        val pull = settings.cutPull / max((middles[place + 1] - middles[place]) / 2, 0.5)
        val cost = columns[x] / most + abs(x - between[place]) * pull
        if (cost < costs[place]) {
            costs[place] = cost
            cuts[place] = x.toDouble()
        }
    }
    return cuts
}

/** How many of these sorted numbers are below [limit]. */
private fun IntArray.search(limit: Double): Int {
    var low = 0
    var high = size
    while (low < high) {
        val middle = (low + high) / 2
        if (this[middle] < limit) low = middle + 1 else high = middle
    }
    return low
}

// As in edge_ocr/core/words.py, which explains the ranges.
private val STARTS_WITH_CJK = Regex(
    """^[\u2e80-\u303f\u3040-\u30ff\u31c0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\ufe30-\ufe4f""" +
        """\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff9f\x{20000}-\x{3ffff}]""",
)

/** A character or a part of one: index in spans, -1 for a space between them, and text. */
internal data class Letter(val index: Int, val text: String)

/**
 * The characters of each word, in the order in which they are read.
 *
 * Words end at spaces and between Chinese or Japanese and other writing.
 */
internal fun findWords(spans: CharacterSpans, settings: RecognitionSettings): List<List<Letter>> {
    val order = if (settings.isRightToLeft) {
        val owners = spans.texts.flatMapIndexed { i, text -> List(text.length) { i } }
        splitLogically(spans.texts.joinToString("")).flatMap { (start, piece) ->
            splitLetters(piece).map { (k, letter) -> Letter(if (letter.isBlank()) -1 else owners[start + k], letter) }
        }
    } else {
        val space = Letter(-1, "")
        spans.texts.flatMapIndexed { i, text ->
            listOfNotNull(
                space.takeIf { text.first().isWhitespace() },
                Letter(i, text.trim()),
                space.takeIf { text.last().isWhitespace() },
            )
        }
    }
    val words = ArrayList<MutableList<Letter>>()
    var kind: Boolean? = null
    for (letter in order) {
        val before = kind
        kind = if (letter.index < 0) null else STARTS_WITH_CJK.containsMatchIn(letter.text)
        if (kind == null) continue
        if (kind != before || (kind && !settings.joinsCjk)) words += ArrayList<Letter>()
        words.last() += letter
    }
    return words
}

/** Each code point of a text with its index. */
private fun splitLetters(text: String): List<IndexedValue<String>> {
    val letters = ArrayList<IndexedValue<String>>()
    var start = 0
    while (start < text.length) {
        val end = text.offsetByCodePoints(start, 1)
        letters += IndexedValue(start, text.substring(start, end))
        start = end
    }
    return letters
}

/**
 * Where a crop is from: [polygon], 8 floats.
 *
 * [isVertical]: whether it was laid by a quarter turn; [isTurned]: whether it was turned by 180° after that.
 */
internal class PlacedCrop(polygon: FloatArray, private val isVertical: Boolean, private val isTurned: Boolean) {
    private val mapping = Perspective(polygon, 1, 1)

    /** The polygon of a rectangle in the crop; its edges are in 0..1. */
    fun map(left: Double, top: Double, right: Double, bottom: Double): FloatArray {
        val (x0, x1) = if (isTurned) 1 - right to 1 - left else left to right
        val (y0, y1) = if (isTurned) 1 - bottom to 1 - top else top to bottom
        // The left end of a crop that was laid is the polygon's top, its top the right side.
        val edges = if (isVertical) doubleArrayOf(1 - y1, x0, 1 - y0, x1) else doubleArrayOf(x0, y0, x1, y1)
        val corners = FloatArray(8)
        for ((i, corner) in CORNER_EDGES.withIndex()) {
            val (x, y) = mapping.map(edges[corner.first], edges[corner.second])
            corners[2 * i] = x.toFloat()
            corners[2 * i + 1] = y.toFloat()
        }
        return corners
    }

    private companion object {
        val CORNER_EDGES = listOf(0 to 1, 2 to 1, 2 to 3, 0 to 3)
    }
}

/**
 * The words of a line that was read in [crop]; [withCharacters]: whether they have their characters.
 *
 * [move] maps polygons from there to the picture.
 */
internal fun placeWords(
    reading: LineText,
    settings: RecognitionSettings,
    crop: PlacedCrop,
    move: (FloatArray) -> FloatArray,
    withCharacters: Boolean,
): List<Word> {
    val spans = reading.spans ?: return emptyList()
    val (height, width) = reading.size
    fun place(left: Double, right: Double) =
        move(crop.map(left / width, spans.top / height, right / width, spans.bottom / height))
    return findWords(spans, settings).map { letters ->
        val members = letters.map { it.index }.distinct()
        val characters = if (withCharacters) {
            val polygons = members.associateWith { place(spans.lefts[it], spans.rights[it]) }
            letters.map { Character(it.text, spans.scores[it.index], polygons.getValue(it.index)) }
        } else {
            emptyList()
        }
        Word(
            letters.joinToString("") { it.text },
            members.sumOf { spans.scores[it] } / members.size,
            place(members.minOf { spans.lefts[it] }, members.maxOf { spans.rights[it] }),
            characters,
        )
    }
}
