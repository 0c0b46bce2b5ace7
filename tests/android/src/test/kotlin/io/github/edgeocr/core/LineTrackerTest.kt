package io.github.edgeocr.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import kotlin.math.cos
import kotlin.math.sin
import kotlin.random.Random

class LineTrackerTest {
    private val tracker = LineTracker()

    /** A line 20 pixels high; each character is 10 wide. */
    private fun makeLine(text: String, x: Double, y: Double, score: Double = 0.9, width: Double = 10.0 * text.length) =
        TextLine(box(x, y, x + width, y + 20), 0.8, text, score)

    private fun box(left: Double, top: Double, right: Double, bottom: Double) =
        doubleArrayOf(left, top, right, top, right, bottom, left, bottom).map(Double::toFloat).toFloatArray()

    private fun makeWord(text: String, left: Double, top: Double, right: Double): Word {
        val polygon = box(left, top, right, top + 20)
        return Word(text, 0.9, polygon, listOf(Character(text.take(1), 0.9, polygon)))
    }

    private fun update(vararg lines: TextLine) = tracker.update(lines.toList())

    private fun read(vararg lines: TextLine) = update(*lines).map { it.line.text }

    private val page = listOf("Edge OCR reads text", "on small devices", "without a network", "in many languages")

    /** The page, 28 pixels from line to line, at [x] and [y]. */
    private fun makePage(x: Double = 0.0, y: Double = 0.0, texts: List<String> = page) =
        texts.mapIndexed { i, text -> makeLine(text, x, y + 28 * i) }.toTypedArray()

    private fun assertAt(x: Double, y: Double, line: TextLine) =
        assertArrayEquals(floatArrayOf(x.toFloat(), y.toFloat()), line.polygon.copyOf(2), 0.01f)

    @Test
    fun `without text there are no lines`() {
        repeat(3) { assertEquals(emptyList<TrackedLine>(), update()) }
    }

    @Test
    fun `the first frame is shown as it is`() {
        val lines = makePage()
        assertEquals(lines.map { it.text }, read(*lines))
    }

    @Test
    fun `boxes that jitter are the same lines, at their new places`() {
        val random = Random(1)
        val ids = update(*makePage()).map { it.id }
        assertEquals(ids.toSet().size, ids.size)
        repeat(30) {
            val lines = page.mapIndexed { i, text ->
                val (x, y) = random.nextDouble(-8.0, 8.0) to 28 * i + random.nextDouble(-5.0, 5.0)
                // The detector loses ends of lines.
                makeLine(text, x, y, width = text.length * random.nextDouble(8.0, 11.0))
            }
            val shown = update(*lines.toTypedArray())
            assertEquals(ids, shown.map { it.id })
            for ((line, one) in lines.zip(shown)) assertArrayEquals(line.polygon, one.line.polygon, 0f)
        }
    }

    @Test
    fun `a text that flickers between two readings does not change`() {
        val texts = List(20) { if (it % 2 == 0) "Total 12.50" else "Tota1 12.S0" }
        assertEquals(setOf("Total 12.50"), texts.map { read(makeLine(it, 0.0, 0.0)).single() }.toSet())
    }

    @Test
    fun `the reading with the better scores wins and then stays`() {
        val random = Random(2)
        val shown = List(200) {
            val isWrong = it == 0 || random.nextDouble() < 0.25
            read(if (isWrong) makeLine("Tota1 12.50", 0.0, 0.0, 0.6) else makeLine("Total 12.50", 0.0, 0.0)).single()
        }
        assertEquals("Tota1 12.50", shown[0])
        val changes = shown.zipWithNext().count { (before, after) -> before != after }
        assertTrue("$changes", changes <= 3)
        val right = shown.count { it == "Total 12.50" }
        assertTrue("$right", right >= 180)
    }

    @Test
    fun `one bad frame changes nothing, a text that stays does`() {
        for (other in listOf("12.51", "S", "a text of another line")) {
            tracker.reset()
            val good = makeLine("12.50", 0.0, 0.0, width = 100.0)
            val bad = makeLine(other, 0.0, 0.0, width = 100.0)
            repeat(10) { read(good) }
            assertEquals(listOf("12.50"), read(bad))
            assertEquals(listOf("12.50"), read(good))
            val shown = List(8) { read(bad).single() }
            assertTrue("$shown", shown == List(8) { if (it < shown.indexOf(other)) "12.50" else other })
            assertTrue("$shown", shown.indexOf(other) in 1..6)
        }
    }

