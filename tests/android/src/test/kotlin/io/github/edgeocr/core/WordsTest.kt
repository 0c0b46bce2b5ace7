package io.github.edgeocr.core

import org.json.JSONArray
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory
import kotlin.math.abs

class WordsTest {
    private val expected = GoldenFiles.expected
    private val manifest = Manifest.parse(GoldenFiles.manifest).settings
    private val settings = manifest.recognition

    private fun find(row: JSONObject, changed: WordSettings = settings.words): CharacterSpans {
        val name = row.getString("name")
        val (height, width) = GoldenFiles.readShape(name).toList()
        val pieces = row.getJSONArray("pieces").elements().map { it as String }
        fun read(key: String) = row.getJSONArray(key).elements().map { it as Int }.toIntArray()
        val scores = row.getJSONArray("scores").numbers().map { it.toFloat() }.toFloatArray()
        val decoded = DecodedText("", 0.0, pieces, scores, read("starts"), read("ends"), row.getInt("steps"))
        return findSpans(decoded, BgrImage(width, height, GoldenFiles.readBytes(name)), row.getInt("width"), changed)
    }

    private fun CharacterSpans.listEdges() = lefts.zip(rights) { left, right -> listOf(left, right) }.flatten()

    private fun assertSpans(row: JSONObject, found: CharacterSpans) {
        assertEquals(row.getJSONArray("texts").elements(), found.texts)
        assertArrayEquals(listEdges(row), found.listEdges().toDoubleArray(), 1e-3)
        assertArrayEquals(row.getJSONArray("ink").numbers(), doubleArrayOf(found.top, found.bottom))
    }

    private fun listEdges(row: JSONObject) =
        row.getJSONArray("edges").elements().flatMap { (it as JSONArray).numbers().toList() }.toDoubleArray()

    @TestFactory
    fun `characters are where the host finds them`(): List<DynamicTest> = expected.items("word_spans").map { row ->
        dynamicTest(row.getString("name")) { assertSpans(row, find(row)) }
    }

    @Test
    fun `each constant counts`() {
        val words = settings.words
        for (changed in listOf(
            words.copy(inkShare = 0.95),
            words.copy(leastInk = 255),
            words.copy(cutPull = 50.0),
            words.copy(reach = 0.1),
        )) {
            val found = expected.items("word_spans").map { find(it, changed).listEdges() }
            assertNotEquals(expected.items("word_spans").map { listEdges(it).toList() }, found, "$changed")
        }
    }

    /** CharacterSpans of 10 pixels for each character of a text, spaces included. */
    private fun makeSpans(text: String): CharacterSpans {
        val characters = text.codePoints().toArray().map { String(java.lang.Character.toChars(it)) }
        val places = characters.indices.filter { characters[it].isNotBlank() }
        return CharacterSpans(
            places.indices.map { place ->
                val start = if (place == 0) 0 else places[place]
                characters.subList(start, places.getOrElse(place + 1) { characters.size }).joinToString("")
            },
            places.map { 0.9 },
            places.map { 10.0 * it },
            places.map { 10.0 * it + 8 },
            8.0 + characters.size,
            40.0,
        )
    }

    @Test
    fun `characters of parts are joined as on the host`() {
        for (row in expected.items("joined_spans")) {
            val texts = row.getJSONArray("texts").elements().map { it as String }
            val parts = row.getJSONArray("before_space").elements().map {
                Part(BgrImage(100, 48, ByteArray(3 * 100 * 48)), it as Boolean)
            }
            val joined = joinReadings(parts, texts.map { LineText(it, 0.9, makeSpans(it)) })
            assertEquals(row.getString("text"), joined.text)
            assertSpans(row.getJSONObject("joined"), joined.spans!!)
        }
    }

