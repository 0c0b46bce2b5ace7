package io.github.edgeocr.core

import org.json.JSONArray
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class RecognitionTest {
    private val expected = GoldenFiles.expected
    private val settings = Manifest.parse(GoldenFiles.manifest).settings.recognition

    private fun cut(row: JSONObject, changed: RecognitionSettings): List<Part> =
        cutLine(resizeLine(GoldenFiles.readView(row), changed.imageHeight), changed)

    private fun wantParts(row: JSONObject) =
        row.getJSONArray("parts").map { part -> (part as JSONArray).let { it.getInt(0) to it.getBoolean(1) } }

    @Test
    fun `long lines are cut as on the host`() {
        val rows = expected.items("cuts")
        for (row in rows) {
            val parts = cut(row, settings)
            assertEquals(wantParts(row), parts.map { it.line.width to it.beforeSpace }, "$row")
            // The parts make up the line.
            val line = resizeLine(GoldenFiles.readView(row), settings.imageHeight)
            val pixels = (0 until line.height).flatMap { y ->
                parts.flatMap { it.line.pixels.slice(3 * it.line.width * y until 3 * it.line.width * (y + 1)) }
            }
            assertEquals(line.pixels.toList(), pixels)
        }
        for (changed in listOf(
            settings.copy(maxWidth = 7000),
            settings.copy(partWidth = 1900),
            settings.copy(cutReach = 20),
            settings.copy(cutRange = 200),
            settings.copy(spaceRatio = 20.0),
        )) {
            val found = rows.map { row -> cut(row, changed).map { it.line.width to it.beforeSpace } }
            assertNotEquals(rows.map(::wantParts), found, "$changed")
        }
    }

    @Test
    fun `texts of parts are joined as on the host`() {
        for (row in expected.items("joins")) {
            val pieces = row.getJSONArray("pieces").map { it as JSONArray }
            val joined = join(*pieces.map { Triple(it.getString(0), it.getDouble(1), it.getBoolean(2)) }.toTypedArray())
            assertEquals(row.getString("text"), joined.text)
            assertEquals(row.getDouble("score"), joined.score, 1e-5)
        }
    }

    @Test
    fun `text of a right-to-left line has the host's order`() {
        for (row in expected.items("directions")) {
            assertEquals(row.getString("logical"), orderLogically(row.getString("visual")))
        }
    }

    @Test
    fun `Arabic is decoded as on the host`() {
        val line = BgrImage(300, 48, ByteArray(3 * 300 * 48))
        for (row in expected.items("arabic")) {
            val probs = GoldenFiles.readTensor(row.getString("name"))
            val engine = Engine { Tensor(intArrayOf(1, probs.shape[0], probs.shape[1]), probs.data) }
            val charset = Charset(row.getJSONArray("classes").map { it as String }, 0)
            val read = TextRecognizer(engine, charset, settings.copy(isRightToLeft = true)).recognize(listOf(line))
            assertEquals(row.getString("text"), read.single().text)
            assertEquals(row.getDouble("score"), read.single().score, 1e-4)
        }
    }

    private fun join(vararg pieces: Triple<String, Double, Boolean>): LineText {
        val line = BgrImage(1, 1, ByteArray(3))
        return joinReadings(pieces.map { Part(line, it.third) }, pieces.map { LineText(it.first, it.second) })
    }

    @Test
    fun `a character outside the basic plane counts once and takes no space`() {
        val joined = join(Triple("𠮷𠮷", 0.25, true), Triple("a", 1.0, false))
        assertEquals("𠮷𠮷a" to 0.5, joined.text to joined.score)
    }

    @Test
    fun `a line that is too wide is read in parts`() {
        // Strokes of 300 pixels with gaps of 100 between them.
        val line = BgrImage(
            3300,
            48,
            ByteArray(3 * 3300 * 48) { i -> if (i / 9900 in 10..37 && i / 3 % 3300 % 400 < 300) 0 else -1 },
        )
        val narrow = BgrImage(100, 48, ByteArray(3 * 100 * 48))
        val widths = ArrayList<Int>()
        val engine = Engine { input ->
            widths += input.shape[3]
            val probs = if (widths.size == 1) floatArrayOf(0f, 0.5f, 0f) else floatArrayOf(0f, 0f, 0.75f)
            Tensor(intArrayOf(1, 1, 3), probs)
        }
        val recognizer = TextRecognizer(engine, Charset(listOf("", "a", "b"), 0), settings)
        val readings = recognizer.recognize(listOf(line, narrow), locate = true)
        assertEquals(listOf("b b" to 0.75, "a" to 0.5), readings.map { it.text to it.score })
        assertEquals(listOf(Size(48, 3300), Size(48, 100)), readings.map { it.size })
        // In the middle of each part, but for the gaps between strokes.
        val spans = readings[0].spans!!
        assertEquals(listOf("b", " b"), spans.texts)
        spans.lefts.zip(listOf(0.0, 1550.0)) { left, start -> assertTrue(left in start..start + 900, "$left") }
        assertEquals(listOf(320, 1600, 1792), widths)
    }
}