    @Test
    fun `single characters may change`() {
        repeat(10) { read(makeLine("7", 0.0, 0.0)) }
        val id = update(makeLine("7", 0.0, 0.0)).single().id
        val shown = List(8) { update(makeLine("8", 0.0, 0.0)).single() }
        assertEquals("7" to "8", shown.first().line.text to shown.last().line.text)
        assertEquals(setOf(id), shown.map { it.id }.toSet())
    }

    @Test
    fun `a line that is missed remains for two frames, in its place`() {
        val lines = makePage()
        val ids = update(*lines).map { it.id }
        val rest = (lines.toList() - lines[1]).toTypedArray()
        repeat(2) {
            val shown = update(*rest)
            assertEquals(page, shown.map { it.line.text })
            assertEquals(ids, shown.map { it.id })
        }
        assertEquals(page - page[1], read(*rest))
        val again = update(*lines)
        assertEquals(page, again.map { it.line.text })
        assertTrue(again[1].id !in ids)
    }

    @Test
    fun `an empty frame changes nothing, a longer darkness ends it`() {
        val lines = makePage()
        val ids = update(*lines).map { it.id }
        assertEquals(ids, update().map { it.id })
        assertEquals(ids, update(*lines).map { it.id })
        assertEquals(listOf(4, 4, 0), List(3) { update().size })
    }

    @Test
    fun `lines follow a moving camera, those that are misread or missed, too`() {
        val ids = update(*makePage()).map { it.id }
        // By a line and a half from frame to frame: each box is where another line was.
        for (frame in 1..6) {
            val (x, y) = 30.0 * frame to -42.0 * frame
            val texts = if (frame == 2) page.map { if (it == page[2]) "withcut a netw0rk" else it } else page
            val lines = makePage(x, y, texts).filterIndexed { i, _ -> frame != 4 || i != 1 }
            val shown = update(*lines.toTypedArray())
            assertEquals("frame $frame", page, shown.map { it.line.text })
            assertEquals("frame $frame", ids, shown.map { it.id })
            shown.forEachIndexed { i, one -> assertAt(x, y + 28 * i, one.line) }
        }
    }

    @Test
    fun `lines of a tilted picture are not mistaken for their neighbours`() {
        val angle = Math.toRadians(20.0)
        val tilt = { line: TextLine ->
            val polygon = FloatArray(8) {
                val (x, y) = line.polygon[it / 2 * 2] to line.polygon[it / 2 * 2 + 1]
                (if (it % 2 == 0) x * cos(angle) - y * sin(angle) else x * sin(angle) + y * cos(angle)).toFloat()
            }
            TextLine(polygon, line.detScore, line.text, line.recScore)
        }
        val texts = List(6) { "Item $it of a long list on a receipt" }
        val ids = update(*makePage(texts = texts).map(tilt).toTypedArray()).map { it.id }
        val noisy = texts.map { it.replace("Item", "ltem") }
        val shown = update(*makePage(3.0, 4.0, noisy).map(tilt).toTypedArray())
        assertEquals(ids, shown.map { it.id })
        assertEquals(texts, shown.map { it.line.text })
    }

    @Test
    fun `vertical lines are followed`() {
        val lines = List(3) { TextLine(box(30.0 * it, 0.0, 30.0 * it + 20, 200.0), 1.0, "竖排文字$it", 0.9) }
        val ids = update(*lines.toTypedArray()).map { it.id }
        val moved = lines.map { line ->
            TextLine(FloatArray(8) { line.polygon[it] + 4 }, 1.0, line.text.replace("竖", "坚"), 0.9)
        }
        val shown = update(*moved.toTypedArray())
        assertEquals(ids, shown.map { it.id })
        assertEquals(lines.map { it.text }, shown.map { it.line.text })
    }