    @TestFactory
    fun `words are the host's`(): List<DynamicTest> = expected.items("words").map { row ->
        dynamicTest("${row.getString("text")} ${row.getString("cjk_words")}") {
            val text = row.getString("text")
            val spans = makeSpans(text)
            val changed = settings.copy(
                isRightToLeft = row.getString("direction") == "rtl",
                joinsCjk = row.getString("cjk_words") == "run",
            )
            val words = row.getJSONArray("words").elements().map { word ->
                (word as JSONArray).elements().map { (it as JSONArray).let { Letter(it.getInt(0), it.getString(1)) } }
            }
            assertEquals(words, findWords(spans, changed))
            val polygon = row.rows("polygon")
            val isVertical = isVertical(measureSides(polygon), manifest.geometry)
            val crop = PlacedCrop(polygon, isVertical, row.getBoolean("is_turned"))
            val size = Size(48, maxOf(1, 10 * text.codePointCount(0, text.length)))
            val found = placeWords(LineText(text, 0.9, spans, size), changed, crop, { it }, true)
            val differences = ArrayList<Double>()
            compare(row.items("placed"), found, differences)
            assertTrue(differences.all { it <= MAX_DIFF }, "$differences")
            val bare = placeWords(LineText(text, 0.9, spans, size), changed, crop, { it }, false)
            assertEquals(found.map { it.polygon.toList() }, bare.map { it.polygon.toList() })
            assertTrue(bare.all { it.characters.isEmpty() })
        }
    }

    /** Compares all but polygons, whose largest differences in pixels are added to [differences]. */
    private fun compare(rows: List<JSONObject>, found: List<Word>, differences: MutableList<Double>) {
        fun measure(row: JSONObject, polygon: FloatArray) {
            differences += row.rows("polygon").zip(polygon.toTypedArray()) { a, b -> abs(a - b).toDouble() }.max()
        }
        assertEquals(rows.map { it.getString("text") }, found.map { it.text })
        rows.zip(found) { row, word ->
            assertEquals(row.getDouble("score"), word.score, 1e-4)
            measure(row, word.polygon)
            val characters = row.items("characters")
            assertEquals(characters.map { it.getString("text") }, word.characters.map { it.text })
            characters.zip(word.characters) { wanted, character ->
                assertEquals(wanted.getDouble("score"), character.score, 1e-4)
                measure(wanted, character.polygon)
            }
        }
    }

    @Test
    fun `words of pictures are the host's`() {
        val differences = ArrayList<Double>()
        for (case in GoldenFiles.recorded.items("cases")) {
            val row = expected.items("cases").first { it.getString("name") == case.getString("name") }
            val lines = openReader(case).read(GoldenFiles.readView(case), returnWords = ReturnWords.CHARS).lines
            val words = row.getJSONArray("words").elements().map { line ->
                (line as JSONArray).elements().map { it as JSONObject }
            }
            assertEquals(words.size, lines.size)
            words.zip(lines) { wanted, line -> compare(wanted, line.words!!, differences) }
        }
        println("words: ${differences.size} polygons within ${"%.3f".format(differences.max())} px")
        assertTrue(differences.size > 300)
        assertTrue(differences.max() <= MAX_DIFF, "${differences.max()}")
    }

    @Test
    fun `lines have what was requested`() {
        val case = GoldenFiles.recorded.items("cases")[0]
        val image = GoldenFiles.readView(case)
        assertTrue(openReader(case).read(image).lines.all { it.words == null })
        val words = openReader(case).read(image, returnWords = ReturnWords.WORDS).lines.flatMap { it.words!! }
        assertTrue(words.isNotEmpty() && words.all { it.text.isNotEmpty() && it.characters.isEmpty() })
        // The settings apply by default.
        val changed = GoldenFiles.readSettings(case).let {
            it.copy(recognition = it.recognition.copy(returnWords = ReturnWords.CHARS))
        }
        val all = openReader(case, settings = changed).read(image).lines.flatMap { it.words!! }
        assertEquals(words.map { it.text }, all.map { word -> word.characters.joinToString("") { it.text } })
    }

    private companion object {
        const val MAX_DIFF = 0.05
    }
}
