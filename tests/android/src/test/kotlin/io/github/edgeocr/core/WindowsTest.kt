package io.github.edgeocr.core

import org.json.JSONArray
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNotEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.util.concurrent.CancellationException

class WindowsTest {
    private val expected = GoldenFiles.expected
    private val settings = Manifest.parse(GoldenFiles.manifest).settings
    private val windows = settings.windows

    private fun listSpans(row: JSONObject, changed: WindowSettings) =
        planSpans(row.getInt("length"), settings.detection.sideMultiple, changed)
            .let { listOf(it.size) + it.spans.flatMap { span -> listOf(span.start, span.first, span.end) } }

    private fun wantSpans(row: JSONObject) =
        listOf(row.getInt("size")) + row.getJSONArray("spans").flatMap { span -> (span as JSONArray).map { it as Int } }

    @Test
    fun `windows are at the host's positions`() {
        for ((name, used) in listOf("spans" to windows, "large_spans" to planLarge(windows))) {
            val rows = expected.items(name)
            for (row in rows) assertEquals(wantSpans(row), listSpans(row, used), "$row")
            for (changed in listOf(used.copy(side = used.side - 32), used.copy(overlap = used.overlap - 32))) {
                assertTrue(rows.any { wantSpans(it) != listSpans(it, changed) }, "$name: $changed")
            }
        }
    }

    /** The map that the host's drawn network gives for a case of large_maps, and the input shapes. */
    private fun mapLarge(row: JSONObject, changed: WindowSettings): Pair<List<Float>, List<List<Int>>> {
        val runs = ArrayList<List<Int>>()
        val size = Size(row.getInt("height"), row.getInt("width"))
        val map = mapLarge(GoldenFiles.readView(row), size, settings.copy(windows = changed), {}) { input ->
            runs += input.shape.toList()
            val (_, _, height, width) = input.shape
            FloatArray(height * width) { i ->
                val level = (3 * (i % width) + 5 * (i / width)) % 101
                (level + (if (input.data[height * width + i] < 0) 150 else 0) + 0.25f) / 255
            }
        }
        assertEquals(size, map.size)
        val (rows, columns) = size.run { listOf(height, width) }.map { 0 until it step row.getInt("stride") }
        return rows.flatMap { y -> columns.map { x -> map[y * size.width + x] } } to runs
    }

    @Test
    fun `maps of large inputs are the host's`() {
        for (row in expected.items("large_maps")) {
            val wanted = GoldenFiles.readMap(row.getString("name")).data.toList()
            fun countOther(changed: WindowSettings) =
                mapLarge(row, changed).first.zip(wanted).count { (found, value) -> found != value }

            val (map, runs) = mapLarge(row, windows)
            assertEquals(wanted.size, map.size)
            assertEquals(row.getJSONArray("runs").elements().map { (it as JSONArray).elements() }, runs)
            assertEquals(0, countOther(windows), "$row")
            for (changed in listOf(windows.copy(largeSide = 960), windows.copy(largeOverlap = 256))) {
                assertTrue(countOther(changed) > wanted.size / 100, "$changed")
            }
        }
    }

    /** A network that takes dark pixels for text and adds the sizes of its inputs to [sizes]. */
    private fun openInk(sizes: MutableList<Size>) = Engine { input ->
        val (_, _, height, width) = input.shape
        sizes += Size(height, width)
        val plane = height * width
        Tensor(intArrayOf(1, 1, height, width), FloatArray(plane) { if (input.data[plane + it] < 1) 1f else 0f })
    }

    /** A white page with a dark bar of 60 rows and [width] columns every 150 rows. */
    private fun drawBars(page: Size, width: Int) = BgrImage(
        page.width,
        page.height,
        ByteArray(3 * page.width * page.height) { i ->
            val (x, y) = i / 3 % page.width to i / 3 / page.width
            val isBar = x in 40 until 40 + width && (y + 110) % 150 < 60
            if (isBar) 40 else -1
        },
    )

    private fun limit(side: Int, changed: WindowSettings = windows) =
        settings.copy(detection = settings.detection.copy(limitSideLen = side, windows = false), windows = changed)

