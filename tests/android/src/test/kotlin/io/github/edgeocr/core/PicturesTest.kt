package io.github.edgeocr.core

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.io.File
import java.nio.FloatBuffer
import kotlin.math.abs

/** A graph of a bundle, run by ONNX Runtime. */
private class OnnxEngine(model: File) : Engine {
    private val environment = OrtEnvironment.getEnvironment()
    private val session =
        environment.createSession(model.path, OrtSession.SessionOptions().apply { setIntraOpNumThreads(THREADS) })

    override fun run(input: Tensor): Tensor {
        val shape = LongArray(input.shape.size) { input.shape[it].toLong() }
        return OnnxTensor.createTensor(environment, FloatBuffer.wrap(input.data), shape).use { tensor ->
            session.run(mapOf(session.inputNames.single() to tensor)).use { result ->
                val output = result.single().value as OnnxTensor
                val values = output.floatBuffer
                val sides = output.info.shape.map(Long::toInt).toIntArray()
                Tensor(sides, FloatArray(values.remaining()).also(values::get))
            }
        }
    }

    private companion object {
        const val THREADS = 2
    }
}

/**
 * Reads pictures with real networks and compares the lines with the host's, which ran the same networks.
 *
 * benchmarks/android.py makes the folder in the property `pictures`.
 */
class PicturesTest {
    private val folder = File(System.getProperty("pictures"))
    private val cases = JSONObject(File(folder, "cases.json").readText())
    private val bundle = File(cases.getString("bundle"))
    private val manifest = JSONObject(File(bundle, Manifest.FILE).readText())
    private val charset = manifest.getJSONObject("charset").let { fields ->
        val dictionary = File(bundle, fields.getString("file")).readText()
        Charset.parse(dictionary, fields.getInt("classes"), fields.getInt("blank_index"))
    }

    private fun open(charset: Charset): TextReader {
        val fields = JsonFields(manifest, "${Manifest.FILE}: ")
        val settings = Settings.read(fields.getFields("settings"), fields.getFields("constants"))
        val (det, rec, cls) = listOf("det", "rec", "cls").map { kind ->
            OnnxEngine(File(bundle, fields.getFields("onnx").getFields(kind).getText("file")))
        }
        return TextReader(
            TextDetector(det, settings),
            TextRecognizer(rec, charset, settings.recognition),
            OrientationClassifier(cls, settings.orientation),
            settings,
        )
    }

    /** Number of the host's lines, how many have the same text, and the largest corner distance of these in pixels. */
    private class Comparison(val wanted: Int, val found: Int, val differences: List<String>, val cornerPx: Float) {
        val equal get() = wanted - differences.size
    }

    private fun compare(reader: TextReader, case: JSONObject): Comparison {
        val pixels = File(folder, case.getString("pixels")).readBytes()
        val found = reader.read(BgrImage(case.getInt("width"), case.getInt("height"), pixels)).lines.toMutableList()
        val (count, wanted) = found.size to case.items("lines")
        val differences = ArrayList<String>()
        var worst = 0f
        for (line in wanted) {
            val (polygon, text) = line.rows("polygon") to line.getString("text")
            // If a corner moves, rows may change their order.
            val near = found.minByOrNull { measureDistance(it.polygon, polygon) }?.also(found::remove)
            if (near?.text == text) {
                worst = maxOf(worst, measureDistance(near.polygon, polygon))
            } else {
                differences += "read ${near?.text}, expected $text"
            }
        }
        return Comparison(wanted.size, count, differences, worst)
    }

    private fun measureDistance(a: FloatArray, b: FloatArray) = a.indices.maxOf { abs(a[it] - b[it]) }

    @Test
    fun `texts are the host's`() {
        val reader = open(charset)
        val comparisons = cases.items("pictures").map { case ->
            val name = case.getString("name")
            compare(reader, case).also {
                println("| $name | ${it.wanted} | ${it.found} | ${it.equal} | ${it.cornerPx} |")
                for (difference in it.differences) println("$name: $difference")
            }
        }
        val lines = comparisons.sumOf { maxOf(it.wanted, it.found) }
        val share = comparisons.sumOf { it.equal }.toDouble() / lines
        val shown = "%.2f %%".format(100 * share)
        println("| ${comparisons.size} pictures | $lines | | $shown | ${comparisons.maxOf { it.cornerPx }} |")
        assertTrue(share >= MIN_SHARE, shown)
    }

    @Test
    fun `another dictionary is noticed`() {
        val classes = List(charset.size) { "$it" }
        val case = cases.items("pictures").first { it.getJSONArray("lines").length() > 0 }
        assertEquals(0, compare(open(Charset(classes, 0)), case).equal)
    }

    private companion object {
        const val MIN_SHARE = 0.99
    }
}
