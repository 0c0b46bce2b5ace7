package io.github.edgeocr.core

import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory

class CharsetTest {
    @TestFactory
    fun `texts are the host's`(): List<DynamicTest> = GoldenFiles.expected.items("ctc").map { row ->
        val weight = row.getDouble("space_weight").toFloat()
        dynamicTest("${row.getString("name")} $weight") {
            val charset = Charset(row.getJSONArray("classes").map { it as String }, 0)
            val probs = GoldenFiles.readTensor(row.getString("name"))
            val decoded = charset.decode(probs.data, 0, probs.shape[0], weight)
            assertEquals(row.getString("text"), decoded.text)
            assertEquals(row.getDouble("score"), decoded.score, 1e-4)
            assertEquals(row.getJSONArray("pieces").elements(), decoded.pieces)
            val scores = decoded.scores.map { it.toDouble() }.toDoubleArray()
            assertArrayEquals(row.getJSONArray("scores").numbers(), scores, 1e-4)
            assertEquals(row.getJSONArray("starts").elements(), decoded.starts.toList())
            assertEquals(row.getJSONArray("ends").elements(), decoded.ends.toList())
            assertEquals(probs.shape[0], decoded.steps)
        }
    }

    @Test
    fun `a dictionary keeps its space and its order`() {
        val charset = Charset.parse("a\n \n文\n", 4, 0)
        val probs = floatArrayOf(0f, 0f, 0f, 1f, 0f, 0f, 1f, 0f, 0f, 1f, 0f, 0f)
        val decoded = charset.decode(probs, 0, 3)
        assertEquals("文 a" to 1.0, decoded.text to decoded.score)
    }

    @Test
    fun `empty lines and repeats are classes`() {
        val charset = Charset.parse("a\n\n文\na\n\n", 6, 0)
        val best = intArrayOf(1, 2, 1, 4, 5, 3)
        val probs = FloatArray(36) { i -> if (i % 6 == best[i / 6]) 1f else 0f }
        val decoded = charset.decode(probs, 0, 6)
        assertEquals("aaa文" to 1.0, decoded.text to decoded.score)
    }

    @Test
    fun `a dictionary of another length is refused`() {
        val error = assertThrows(BundleException::class.java) { Charset.parse("a\nb\n", 4, 0) }
        assertTrue(error.message!!.endsWith("3 classes, expected 4"))
    }
}