    @Test
    fun `large inputs are computed in windows whatever the settings`() {
        // Across every seam.
        val image = drawBars(Size(1600, 2400), 2300)
        val sizes = ArrayList<Size>()
        val boxes = TextDetector(openInk(sizes), limit(4000)).detect(image)
        assertEquals(List(6) { Size(960, 1024) }, sizes)
        val whole = ArrayList<Size>()
        val wanted = TextDetector(openInk(whole), limit(4000, windows.copy(wholePixels = 1600 * 2400))).detect(image)
        assertEquals(listOf(Size(1600, 2400)), whole)
        assertEquals(11, wanted.size)
        assertEquals(wanted.map { it.polygon.toList() }, boxes.map { it.polygon.toList() })
    }

    @Test
    fun `inputs up to the limit are computed whole`() {
        val sizes = ArrayList<Size>()
        val detector = TextDetector(openInk(sizes), limit(4000))
        detector.detect(drawBars(Size(1280, 1280), 300))
        // Its other window is blank.
        detector.detect(drawBars(Size(1280, 1312), 300))
        assertEquals(listOf(Size(1280, 1280), Size(1280, 832)), sizes)
    }

    @Test
    fun `large inputs can be cancelled`() {
        val sizes = ArrayList<Size>()
        var asked = 0
        assertThrows(CancellationException::class.java) {
            TextDetector(openInk(sizes), limit(4000)).detect(drawBars(Size(1600, 2400), 2300)) {
                if (++asked == 3) throw CancellationException()
            }
        }
        assertEquals(2, sizes.size)
    }

    @Test
    fun `fine print is found as on the host`() {
        val rows = expected.items("fine_prints")
        fun find(changed: WindowSettings) =
            rows.map { hasFinePrint(GoldenFiles.readView(it), readBoxes(it, "boxes"), changed) }

        val wanted = rows.map { it.getBoolean("has_fine_print") }
        assertEquals(wanted, find(windows))
        for (changed in listOf(
            windows.copy(strokeContrast = 250),
            windows.copy(strokeShare = 0.9),
            windows.copy(tileShare = 0.2),
            windows.copy(tileSide = 64),
            windows.copy(tileShare = 0.0),
            windows.copy(fineBox = 500.0),
            windows.copy(fineBox = 1.0),
        )) assertNotEquals(wanted, find(changed), "$changed")
    }

    @Test
    fun `strokes are counted to the pixel`() {
        // One tile with strokes of one pixel in two columns; pixels outside it do not count.
        fun drawStrokes(contrast: Int, pixels: Int) = BgrImage(
            31,
            17,
            ByteArray(3 * 31 * 17) { i ->
                val (x, y) = i / 3 % 31 to i / 93
                if (i % 3 == 1 && x % 8 == 1 && (x >= 16 || 2 * y + x / 8 < pixels)) contrast.toByte() else 0
            },
        )
        val least = windows.copy(strokeShare = 20 / 256.0, tileShare = 1.0)
        assertTrue(hasFinePrint(drawStrokes(48, 20), emptyList(), least))
        assertFalse(hasFinePrint(drawStrokes(47, 20), emptyList(), least))
        assertFalse(hasFinePrint(drawStrokes(48, 19), emptyList(), least))
    }

    private fun readBoxes(row: JSONObject, key: String) =
        row.getJSONArray(key).mapIndexed { i, polygon -> TextBox((polygon as JSONArray).rows(), i.toDouble()) }

    private fun merge(row: JSONObject, changed: WindowSettings): List<List<Float>> {
        val size = Size(row.getInt("height"), row.getInt("width"))
        val fine = readBoxes(row, "fine").map { growBox(it, size, changed) }
        return mergeBoxes(fine, readBoxes(row, "coarse"), row.getDouble("scale"), changed).map { it.polygon.toList() }
    }

    @Test
    fun `boxes of two passes are merged as on the host`() {
        val rows = expected.items("merges")
        fun want(row: JSONObject) = readBoxes(row, "merged").map { it.polygon.toList() }

        for (row in rows) assertEquals(want(row), merge(row, windows), "$row")
        val others = listOf(
            windows.copy(margin = 0.2),
            windows.copy(coveredShare = 1.1),
            windows.copy(clearBox = 21.0),
            windows.copy(sameLine = 0.9),
        )
        for (changed in others) assertTrue(rows.any { want(it) != merge(it, changed) }, "$changed")
    }

