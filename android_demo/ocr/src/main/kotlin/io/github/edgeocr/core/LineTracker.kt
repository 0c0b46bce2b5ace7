package io.github.edgeocr.core

import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min

/** A line of a video. */
public class TrackedLine(
    /** Stays the same from frame to frame. */
    public val id: Int,
    /** Where it is now, with the text to show. */
    public val line: TextLine,
)

/**
 * Follows text lines through the frames of a video, so that shown texts do not flicker.
 *
 * Each line has the text that most of its latest [window] frames read, weighted by score. A line that is not found
 * remains for [patience] more frames, unless the scene changes. With the defaults and three frames per second, a text
 * that was replaced by a similar one is shown for another two seconds at most, and one that is gone for less than one.
 *
 * Not thread-safe. Call [reset] if frames have another size or orientation than before.
 */
public class LineTracker @JvmOverloads constructor(
    private val window: Int = 8,
    private val patience: Int = 2,
) {
    init {
        require(window >= 1) { "window is $window, expected at least 1" }
        require(patience >= 0) { "patience is $patience, expected at least 0" }
    }

    /** In reading order, also those that are not shown. */
    private var tracks = emptyList<Track>()
    private var nextId = 0

    /**
     * Adds the lines of the next frame, in reading order, and returns those to show, in reading order.
     *
     * [lines] are those of one [Reading]. Lines of earlier frames that are not found move with the others.
     */
    public fun update(lines: List<TextLine>): List<TrackedLine> {
        val places = lines.map { Placement.of(it.polygon) }
        val (motionX, motionY) = findMotion(lines, places)
        for (track in tracks) track.move(motionX, motionY)
        val found = match(lines, places)
        val lost = tracks - found.values.toSet()
        val isNewScene = isNewScene(found.size, places, lost)
        for (track in lost) track.missed++
        val kept = if (isNewScene) emptyList() else lost.filter { it.isShown && it.missed <= patience }
        val seen = lines.mapIndexed { i, line -> found[i]?.also { it.add(line) } ?: Track(nextId++, line, window) }
        tracks = insert(kept, seen)
        // What is read in the place of a lost line may be the same line, misread or in pieces.
        val (known, new) = seen.partition { it.isShown }
        val hidden = new.filter { track -> kept.any { it.place.covers(track.place) } } +
            kept.filter { track -> known.any { it.place.covers(track.place) } }
        return (tracks - hidden.toSet()).onEach { it.isShown = true }.map { TrackedLine(it.id, it.makeLine()) }
    }

    /** Forgets all lines. */
    public fun reset() {
        tracks = emptyList()
    }

    /** How far the picture moved: the median of the lines whose text occurs once in both frames; 0 without any. */
    private fun findMotion(lines: List<TextLine>, places: List<Placement>): Pair<Double, Double> {
        val known = tracks.groupBy { it.text }.filterValues { it.size == 1 }
        val moves = lines.indices.groupBy { lines[it].text }.filterValues { it.size == 1 }.mapNotNull { (text, at) ->
            val from = known[text]?.single()?.place ?: return@mapNotNull null
            val to = places[at.single()]
            to.x - from.x to to.y - from.y
        }
        val (byX, byY) = moves.unzip()
        return findMedian(byX) to findMedian(byY)
    }

    /** The track of each line that has one, by the line's index. Each track has at most one line. */
    private fun match(lines: List<TextLine>, places: List<Placement>): Map<Int, Track> {
        class Match(val index: Int, val track: Track, val edits: Double, val distance: Double)

        val found = HashMap<Int, Track>()
        val used = HashSet<Track>()
        fun take(matches: List<Match>) {
            for (match in matches.sortedWith(compareBy({ it.edits }, { it.distance }))) {
                if (match.index !in found && used.add(match.track)) found[match.index] = match.track
            }
        }

        val near = ArrayList<Match>()
        for (track in tracks) {
            for ((i, place) in places.withIndex()) {
                if (!track.place.isNear(place)) continue
                val length = maxOf(track.text.length, lines[i].text.length, 1)
                val edits = countEdits(track.text, lines[i].text)
                // One character may always differ, or short texts could never change.
                if (edits > max(1.0, MOST_EDITS * length)) continue
                near += Match(i, track, edits.toDouble() / length, track.place.measureDistance(place))
            }
        }
        take(near)
        // Lines that moved otherwise than the picture.
        val moved = tracks.filter { it !in used }.flatMap { track ->
            lines.indices.filter { it !in found && lines[it].text == track.text }
                .map { Match(it, track, 0.0, track.place.measureDistance(places[it])) }
        }
        take(moved)
        return found
    }

    /** Whether a frame in which [found] tracks were found and [lost] were not shows something else. */
    private fun isNewScene(found: Int, places: List<Placement>, lost: List<Track>): Boolean {
        val before = lost.count { it.missed == 0 } + found
        // A blurred frame has few lines.
        if (2 * places.size < before || found >= SAME_SCENE * before) return false
        // A single line may be misread altogether, or come in pieces.
        val isSure = before > 1 && places.size > 1
        return isSure || lost.none { track -> places.any { track.place.covers(it) } }
    }

    /** Adds [kept] tracks to those that were [seen], each behind the one that it followed before. */
    private fun insert(kept: List<Track>, seen: List<Track>): List<Track> {
        val all = seen.toMutableList()
        for ((i, track) in tracks.withIndex()) {
            if (track !in kept) continue
            val last = tracks.subList(0, i).lastOrNull { it in all }
            all.add(all.indexOf(last) + 1, track)
        }
        return all
    }

    private class Track(val id: Int, first: TextLine, private val window: Int) {
        var place = Placement.of(first.polygon)
            private set

        /** How many frames it was not found in. */
        var missed = 0

        var isShown = false

        /** The text to show. */
        var text = first.text
            private set

        private val readings = ArrayDeque(listOf(first))
        private var polygon = first.polygon

        fun move(byX: Double, byY: Double) {
            place = place.move(byX, byY)
            polygon = polygon.move(byX, byY)
        }

        fun add(line: TextLine) {
            missed = 0
            place = Placement.of(line.polygon)
            readings += line
            if (readings.size > window) readings.removeFirst()
            polygon = line.polygon
            val votes = LinkedHashMap<String, Double>()
            for (one in readings) votes[one.text] = (votes[one.text] ?: 0.0) + one.recScore
            val (best, most) = votes.maxBy { it.value }
            if (most >= CLEAR_LEAD * (votes[text] ?: 0.0)) text = best
        }

        /** The line where it was found last, with [text]. */
        fun makeLine(): TextLine {
            val same = readings.filter { it.text == text }
            val last = same.last()
            val from = Placement.of(last.polygon)
            val words = last.words?.map { it.move(place.x - from.x, place.y - from.y) }
            return TextLine(polygon, readings.last().detScore, text, same.sumOf { it.recScore } / same.size, words)
        }
    }

    private companion object {
        /**
         * A text replaces the one that is shown if it has this many times its votes: six of eight frames for equal
         * scores. Recognisers misread a line in the same two or three ways, each several times in a row.
         */
        const val CLEAR_LEAD = 2.0

        /** In two readings of one line, at most this share of the characters differs; other lines differ in most. */
        const val MOST_EDITS = 0.5

        /** If less than this share of the lines is found again, the frame shows something else. */
        const val SAME_SCENE = 0.25
    }
}

