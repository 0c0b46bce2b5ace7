package io.github.edgeocr.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import kotlin.random.Random

/** Prints the times of the slow loops after a warm-up. The speed of the machine does not fail the test. */
class SpeedTest {
    @Test
    fun `post-processing of a large map`() {
        val settings = Manifest.parse(GoldenFiles.manifest).settings
        val side = 960
        val map = FloatArray(side * side)
        // A hundred slanted strokes of 70 × 14 pixels.
        for (i in 0 until 100) {
            val (left, top) = 10 + 95 * (i % 10) to 10 + 95 * (i / 10)
            for (x in 0 until 70) for (y in 0 until 14) map[(top + y + x / 5) * side + left + x] = 0.9f
        }
        val size = Size(side, side)
        var boxes = emptyList<TextBox>()
        val median = measureMedianMs(20, 30) {
            boxes = findBoxes(ProbMap.ofProbs(map, size), size, settings.detection, settings.geometry)
        }
        assertEquals(100, boxes.size)
        println("speed: post-processing of 960×960 with 100 boxes: %.2f ms".format(median))
    }

    @Test
    fun `post-processing of a map of bytes`() {
        val settings = Manifest.parse(GoldenFiles.manifest).settings
        val size = Size(3000, 4000)
        val levels = ByteArray(size.height * size.width)
        for (i in 0 until 1000) {
            val (left, top) = 10 + 95 * (i % 40) to 10 + 95 * (i / 40)
            for (x in 0 until 70) for (y in 0 until 14) levels[(top + y + x / 5) * size.width + left + x] = -26
        }
        var boxes = emptyList<TextBox>()
        val median = measureMedianMs(3, 5) {
            boxes = findBoxes(ProbMap.ofLevels(levels, size), size, settings.detection, settings.geometry)
        }
        assertEquals(1000, boxes.size)
        println("speed: post-processing of 3000×4000 with 1000 boxes: %.2f ms".format(median))
    }

    @Test
    fun `decoding of a line`() {
        val classes = 6625
        val random = Random(5)
        val probs = FloatArray(40 * classes) { random.nextFloat() / classes }
        val charset = Charset(List(classes) { "x" }, 0)
        var length = 0
        val median = measureMedianMs(100, 100) { length += charset.decode(probs, 0, 40).text.length }
        assertTrue(length > 0)
        println("speed: CTC decoding of 40×6625: %.3f ms".format(median))
    }

    @Test
    fun `places of the characters of a line`() {
        val settings = Manifest.parse(GoldenFiles.manifest).settings.recognition
        val pixels = ByteArray(3 * 640 * 48) { i -> if (i / 1920 in 8..40 && i / 3 % 16 < 12) 0 else -1 }
        val line = BgrImage(640, 48, pixels)
        val steps = IntArray(40) { 2 * it }
        val ends = IntArray(40) { 2 * it + 1 }
        val decoded = DecodedText("", 0.0, List(40) { "x" }, FloatArray(40), steps, ends, 80)
        var count = 0
        val median = measureMedianMs(100, 100) { count += findSpans(decoded, line, 640, settings.words).texts.size }
        assertEquals(8000, count)
        println("speed: places of 40 characters in 48×640: %.3f ms".format(median))
    }

    private fun measureMedianMs(warmUp: Int, runs: Int, work: () -> Unit): Double {
        repeat(warmUp) { work() }
        return List(runs) {
            val start = System.nanoTime()
            work()
            (System.nanoTime() - start) / 1e6
        }.sorted()[runs / 2]
    }
}
