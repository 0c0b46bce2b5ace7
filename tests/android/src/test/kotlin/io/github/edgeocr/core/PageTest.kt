package io.github.edgeocr.core

import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class PageTest {
    private val expected = GoldenFiles.expected
    private val settings = Manifest.parse(GoldenFiles.manifest).settings

    private fun readSettings(row: JSONObject) = Settings.readPageOrientation(
        JsonFields(row.getJSONObject("settings"), "settings"),
        GoldenFiles.constants.getFields("page_orientation"),
    )

    @Test
    fun `inputs are the host's`() {
        for (row in expected.items("page_inputs")) {
            val wanted = GoldenFiles.readTensor(row.getString("name"))
            val upright = turnUpright(GoldenFiles.readView(row), row.getInt("quarters"))
            val found = preparePage(upright, readSettings(row))
            assertArrayEquals(wanted.shape, found.shape, "$row")
            assertArrayEquals(wanted.data, found.data, 1e-5f, "$row")
        }
        val row = expected.items("page_inputs")[0]
        val wanted = GoldenFiles.readTensor(row.getString("name")).data.toList()
        val view = GoldenFiles.readView(row)
        for (changed in listOf(
            readSettings(row).copy(resizeShort = 70),
            readSettings(row).copy(normalization = settings.orientation.normalization),
            readSettings(row).copy(maxViewRatio = 1),
        )) {
            assertNotEquals(wanted, preparePage(view, changed).data.toList(), "$changed")
        }
    }

    @Test
    fun `decisions are the host's`() {
        for (row in expected.items("page_turns")) {
            val probs = row.getJSONArray("probs").elements().map { (it as Number).toFloat() }.toFloatArray()
            val classifier = PageClassifier({ Tensor(intArrayOf(1, 4), probs) }, readSettings(row))
            val found = classifier.findTurns(BgrImage(20, 30, ByteArray(1800)))
            assertEquals(row.getInt("turns"), found.turns, "$row")
            assertEquals(row.getBoolean("is_certain"), found.isCertain, "$row")
        }
    }

    @Test
    fun `polygons are mapped back as on the host`() {
        for (row in expected.items("page_polygons")) {
            val found = turnBack(row.rows("polygon"), row.getInt("turns"), Size(300, 200))
            assertArrayEquals(row.rows("back"), found, "$row")
        }
    }

    @Test
    fun `lines choose the turns as on the host`() {
        for (row in expected.items("page_choices")) {
            val lines = row.items("lines").map {
                BothWays(it.rows("polygon"), it.getDouble("score"), it.getDouble("other"))
            }
            val turns = if (row.isNull("turns")) null else row.getInt("turns")
            assertEquals(turns, chooseTurns(lines, 0.5, settings), "$row")
        }
    }

    @Test
    fun `a network with another output is refused`() {
        val classifier = PageClassifier({ Tensor(intArrayOf(1, 2), FloatArray(2)) }, settings.pageOrientation)
        val error = assertThrows(BundleException::class.java) { classifier.findTurns(BgrImage(1, 1, ByteArray(3))) }
        assertTrue("1×2" in error.message!!, error.message)
    }

    /** A classifier that always returns the same probs. */
    private fun classify(vararg probs: Float) =
        PageClassifier({ Tensor(intArrayOf(1, 4), probs) }, settings.pageOrientation)

    @Test
    fun `an upright page is read as without the classifier`() {
        val case = GoldenFiles.recorded.items("cases").first { it.getString("name") == "sign" }
        val image = GoldenFiles.readView(case)
        val plain = openReader(case).read(image)
        val found = openReader(case, pageClassifier = classify(0.97f, 0.01f, 0.01f, 0.01f)).read(image)
        assertNull(plain.pageAngle)
        assertEquals(0, found.pageAngle)
        assertEquals(plain.lines.map { it.text }, found.lines.map { it.text })
        assertTrue("page_orientation" in found.timingsMs)
    }

    /** Reads a page of 100 × 300 px that seems turned by 90°; its line reads well in the [legible]-th run. */
    private fun readTurned(legible: Int): Reading {
        val det = Engine { input ->
            val (height, width) = input.shape[2] to input.shape[3]
            val map = FloatArray(height * width) { i ->
                if (i / width in height * 2 / 5..height * 3 / 5 && i % width in width / 5..width * 4 / 5) 1f else 0f
            }
            Tensor(intArrayOf(1, 1, height, width), map)
        }
        var runs = 0
        val rec = Engine {
            val isRead = runs++ == legible || (runs > 2 && legible < 2)
            Tensor(intArrayOf(1, 1, 2), if (isRead) floatArrayOf(0f, 0.9f) else floatArrayOf(0.9f, 0f))
        }
        val recognizer = TextRecognizer(rec, Charset(listOf("", "a"), 0), settings.recognition)
        val reader = TextReader(TextDetector(det, settings), recognizer, null, settings, classify(0f, 0.9f, 0.1f, 0f))
        return reader.read(BgrImage(100, 300, ByteArray(90_000)))
    }

    @Test
    fun `a turned page is read upright, and its polygons are those of the picture`() {
        for ((legible, angle) in listOf(0 to 90, 1 to 270)) {
            val reading = readTurned(legible)
            assertEquals(angle, reading.pageAngle)
            val polygon = reading.lines.single().polygon
            // The line runs down, or up, in the picture.
            assertEquals(if (angle == 90) 1 else -1, (polygon[3] - polygon[1]).compareTo(0f))
            assertEquals(polygon[0], polygon[2])
        }
    }

    @Test
    fun `without a legible line, the picture stays as it is`() {
        val reading = readTurned(legible = 9)
        assertEquals(0, reading.pageAngle)
        assertEquals(emptyList<String>(), reading.lines.map { it.text })
    }
}
