package io.github.edgeocr.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.io.File

class GoldenComparisonTest {
    private fun makeLine(text: String, left: Float = 10f, detScore: Double = 0.9, recScore: Double = 0.8) =
        TextLine(floatArrayOf(left, 5f, left + 80, 5f, left + 80, 25f, left, 25f), detScore, text, recScore)

    private val golden = Golden("golden.png", listOf(makeLine("one"), makeLine("two")))

    private fun compare(vararg lines: TextLine) = GoldenComparison.compare(Reading(lines.toList(), emptyMap()), golden)

    private fun assertFails(comparison: GoldenComparison, vararg problems: String) {
        assertFalse(comparison.isPassed)
        assertEquals(problems.toList(), comparison.problems)
    }

    @Test
    fun `a close enough result passes`() {
        val comparison = compare(makeLine("one", left = 12f), makeLine("two", recScore = 0.81, detScore = 0.885))
        assertTrue(comparison.isPassed)
        assertEquals(emptyList<String>(), comparison.problems)
        assertEquals(listOf(2.0, 0.0), comparison.lines.map { it.cornerPx })
        assertEquals(listOf(0.0, 0.015), comparison.lines.map { Math.round(it.scoreDiff * 1e6) / 1e6 })
        val none = GoldenComparison.compare(Reading(emptyList(), emptyMap()), Golden("golden.png", emptyList()))
        assertTrue(none.isPassed)
    }

    @Test
    fun `another text fails, and so do lines that are missing or too many`() {
        assertFails(
            compare(makeLine("two"), makeLine("one")),
            "golden.png: line 1 of 2 reads 'two', expected 'one'",
            "golden.png: line 2 of 2 reads 'one', expected 'two'",
        )
        assertFails(compare(makeLine("one")), "golden.png: line 2 of 2 reads nothing, expected 'two'")
        assertFails(
            compare(makeLine("one"), makeLine("two"), makeLine("more")),
            "golden.png: line 3 of 2 reads 'more', expected nothing",
        )
        assertEquals(listOf(true, false), compare(makeLine("one")).lines.map { it.isRight })
    }

    @Test
    fun `corners and scores that are too far off fail`() {
        assertFails(
            compare(makeLine("one"), makeLine("two", left = 13.5f)),
            "golden.png: line 2 of 2: corners are 3.5 px off, expected at most 3.0; " +
                "scores 0.0000, expected at most 0.02",
        )
        assertFalse(compare(makeLine("one"), makeLine("two", recScore = 0.77)).isPassed)
        assertFalse(compare(makeLine("one", detScore = 0.93), makeLine("two")).isPassed)
    }

    @Test
    fun `each corner counts`() {
        for (i in 0 until 8) {
            val polygon = makeLine("one").polygon.also { it[i] += 3.1f }
            assertFalse(compare(TextLine(polygon, 0.9, "one", 0.8), makeLine("two")).isPassed, "$i")
        }
    }

    @Test
    fun `NaN is never near enough`() {
        assertFalse(compare(makeLine("one", detScore = Double.NaN), makeLine("two")).isPassed)
        assertFalse(compare(makeLine("one"), makeLine("two", recScore = Double.NaN)).isPassed)
        for (i in 0 until 8) {
            val polygon = makeLine("one").polygon.also { it[i] = Float.NaN }
            assertFalse(compare(TextLine(polygon, 0.9, "one", 0.8), makeLine("two")).isPassed, "$i")
        }
    }

    @Test
    fun `a golden line without four corners is refused`() {
        for (count in listOf(0, 2, 6, 10, 12)) {
            val line = TextLine(FloatArray(count), 0.9, "one", 0.8)
            val error = assertThrows(BundleException::class.java) {
                GoldenComparison.compare(Reading(listOf(line), emptyMap()), Golden("golden.png", listOf(line)))
            }
            assertTrue("golden.png" in error.message!! && "'one'" in error.message!!)
        }
    }

    @Test
    fun `the tolerances are the host's`() {
        val source = File(System.getProperty("repository.root"), "edge_ocr/core/selftest.py").readText()
        fun find(name: String) = Regex("^$name = (.+)$", RegexOption.MULTILINE).find(source)!!.groupValues[1].toDouble()
        assertEquals(find("MAX_CORNER_PX"), GoldenComparison.MAX_CORNER_PX)
        assertEquals(find("MAX_SCORE_DIFF"), GoldenComparison.MAX_SCORE_DIFF)
    }
}
