package io.github.edgeocr.core

import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory
import java.util.concurrent.CancellationException
import kotlin.math.abs

class TextReaderTest {
    private val expected = GoldenFiles.expected.items("cases").associateBy { it.getString("name") }
    private val cases = GoldenFiles.recorded.items("cases")
    private val stride = GoldenFiles.expected.getInt("crop_stride")

    @TestFactory
    fun `pictures read as on the host`(): List<DynamicTest> = cases.map { case ->
        dynamicTest(case.getString("name")) {
            val wanted = expected.getValue(case.getString("name"))
            val image = GoldenFiles.readView(case)
            val timings = LinkedHashMap<String, Double>()
            val lines = openReader(case).readAll(image, timings) { false }
            assertEquals(wanted.items("lines").map { it.getString("text") }, lines.map { it.text })
            wanted.items("lines").zip(lines) { row, line ->
                assertEquals(row.getDouble("rec_score"), line.recScore, 1e-4)
            }
            assertEquals(listOf("detection", "crop", "orientation", "recognition"), timings.keys.toList())
            val reading = openReader(case).read(image)
            assertEquals(wanted.getJSONArray("read").toList(), reading.lines.map { it.text })
        }
    }

    @TestFactory
    fun `crops are the host's`(): List<DynamicTest> = cases.map { case ->
        val name = case.getString("name")
        dynamicTest(name) {
            val image = GoldenFiles.readView(case)
            val settings = GoldenFiles.readSettings(case).geometry
            val row = expected.getValue(name)
            val pixels = GoldenFiles.readBytes("$name.crops")
            var place = 0
            var worst = 0.0
            row.items("boxes").forEachIndexed { i, box ->
                val crop = cropPolygon(image, box.rows("polygon"), settings)
                val (height, width) = row.getJSONArray("crops").getJSONArray(i).map { it as Int }
                assertEquals(height to width, crop.height to crop.width, "crop $i")
                var sum = 0
                var count = 0
                for (y in 0 until height step stride) {
                    for (x in 0 until width step stride) {
                        for (channel in 0 until 3) {
                            val found = crop.pixels[3 * (y * width + x) + channel].toInt() and 0xFF
                            sum += abs(found - (pixels[place++].toInt() and 0xFF))
                            count++
                        }
                    }
                }
                worst = maxOf(worst, sum.toDouble() / count)
            }
            assertEquals(pixels.size, place)
            assertTrue(worst <= MAX_CROP_DIFF, "$worst of 255")
            if (place > 0) println("$name: crops within ${"%.3f".format(worst)} of 255 on average")
        }
    }

    @Test
    fun `another dictionary reads other texts`() {
        val case = cases[0]
        val swapped = GoldenFiles.classes.map { mapOf("A" to "B", "B" to "A")[it] ?: it }
        val lines = openReader(case, swapped).read(GoldenFiles.readView(case)).lines
        assertTrue(lines.map { it.text } != expected.getValue("label").getJSONArray("read").toList())
    }

    @Test
    fun `a reading can be cancelled at each step`() {
        val case = cases.first { it.getString("name") == "sign" }
        val image = GoldenFiles.readView(case)
        var asked = 0
        openReader(case).read(image, { asked++; false })
        assertTrue(asked > 5)
        for (step in 0 until asked) {
            var left = step
            assertThrows(CancellationException::class.java) { openReader(case).read(image, { left-- == 0 }) }
        }
    }

    @Test
    fun `a reading can be cancelled between windows`() {
        val case = cases.first { it.getString("name") == "wide" }
        val image = GoldenFiles.readView(case)
        val maps = GoldenFiles.readMap("wide.det")
        val count = case.items("runs").count { it.getString("model") == "det" }
        assertTrue(count > 4)
        for (last in 1 until count) {
            var runs = 0
            val replay = ReplayEngine(case, "det", maps)
            val reader = openReader(case, det = { runs++; replay.run(it) })
            assertThrows(CancellationException::class.java) { reader.read(image, { runs == last }) }
            assertEquals(last, runs)
        }
    }

