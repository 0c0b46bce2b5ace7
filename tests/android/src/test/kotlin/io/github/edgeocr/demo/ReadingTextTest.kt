package io.github.edgeocr.demo

import android.content.ClipboardManager
import android.content.ContextWrapper
import android.content.Intent
import android.os.RemoteException
import android.os.TransactionTooLargeException
import io.github.edgeocr.core.GoldenFiles
import io.github.edgeocr.core.Reading
import io.github.edgeocr.core.TextLine
import io.github.edgeocr.core.Word
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Test
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadows.ShadowToast

class ReadingTextTest : DemoTest() {
    private val first = TextLine(floatArrayOf(1.9f, 2f, 9f, 2f, 9f, 5f, 1f, 5f), 0.75, "山茶书店", 0.5)
    private val second = TextLine(FloatArray(8), 0.625, "a \"b\"\\", 0.25)
    private val reading = Reading(listOf(first, second), emptyMap())

    @Test
    fun `texts are on separate lines`() {
        assertEquals("山茶书店\na \"b\"\\", reading.lines.toText())
        assertEquals("", emptyList<TextLine>().toText())
    }

    private fun makeBox(left: Int, top: Int, right: Int, bottom: Int) =
        listOf(left, top, right, top, right, bottom, left, bottom).map(Int::toFloat).toFloatArray()

    private fun makeWords(text: String, top: Int, vararg words: String) = TextLine(
        makeBox(0, top, 100 * words.size, top + 20),
        0.9,
        text,
        0.9,
        words.mapIndexed { i, word -> Word(word, 0.9, makeBox(100 * i, top, 100 * i + 90, top + 20), emptyList()) },
    )

    @Test
    fun `words are selected by their middles and keep what is between them`() {
        val lines = listOf(
            makeWords("one, two  two", 0, "one,", "two", "two"),
            makeWords("书店在here", 30, "书", "店", "在", "here"),
            TextLine(makeBox(0, 60, 300, 80), 0.9, "no words", 0.9),
        )
        fun select(left: Int, top: Int, right: Int, bottom: Int) =
            lines.select(left.toFloat(), top.toFloat(), right.toFloat(), bottom.toFloat())

        val all = select(0, 0, 400, 80)
        assertEquals(lines.toText(), all.text)
        assertEquals(8, all.polygons.size)
        assertEquals("two  two\n店在\nno words", select(100, 0, 290, 80).text)
        assertEquals("one, two\n书店\nno words", select(40, 5, 160, 75).text)
        assertEquals(listOf(lines[0].words!![2].polygon), select(240, 5, 300, 25).polygons)
        assertEquals("", select(50, 12, 400, 38).text)
        assertEquals(emptyList<FloatArray>(), select(400, 0, 500, 90).polygons)
        // A column that bends: words in between are not selected.
        val (first, _, last) = lines[0].words!!
        val bent = Word("two", 0.9, makeBox(100, 40, 190, 60), emptyList())
        val line = TextLine(lines[0].polygon, 0.9, "one, two  two", 0.9, listOf(first, bent, last))
        assertEquals("one, two", listOf(line).select(0f, 0f, 300f, 20f).text)
    }

    @Test
    fun `JSON has the host's keys and whole pixels`() {
        val json = JSONObject(reading.toJson(640, 480).toString())
        val keys = listOf("image_width", "image_height", "dt_polys", "dt_scores", "rec_text", "rec_score")
        assertEquals(keys.toSet(), json.keys().asSequence().toSet())
        assertEquals("[[[1,2],[9,2],[9,5],[1,5]],[[0,0],[0,0],[0,0],[0,0]]]", json.getJSONArray("dt_polys").toString())
        assertEquals("[0.75,0.625]", json.getJSONArray("dt_scores").toString())
        assertEquals("[0.5,0.25]", json.getJSONArray("rec_score").toString())
        assertEquals(first.text, json.getJSONArray("rec_text").getString(0))
        assertEquals(second.text, json.getJSONArray("rec_text").getString(1))
        assertEquals(640, json.getInt("image_width"))
        assertEquals(480, json.getInt("image_height"))
        val host = GoldenFiles.folder.resolve("../../edge_ocr/core/types.py").readText()
        for (key in keys.drop(2)) assert("\"$key\": " in host) { "the host has no key $key" }
    }

    @Test
    fun `lines of a downsampled picture are scaled to its file`() {
        val scaled = reading.scale(4f, 2f)
        assertEquals(listOf(7.6f, 4f, 36f, 4f, 36f, 10f, 4f, 10f), scaled.lines[0].polygon.toList())
        assertEquals(reading.lines.map { it.text to it.recScore }, scaled.lines.map { it.text to it.recScore })
        assertEquals(1.9f, first.polygon[0])
    }

    @Test
    fun `words are scaled and written if there are some`() {
        val words = listOf(Word("山茶", 0.75, floatArrayOf(2.5f, 2f, 4.6f, 1f, 4f, 5f, 1f, 5f), emptyList()))
        val line = TextLine(first.polygon, 0.75, "山茶", 0.5, words)
        val scaled = Reading(listOf(line, second), emptyMap()).scale(4f, 2f)
        assertEquals(listOf(10f, 4f, 18.4f, 2f, 16f, 10f, 4f, 10f), scaled.lines[0].words!![0].polygon.toList())
        val json = scaled.toJson(640, 480)
        val wanted = mapOf(
            "text_word" to "[[\"山茶\"],[]]",
            "text_word_region" to "[[[[10,4],[18,2],[16,10],[4,10]]],[]]",
            "text_word_boxes" to "[[[4,2,18,10]],[]]",
            "text_word_score" to "[[0.75],[]]",
        )
        for ((key, value) in wanted) assertEquals(value, json.getJSONArray(key).toString())
    }

    @Test
    fun `the angle of the page is kept and written if there is one`() {
        val turned = Reading(listOf(first), emptyMap(), 270).scale(4f, 2f)
        assertEquals(270, turned.toJson(640, 480).getInt("page_angle"))
        assertEquals(0, Reading(emptyList(), emptyMap(), 0).toJson(640, 480).getInt("page_angle"))
        assertFalse(reading.scale(4f, 2f).toJson(640, 480).has("page_angle"))
        assert("\"page_angle\": " in GoldenFiles.folder.resolve("../../edge_ocr/core/types.py").readText())
    }

    @Test
    fun `a text is copied completely and shared by an app of the user's choice`() {
        copyText(app, "a\nb")
        val clipboard = app.getSystemService(ClipboardManager::class.java)
        assertEquals("a\nb", "${clipboard.primaryClip?.getItemAt(0)?.text}")
        val controller = start<MainActivity>()
        shareText(controller.get(), "a\nb")
        val chooser = shadowOf(app).nextStartedActivity
        assertEquals(Intent.ACTION_CHOOSER, chooser.action)
        val send = chooser.getParcelableExtra(Intent.EXTRA_INTENT, Intent::class.java)!!
        assertEquals(Intent.ACTION_SEND to "text/plain", send.action to send.type)
        assertEquals("a\nb", send.getStringExtra(Intent.EXTRA_TEXT))
    }

    @Test
    fun `a text that is too long for the system is reported`() {
        fun failWith(cause: Exception) = object : ContextWrapper(app) {
            override fun startActivity(intent: Intent) = throw RuntimeException("Failure from system", cause)
        }
        shareText(failWith(TransactionTooLargeException()), "long")
        assertEquals(app.getString(R.string.too_long), ShadowToast.getTextOfLatestToast())
        assertThrows(RuntimeException::class.java) { shareText(failWith(RemoteException()), "short") }
    }
}
