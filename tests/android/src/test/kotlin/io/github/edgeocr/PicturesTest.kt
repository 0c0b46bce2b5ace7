package io.github.edgeocr

import io.github.edgeocr.core.BgrImage
import io.github.edgeocr.core.Manifest
import io.github.edgeocr.core.items
import io.github.edgeocr.core.rows
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import kotlin.math.abs

/** What benchmarks/android.py wrote into the folder in the property `pictures`: bundles, and what the host read. */
internal object Cases {
    private val folder = File(System.getProperty("pictures"))

    val bundles: List<JSONObject> = JSONObject(File(folder, "cases.json").readText()).items("bundles")

    fun findFolder(bundle: JSONObject) = File(bundle.getString("folder"))

    fun readPixels(case: JSONObject) =
        BgrImage(case.getInt("width"), case.getInt("height"), File(folder, case.getString("pixels")).readBytes())
}

/** Reads pictures with real networks and ONNX Runtime, and compares the lines with the host's. */
class PicturesTest {
    /** Number of the host's lines, how many have the same text, and the largest corner distance of these in pixels. */
    private class Comparison(val wanted: Int, val found: Int, val differences: List<String>, val cornerPx: Float) {
        val equal get() = wanted - differences.size
    }

    private fun open(folder: File) = EdgeOcr.open(folder, OcrOptions(threads = 2, engine = EngineKind.ONNXRUNTIME))

    private fun compare(ocr: EdgeOcr, case: JSONObject): Comparison {
        val found = ocr.recognize(Cases.readPixels(case)).lines.toMutableList()
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
        for (bundle in Cases.bundles) {
            val name = bundle.getString("name")
            val comparisons = open(Cases.findFolder(bundle)).use { ocr ->
                bundle.items("pictures").map { case ->
                    val picture = case.getString("name")
                    compare(ocr, case).also {
                        println("| $name | $picture | ${it.wanted} | ${it.found} | ${it.equal} | ${it.cornerPx} |")
                        for (difference in it.differences) println("$name, $picture: $difference")
                    }
                }
            }
            val lines = comparisons.sumOf { maxOf(it.wanted, it.found) }
            val share = comparisons.sumOf { it.equal }.toDouble() / lines
            val shown = "%.2f %%".format(100 * share)
            val worst = comparisons.maxOf { it.cornerPx }
            println("| $name | ${comparisons.size} pictures | $lines | | $shown | $worst |")
            assertTrue(share >= MIN_SHARE, "$name: $shown")
        }
    }

    @Test
    fun `another dictionary is noticed`(@TempDir other: File) {
        val bundle = Cases.bundles.first()
        Cases.findFolder(bundle).copyRecursively(other)
        val content = File(other, "dict.txt").readLines().run { drop(1) + first() }.joinToString("") { "$it\n" }
        File(other, "dict.txt").writeText(content)
        val manifest = JSONObject(File(other, Manifest.FILE).readText())
        manifest.getJSONObject("files").getJSONObject("dict.txt").put("sha256", hash(content.byteInputStream()))
        File(other, Manifest.FILE).writeText(manifest.toString())
        val case = bundle.items("pictures").first { it.getJSONArray("lines").length() > 0 }
        open(other).use { assertEquals(0, compare(it, case).equal) }
    }

    private companion object {
        const val MIN_SHARE = 0.99
    }
}