    @Test
    fun `another scene is shown at once`() {
        repeat(5) { read(*makePage()) }
        val other = listOf("Departures", "09:15 Berlin", "09:40 Wien", "10:05 Praha")
        assertEquals(other, read(*makePage(texts = other)))
        assertEquals(page.take(2), read(*makePage(200.0, 5.0, page.take(2))))
        // A single line elsewhere is another scene, too.
        tracker.reset()
        read(makeLine("one label", 0.0, 0.0))
        assertEquals(listOf("something new"), read(makeLine("something new", 90.0, 70.0)))
    }

    @Test
    fun `a blurred frame with one wrong line is not another scene`() {
        repeat(3) { read(*makePage()) }
        assertEquals(page, read(makeLine("~;", 5.0, 30.0)))
        assertEquals(page, read(*makePage()))
    }

    @Test
    fun `lines that swap places keep their texts`() {
        val (here, there) = 0.0 to 100.0
        val ids = List(5) { update(makeLine("Wien", 0.0, here), makeLine("Praha", 0.0, there)) }.last().map { it.id }
        val shown = update(makeLine("Praha", 0.0, here), makeLine("Wien", 0.0, there))
        assertEquals(listOf("Praha", "Wien"), shown.map { it.line.text })
        assertEquals(ids.reversed(), shown.map { it.id })
    }

    @Test
    fun `equal texts keep to their rows`() {
        val lines = List(5) { makeLine("0.00", 50.0, 28.0 * it) }.toTypedArray()
        val ids = update(*lines).map { it.id }
        assertEquals(ids, update(*lines).map { it.id })
        val shown = update(*List(5) { makeLine("0.00", 53.0, 28.0 * it + 6) }.toTypedArray())
        assertEquals(ids, shown.map { it.id })
    }

    @Test
    fun `a line that comes in pieces for a frame stays whole`() {
        val whole = makeLine("Edge OCR reads text", 0.0, 0.0)
        val pieces = arrayOf(makeLine("Edge OCR", 0.0, 0.0), makeLine("reads text", 90.0, 0.0))
        val below = makeLine("below", 0.0, 40.0)
        val id = update(whole).single().id
        assertEquals(listOf(id), update(*pieces).map { it.id })
        repeat(4) {
            assertEquals(id, update(*pieces, below).first().id)
            assertEquals(listOf(whole.text, "below"), read(whole, below))
        }
        assertEquals(listOf("Edge OCR", "reads text", "below"), List(3) { read(*pieces, below) }.last())
    }

    @Test
    fun `a line that is lost is not shown over one that is found`() {
        val rest = makePage(y = 100.0)
        read(*rest, makeLine("Change 79.05", 0.0, 0.0), makeLine("VAT", 300.0, 0.0))
        // The first line is lost, and the other moves to its place.
        assertEquals(page + "VAT", read(*rest, makeLine("VAT", 0.0, 0.0)))
    }

    @Test
    fun `a new line is shown at once, in reading order`() {
        val lines = makePage()
        read(*lines)
        val new = makeLine("No. 17", 300.0, 28.0)
        assertEquals(page.take(2) + "No. 17" + page.drop(2), read(lines[0], lines[1], new, lines[2], lines[3]))
        // A line that is missed stays behind the one it followed.
        assertEquals(page.take(2) + "No. 17" + page.drop(2), read(lines[0], lines[1], lines[2], lines[3]))
    }

    @Test
    fun `scores and words are those of the text that is shown`() {
        fun read(text: String, score: Double, x: Double) = makeLine(text, x, 0.0, score).let {
            TextLine(it.polygon, x, text, score, listOf(makeWord(text, x, 0.0, x + 100)))
        }
        tracker.update(listOf(read("Total 1250", 0.9, 0.0)))
        tracker.update(listOf(read("Total 1250", 0.8, 2.0)))
        val line = tracker.update(listOf(read("Tota1 1250", 0.5, 6.0))).single().line
        assertEquals("Total 1250", line.text)
        assertEquals(0.85, line.recScore, 1e-9)
        assertEquals(6.0, line.detScore, 1e-9)
        assertEquals("Total 1250", line.words!!.single().text)
        assertArrayEquals(line.polygon, line.words.single().polygon, 0.01f)
        assertArrayEquals(line.polygon, line.words.single().characters.single().polygon, 0.01f)
        assertNull(LineTracker().update(listOf(makeLine("bare", 0.0, 0.0))).single().line.words)
    }

