package io.github.edgeocr.core

import org.json.JSONArray
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotNull
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Test

class GeometryTest {
    private val expected = GoldenFiles.expected
    private val settings = Manifest.parse(GoldenFiles.manifest).settings.geometry

    @Test
    fun `smallest rectangles are the host's`() {
        val fitter = RectangleFitter()
        for (row in expected.items("quads")) {
            val points = Points(1)
            row.getJSONArray("points").map { it as JSONArray }.forEach { points.add(it.getInt(0), it.getInt(1)) }
            val found = fitter.fit(points)
            assertEquals(row.getDouble("side").toFloat(), found.side, 1e-3f, "$row")
            assertArrayEquals(row.rows("quad"), found.corners, 1e-2f, "$row")
        }
    }

    @Test
    fun `boxes grow as on the host`() {
        for (row in expected.items("unclipped")) {
            val outline = unclip(row.rows("quad"), row.getDouble("ratio"))
            if (row.isNull("grown")) {
                assertNull(outline, "$row")
            } else {
                assertNotNull(outline, "$row")
                val grown = RectangleFitter().fit(outline!!)
                assertArrayEquals(row.rows("grown"), grown.corners, 1e-2f, "$row")
                assertEquals(row.getDouble("side").toFloat(), grown.side, 1e-2f, "$row")
            }
        }
    }

    @Test
    fun `corners are ordered as on the host`() {
        for (row in expected.items("corner_orders")) {
            assertArrayEquals(row.rows("ordered"), orderCorners(row.rows("corners")), "$row")
        }
    }

    @Test
    fun `boxes are ordered as on the host`() {
        for (row in expected.items("reading_orders")) {
            val boxes = row.getJSONArray("polygons").mapIndexed { i, polygon ->
                TextBox((polygon as JSONArray).rows(), i.toDouble())
            }
            for ((key, rightToLeft) in listOf("order" to false, "right_to_left" to true)) {
                val order = sortReadingOrder(boxes, settings, rightToLeft).map { it.detScore.toInt() }
                assertEquals(row.getJSONArray(key).map { it as Int }, order)
            }
        }
    }

    @Test
    fun `a crop of whole pixels is those pixels`() {
        val image = BgrImage(20, 10, ByteArray(600) { (it * 7).toByte() })
        val crop = cropPolygon(image, floatArrayOf(3f, 2f, 9f, 2f, 9f, 6f, 3f, 6f), settings)
        assertEquals(6 to 4, crop.width to crop.height)
        for (y in 0 until 4) {
            for (x in 0 until 6) assertEquals(image.pixels[3 * ((y + 2) * 20 + x + 3)], crop.pixels[3 * (y * 6 + x)])
        }
    }

    @Test
    fun `a crop of a tiny box has one pixel`() {
        val image = BgrImage(20, 10, ByteArray(600) { 9 })
        val crop = cropPolygon(image, floatArrayOf(3f, 2f, 3f, 2f, 3f, 2f, 3f, 2f), settings)
        assertEquals(listOf<Byte>(9, 9, 9), crop.pixels.toList())
    }

    @Test
    fun `tall crops are turned`() {
        val image = BgrImage(20, 20, ByteArray(1200))
        val crop = cropPolygon(image, floatArrayOf(2f, 2f, 6f, 2f, 6f, 8f, 2f, 8f), settings)
        assertEquals(6 to 4, crop.width to crop.height)
        val wide = cropPolygon(image, floatArrayOf(2f, 2f, 6f, 2f, 6f, 7f, 2f, 7f), settings)
        assertEquals(4 to 5, wide.width to wide.height)
    }
}