    @Test
    fun `large text replaces pieces more than half as high`() {
        fun make(height: Float, width: Float) =
            TextBox(floatArrayOf(0f, 0f, width, 0f, width, height, 0f, height), height.toDouble())

        val coarse = make(160f, 1000f)
        // One piece that is high enough and shorter is enough.
        for ((high, kept) in listOf(79f to listOf(79.0, 30.0), 81f to listOf(160.0))) {
            val fine = listOf(make(high, 700f), make(30f, 900f))
            assertEquals(kept, mergeBoxes(fine, listOf(coarse), 0.125, windows).map { it.detScore })
            val small = mergeBoxes(fine, listOf(coarse), 0.124, windows)
            assertEquals(listOf(high.toDouble(), 30.0), small.map { it.detScore })
        }
        val same = listOf(make(120f, 800f))
        assertEquals(same, mergeBoxes(same, listOf(coarse), 1.0, windows))
    }

    private fun makeBoxes(vararg heights: Int) =
        heights.map { TextBox(floatArrayOf(0f, 0f, 900f, 0f, 900f, it.toFloat(), 0f, it.toFloat()), 0.9) }

    @Test
    fun `a finer scale gives small text its height`() {
        val blank = BgrImage(64, 64, ByteArray(3 * 64 * 64))
        fun plan(scale: Double, vararg heights: Int) = planFinerScale(blank, scale, makeBoxes(*heights), windows)

        // The lower quartile decides.
        assertEquals(0.25 * 26 / 12.5, plan(0.25, 90, 50, 90, 50, 90)!!, 1e-9)
        assertEquals(null, plan(0.25, 90, 50, 90, 90, 90))
        assertEquals(null, plan(0.5, 32))
        assertEquals(1.0, plan(0.5, 28))
        assertEquals(1.0, plan(0.9, 2))
        assertEquals(null, plan(0.91, 2))
        assertEquals(null, plan(0.2))
        // Too far away for a box.
        assertEquals(windows.visibleScale, plan(0.19))
        assertEquals(windows.visibleScale, plan(0.19, 900))
        val unrounded = planFinerScale(blank, 0.5, makeBoxes(28), windows.copy(wholeScale = 0.95))
        assertEquals(0.5 * 26 / 14, unrounded!!, 1e-9)
    }

    @Test
    fun `fine print is searched if boxes are large`() {
        val rows = expected.items("fine_prints").filter { it.getJSONArray("boxes").length() == 0 }
        for (row in rows) {
            val image = GoldenFiles.readView(row)
            val isFine = row.getBoolean("has_fine_print")
            for ((scale, finer) in listOf(0.2 to 0.36, 0.3 to 0.36, windows.visibleScale to 1.0, 0.6 to 1.0)) {
                val wanted = if (isFine) finer else null
                assertEquals(wanted, planFinerScale(image, scale, makeBoxes(90), windows), "$row")
            }
            assertEquals(windows.visibleScale, planFinerScale(image, 0.1, emptyList(), windows), "$row")
            assertEquals(null, planFinerScale(image, 0.61, makeBoxes(90), windows), "$row")
        }
    }

    /** A black picture with a white dot near its left edge, and a line of [rest] levels near the right one. */
    private fun draw(width: Int, height: Int, rest: Int) = BgrImage(
        width,
        height,
        ByteArray(3 * width * height) { i ->
            if (i == 3 * width + 3) -1 else if (i / 3 % width == width - 2) rest.toByte() else 0
        },
    )