    @Test
    fun `equal frames give an equal result, whatever came before`() {
        val random = Random(3)
        repeat(20) {
            repeat(10) {
                val texts = List(random.nextInt(0, 6)) {
                    page.random(random).map { if (random.nextInt(5) == 0) '#' else it }.joinToString("")
                }
                read(*makePage(random.nextDouble(90.0), random.nextDouble(90.0), texts))
            }
            val last = makePage(random.nextDouble(90.0), random.nextDouble(90.0), page.take(random.nextInt(0, 5)))
            // All readings that might lead are forgotten.
            repeat(8) { read(*last) }
            val shown = List(5) { update(*last) }
            assertEquals(last.map { it.text }, shown[0].map { it.line.text })
            for (one in shown) {
                assertEquals(shown[0].map { it.id }, one.map { it.id })
                assertEquals(last.map { it.text }, one.map { it.line.text })
                for ((line, expected) in one.zip(last)) assertArrayEquals(expected.polygon, line.line.polygon, 0f)
            }
        }
    }

    @Test
    fun `two trackers with the same frames agree`() {
        val (random, other) = Random(4) to LineTracker()
        repeat(100) {
            val texts = page.filter { random.nextInt(6) != 0 }
                .map { if (random.nextInt(3) == 0) it.replace('e', 'c') else it }
            val lines = makePage(random.nextDouble(9.0), random.nextDouble(9.0), texts).toList()
            val (one, two) = tracker.update(lines) to other.update(lines)
            assertEquals(one.map { it.id to it.line.text }, two.map { it.id to it.line.text })
            assertEquals(one.size, one.map { it.id }.toSet().size)
        }
    }

    @Test
    fun `a hand-held camera over a page flickers far less than its readings`() {
        val random = Random(5)
        var (x, y) = 0.0 to 0.0
        val read = ArrayList<List<String>>()
        val shown = List(200) {
            x += random.nextDouble(-15.0, 15.0)
            y += random.nextDouble(-15.0, 15.0)
            val texts = page.map { if (random.nextInt(4) == 0) it.replaceFirst('e', "co"[random.nextInt(2)]) else it }
            read += texts
            update(*makePage(x, y, texts).filter { random.nextInt(10) != 0 }.toTypedArray()).map { it.line.text }
        }
        fun countChanges(frames: List<List<String>>) = frames.zipWithNext().count { (before, after) -> before != after }
        assertTrue("${countChanges(read)}", countChanges(read) > 100)
        assertTrue("${countChanges(shown)}", countChanges(shown) <= 10)
        val right = shown.drop(8).count { it == page }
        assertTrue("$right", right >= 180)
    }

    @Test
    fun `points and texts of nothing are harmless`() {
        val lines = listOf(TextLine(FloatArray(8), 0.0, "", 0.0), TextLine(FloatArray(8) { 5f }, 0.0, "", 0.0))
        repeat(3) { assertEquals(2, tracker.update(lines).size) }
    }

    @Test
    fun `an app chooses how long texts are remembered`() {
        val quick = LineTracker(window = 1, patience = 0)
        assertEquals("12:34", quick.update(listOf(makeLine("12:34", 0.0, 0.0))).single().line.text)
        assertEquals("12:35", quick.update(listOf(makeLine("12:35", 0.0, 0.0))).single().line.text)
        assertEquals(emptyList<TrackedLine>(), quick.update(emptyList()))
        assertThrows(IllegalArgumentException::class.java) { LineTracker(window = 0) }
        assertThrows(IllegalArgumentException::class.java) { LineTracker(patience = -1) }
    }

    @Test
    fun `many lines are followed in little time`() {
        val texts = List(150) { "Line $it of a very long page with much text in each of its lines" }
        val start = System.nanoTime()
        repeat(20) { update(*makePage(texts = texts)) }
        val ms = (System.nanoTime() - start) / 20e6
        assertTrue("$ms ms for a frame", ms < 100)
        assertEquals(150, update().size)
    }
}