/** A line's centre, the unit vector along its longer side, and its sides, in pixels. */
private class Placement(
    val x: Double,
    val y: Double,
    private val alongX: Double,
    private val alongY: Double,
    private val length: Double,
    private val height: Double,
) {
    fun move(byX: Double, byY: Double) = Placement(x + byX, y + byY, alongX, alongY, length, height)

    /** Distance of the centres, in heights of the line. */
    fun measureDistance(other: Placement): Double =
        (abs(measureAlong(other)) + abs(measureAcross(other))) / max(height, 1.0)

    /** Whether a box could be the same line: in its row, about as high and as long. */
    fun isNear(other: Placement): Boolean {
        val isAlike = max(height, other.height) <= MOST_GROWTH * min(height, other.height)
        val union = length + other.length - measureOverlap(other)
        return isAlike && isInRow(other) && measureOverlap(other) >= SAME_LENGTH * union
    }

    /** Whether a box is in this line's row, and most of the shorter one is on the other. */
    fun covers(other: Placement): Boolean =
        isInRow(other) && 2 * measureOverlap(other) >= min(length, other.length)

    // Neighbouring rows are more than a height apart.
    private fun isInRow(other: Placement) = abs(measureAcross(other)) <= (height + other.height) / 4

    private fun measureAlong(other: Placement) = (other.x - x) * alongX + (other.y - y) * alongY

    private fun measureAcross(other: Placement) = (other.y - y) * alongX - (other.x - x) * alongY

    private fun measureOverlap(other: Placement): Double {
        val middle = measureAlong(other)
        val (start, end) = middle - other.length / 2 to middle + other.length / 2
        return max(0.0, min(length / 2, end) - max(-length / 2, start))
    }

    companion object {
        /** The detector loses ends of a line, but half of a line is a piece of it. */
        private const val SAME_LENGTH = 0.6

        /** Boxes of a line with and without letters such as g and h. */
        private const val MOST_GROWTH = 2.0

        fun of(polygon: FloatArray): Placement {
            val line = measureLine(polygon)
            val length = max(line.length, Double.MIN_VALUE)
            val (x, y) = (0..1).map { axis -> (0 until 4).sumOf { polygon[2 * it + axis].toDouble() } / 4 }
            return Placement(x, y, line.dx / length, line.dy / length, line.length, line.height)
        }
    }
}

private fun FloatArray.move(byX: Double, byY: Double) =
    FloatArray(size) { (this[it] + if (it % 2 == 0) byX else byY).toFloat() }

private fun Word.move(byX: Double, byY: Double) = Word(
    text,
    score,
    polygon.move(byX, byY),
    characters.map { Character(it.text, it.score, it.polygon.move(byX, byY)) },
)

/** The median, the mean of the middle two for an even number; 0 without values. */
private fun findMedian(values: List<Double>): Double {
    if (values.isEmpty()) return 0.0
    val sorted = values.sorted()
    return (sorted[(sorted.size - 1) / 2] + sorted[sorted.size / 2]) / 2
}

/** The fewest characters to insert, delete or replace that make one text the other. */
private fun countEdits(from: String, to: String): Int {
    var row = IntArray(to.length + 1) { it }
    for ((i, char) in from.withIndex()) {
        val next = IntArray(to.length + 1)
        next[0] = i + 1
        for (k in to.indices) {
            val replaced = row[k] + if (char == to[k]) 0 else 1
            next[k + 1] = minOf(replaced, row[k + 1] + 1, next[k] + 1)
        }
        row = next
    }
    return row.last()
}