    @Test
    fun `a strip is detected with its border`() {
        val case = cases.first { it.getString("name") == "strip" }
        val settings = GoldenFiles.readSettings(case)
        val bare = settings.copy(border = settings.border.copy(pixels = 0))
        val error = assertThrows(IllegalStateException::class.java) {
            openReader(case, settings = bare).read(GoldenFiles.readView(case))
        }
        assertEquals("the input is [1, 3, 32, 352], recorded was [1, 3, 64, 384]", error.message)
    }

    @Test
    fun `polygons of a framed picture are inside the picture`() {
        val settings = GoldenFiles.readSettings(cases[0])
        // A box as large as the frame, then one of the same height.
        val rec = Engine { Tensor(intArrayOf(1, 1, 2), floatArrayOf(0f, 1f)) }
        for ((columns, polygon) in listOf(
            0..255 to listOf(0f, 0f, 216f, 0f, 216f, 24f, 0f, 24f),
            64..127 to listOf(20f, 0f, 131f, 0f, 131f, 24f, 20f, 24f),
        )) {
            val det = Engine { input ->
                assertEquals(listOf(1, 3, 64, 256), input.shape.toList())
                Tensor(intArrayOf(1, 1, 64, 256), FloatArray(64 * 256) { if (it % 256 in columns) 1f else 0f })
            }
            val reader = TextReader(
                TextDetector(det, settings),
                TextRecognizer(rec, Charset(listOf("", "a"), 0), settings.recognition),
                null,
                settings,
            )
            val line = reader.read(BgrImage(216, 24, ByteArray(3 * 216 * 24))).lines.single()
            assertEquals(polygon, line.polygon.toList())
        }
    }

    @Test
    fun `a recogniser of other classes is refused`() {
        val case = cases[0]
        val error = assertThrows(BundleException::class.java) {
            openReader(case, GoldenFiles.classes.dropLast(1)).read(GoldenFiles.readView(case))
        }
        assertTrue("expected 1×T×${GoldenFiles.classes.size - 1}" in error.message!!, error.message)
    }

    @Test
    fun `vertical lines are read both ways if the first reading is unsure`() {
        val settings = GoldenFiles.readSettings(cases[0])
        // A column of text, then two readings of one step; the second may be better.
        val probs = FloatArray(96 * 96) { if (it % 96 in 40..52 && it / 96 in 20..75) 1f else 0f }
        val map = Tensor(intArrayOf(1, 1, 96, 96), probs)
        val readings = listOf(Triple(0.7f, 0.9f, "b"), Triple(0.7f, 0.75f, "a"), Triple(0.86f, 1f, "a"))
        for ((first, second, text) in readings) {
            var runs = 0
            val recognizer = Engine {
                val steps = if (runs++ == 0) floatArrayOf(0f, first, 0f) else floatArrayOf(0f, 0f, second)
                Tensor(intArrayOf(1, 1, 3), steps)
            }
            val reader = TextReader(
                TextDetector({ map }, settings.copy(detection = settings.detection.copy(limitSideLen = 96))),
                TextRecognizer(recognizer, Charset(listOf("", "a", "b"), 0), settings.recognition),
                null,
                settings,
            )
            assertEquals(listOf(text), reader.read(BgrImage(96, 96, ByteArray(3 * 96 * 96))).lines.map { it.text })
            assertEquals(if (first < settings.orientation.unsureScore) 2 else 1, runs)
        }
    }

    @Test
    fun `lines that score too low are left out`() {
        val case = JSONObject(cases[0].toString())
        case.getJSONObject("settings").getJSONObject("recognition").put("text_score", 1.01)
        assertTrue(openReader(case).read(GoldenFiles.readView(case)).lines.isEmpty())
    }

    private companion object {
        const val MAX_CROP_DIFF = 2.0
    }
}