    @Test
    fun `blank windows are not run`() {
        for ((range, runs) in listOf(7 to 1, 8 to 2)) {
            var count = 0
            val map = mapWindows(draw(1700, 40, range), 1.0, settings, {}) { input ->
                count++
                assertEquals(listOf(1, 3, 64, 928), input.shape.toList())
                FloatArray(64 * 928) { 1f }
            }
            assertEquals(runs, count)
            assertEquals(Size(40, 1700), map.size)
            assertEquals(listOf(1f, runs - 1f), listOf(map[849], map[850]))
        }
        // In large inputs, only windows of one colour are blank.
        for ((range, runs) in listOf(0 to 1, 1 to 2)) {
            var count = 0
            mapLarge(draw(1700, 1000, range), Size(1000, 1700), settings, {}) { input ->
                count++
                assertEquals(listOf(1, 3, 1024, 1024), input.shape.toList())
                FloatArray(1024 * 1024)
            }
            assertEquals(runs, count)
        }
    }

    @Test
    fun `each window fills its part of the map`() {
        val image = BgrImage(1700, 1000, ByteArray(3 * 1700 * 1000) { (it % 251).toByte() })
        var count = 0
        val map = mapWindows(image, 1.0, settings, {}) { input ->
            val (_, _, height, width) = input.shape
            // Position of the pixel in its window, and the window: 4 of 4 × 60.
            val window = count++
            FloatArray(height * width) { i -> (60 * window + (i % width + i / width) % 50 + 0.3f) / 255 }
        }
        assertEquals(4, count)
        fun read(x: Int, y: Int) = Math.round(map[y * 1700 + x] * 255)

        assertEquals(0, read(0, 0))
        assertEquals((849 + 499) % 50, read(849, 499))
        assertEquals(60 + (850 - 772 + 499) % 50, read(850, 499))
        assertEquals(120 + (849 + 500 - 424) % 50, read(849, 500))
        assertEquals(180 + (1699 - 772 + 999 - 424) % 50, read(1699, 999))
    }

    @Test
    fun `scaled pictures have sides rounded to the even`() {
        val image = draw(33, 35, 200)
        val map = mapWindows(image, 0.5, settings, {}) { FloatArray(32 * 32) { 0.5f } }
        assertEquals(Size(18, 16), map.size)
        assertEquals(128 / 255f, map[0])
        assertEquals(Size(1, 1), mapWindows(image, 0.001, settings, {}) { FloatArray(32 * 32) }.size)
    }

    @Test
    fun `windows can be cancelled, also blank ones`() {
        val image = BgrImage(1700, 40, ByteArray(3 * 1700 * 40))
        var asked = 0
        assertThrows(CancellationException::class.java) {
            mapWindows(image, 1.0, settings, { if (++asked == 2) throw CancellationException() }) { FloatArray(0) }
        }
        assertEquals(2, asked)
    }

    @Test
    fun `no windows if the settings disable them`() {
        val case = GoldenFiles.recorded.items("cases").first { it.getString("name") == "wide" }
        val own = GoldenFiles.readSettings(case)
        val maps = GoldenFiles.readMap("wide.det")
        val boxes = listOf(true, false).map { isOn ->
            val engine = ReplayEngine(case, "det", maps)
            val changed = own.copy(detection = own.detection.copy(windows = isOn))
            TextDetector(engine, changed).detect(GoldenFiles.readView(case)).size
        }
        val wanted = expected.items("cases").first { it.getString("name") == "wide" }
        assertEquals(listOf(wanted.items("boxes").size, 1), boxes)
    }

    @Test
    fun `each window has its own candidates`() {
        // Nothing is found at scale 0.1, then hundreds of specks in 3 × 2 windows.
        val image = BgrImage(4000, 2400, ByteArray(3 * 4000 * 2400) { (it % 97).toByte() })
        val changed = settings.copy(
            detection = settings.detection.copy(limitSideLen = 320, maxCandidates = 20),
            windows = windows.copy(visibleScale = 0.5, smallBox = 0.0),
        )
        var count = 0
        val detector = TextDetector(
            { input ->
                val (_, _, height, width) = input.shape
                val isFirst = count++ == 0
                val probs = FloatArray(height * width) { i ->
                    val (x, y) = i % width to i / width
                    if (!isFirst && x % 100 in 20..79 && y % 60 in 20..39) 1f else 0f
                }
                Tensor(intArrayOf(1, 1, height, width), probs)
            },
            changed,
        )
        val found = detector.detect(image).size
        // A map of 2000 × 1200 has 3 × 2 windows.
        assertEquals(6 * 20, found)
    }
}
