package io.github.edgeocr.core

import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory
import kotlin.math.abs

class DetectionTest {
    private val settings = Manifest.parse(GoldenFiles.manifest).settings

    @TestFactory
    fun `boxes of pictures are the host's`(): List<DynamicTest> {
        val expected = GoldenFiles.expected.items("cases").associateBy { it.getString("name") }
        return GoldenFiles.recorded.items("cases").map { case ->
            val name = case.getString("name")
            dynamicTest(name) {
                val lines = openReader(case).readAll(GoldenFiles.readView(case), HashMap()) { false }
                compareBoxes(expected.getValue(name), lines.map { TextBox(it.polygon, it.detScore) })
            }
        }
    }

    @TestFactory
    fun `boxes of drawn maps are the host's`(): List<DynamicTest> = GoldenFiles.expected.items("maps").map { row ->
        dynamicTest(row.getString("name")) {
            val settings = GoldenFiles.readDetectionSettings(row.getJSONObject("settings"))
            compareBoxes(row, find(GoldenFiles.readMap(row.getString("name")), row, settings))
        }
    }

    private fun find(map: Tensor, row: JSONObject, settings: DetectionSettings) = findBoxes(
        ProbMap.ofProbs(map.data, Size(map.shape[0], map.shape[1])),
        Size(row.getInt("height"), row.getInt("width")),
        settings,
        this.settings.geometry,
    )

    private fun compareBoxes(row: JSONObject, found: List<TextBox>) {
        val wanted = row.items("boxes")
        assertEquals(wanted.size, found.size)
        var far = 0f
        wanted.zip(found).forEachIndexed { i, (box, other) ->
            val corners = box.rows("polygon")
            val distance = corners.indices.maxOf { abs(corners[it] - other.polygon[it]) }
            far = maxOf(far, distance)
            assertTrue(distance <= MAX_CORNER_PX, "box $i: ${other.polygon.toList()}, expected ${corners.toList()}")
            assertEquals(box.getDouble("det_score"), other.detScore, MAX_SCORE_DIFF, "box $i")
        }
        if (wanted.isNotEmpty()) println("${row.getString("name")}: ${wanted.size} boxes, corners within $far px")
    }

    @Test
    fun `maps of bytes give the boxes of maps of floats`() {
        for (row in GoldenFiles.expected.items("maps")) {
            val name = row.getString("name")
            val settings = GoldenFiles.readDetectionSettings(row.getJSONObject("settings"))
            val (height, width) = GoldenFiles.readShape(name).toList()
            val found = findBoxes(
                ProbMap.ofLevels(GoldenFiles.readBytes(name), Size(height, width)),
                Size(row.getInt("height"), row.getInt("width")),
                settings,
                this.settings.geometry,
            )
            val wanted = find(GoldenFiles.readMap(name), row, settings)
            assertEquals(wanted.map { it.polygon.toList() }, found.map { it.polygon.toList() })
            assertEquals(wanted.map { it.detScore }, found.map { it.detScore })
        }
    }

    @Test
    fun `another threshold finds other boxes`() {
        val row = GoldenFiles.expected.items("maps").first { it.getString("name") == "map_rings_faint" }
        val settings = GoldenFiles.readDetectionSettings(row.getJSONObject("settings"))
        val map = GoldenFiles.readMap("map_rings_faint")
        assertNotEquals(row.items("boxes").size, find(map, row, settings.copy(boxThreshold = 0.99)).size)
        assertNotEquals(row.items("boxes").size, find(map, row, settings.copy(maxCandidates = 1)).size)
    }

    @Test
    fun `a network that does not return a map is refused`() {
        val detector = TextDetector({ Tensor(intArrayOf(1, 2), FloatArray(2)) }, settings)
        val error = assertThrows(BundleException::class.java) { detector.detect(BgrImage(40, 40, ByteArray(4800))) }
        assertTrue(error.message!!.endsWith("1×2, expected 1×1×32×32"))
    }

    private companion object {
        const val MAX_CORNER_PX = 2f
        const val MAX_SCORE_DIFF = 0.01
    }
}
