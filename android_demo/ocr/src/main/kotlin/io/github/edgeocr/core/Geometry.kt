package io.github.edgeocr.core

import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.acos
import kotlin.math.atan2
import kotlin.math.cos
import kotlin.math.floor
import kotlin.math.hypot
import kotlin.math.max
import kotlin.math.min
import kotlin.math.roundToInt
import kotlin.math.sin
import kotlin.math.sqrt

// How far an arc's polygon may be inside the arc, in pixels; the default of Clipper and pyclipper.
private const val ARC_TOLERANCE = 0.25

/**
 * Grows a convex quadrilateral (8 floats) by area × [ratio] / perimeter pixels on every side, with rounded corners.
 *
 * Truncates corners to whole pixels first, like PP-OCR's post-processing. Null if no area is left.
 */
internal fun unclip(quad: FloatArray, ratio: Double): Points? {
    var doubledArea = 0.0
    var perimeter = 0.0
    for (i in 0 until 4) {
        val k = (i + 1) and 3
        val (x, y) = quad[2 * i].toDouble() to quad[2 * i + 1].toDouble()
        val (nextX, nextY) = quad[2 * k].toDouble() to quad[2 * k + 1].toDouble()
        doubledArea += x * nextY - nextX * y
        perimeter += sqrt((nextX - x) * (nextX - x) + (nextY - y) * (nextY - y))
    }
    if (doubledArea == 0.0 || perimeter == 0.0) return null
    val distance = abs(doubledArea) / 2 * ratio / perimeter
    val corners = truncate(quad)
    return if (corners.size < 6) null else growOutline(corners, distance)
}

/** The corners in whole pixels, x and y alternating, without repeats; clockwise as seen in the picture. */
private fun truncate(quad: FloatArray): IntArray {
    val corners = ArrayList<Int>(8)
    for (i in 0 until 4) {
        val x = quad[2 * i].toInt()
        val y = quad[2 * i + 1].toInt()
        val count = corners.size
        if (count == 0 || corners[count - 2] != x || corners[count - 1] != y) {
            corners += x
            corners += y
        }
    }
    if (corners.size > 2 && corners[0] == corners[corners.size - 2] && corners[1] == corners.last()) {
        repeat(2) { corners.removeAt(corners.size - 1) }
    }
    return corners.toIntArray()
}

/** Moves the sides of a convex polygon outwards by [distance] and joins them with arcs of whole pixels. */
private fun growOutline(corners: IntArray, distance: Double): Points {
    val count = corners.size / 2
    val tolerance = min(ARC_TOLERANCE, distance * ARC_TOLERANCE)
    val stepsAround = min(PI / acos(1 - tolerance / distance), distance * PI)
    val stepSine = sin(2 * PI / stepsAround)
    val stepCosine = cos(2 * PI / stepsAround)
    val normals = DoubleArray(2 * count)
    for (i in 0 until count) {
        val k = (i + 1) % count
        val dx = (corners[2 * k] - corners[2 * i]).toDouble()
        val dy = (corners[2 * k + 1] - corners[2 * i + 1]).toDouble()
        val length = hypot(dx, dy)
        normals[2 * i] = dy / length
        normals[2 * i + 1] = -dx / length
    }
    val grown = Points(32)
    for (i in 0 until count) {
        val before = (i + count - 1) % count
        var x = normals[2 * before]
        var y = normals[2 * before + 1]
        val angle = atan2(
            x * normals[2 * i + 1] - normals[2 * i] * y,
            x * normals[2 * i] + y * normals[2 * i + 1],
        )
        val steps = max(roundAway(stepsAround / (2 * PI) * abs(angle)), 1)
        repeat(steps) {
            addShifted(grown, corners, i, x * distance, y * distance)
            val turnedX = x * stepCosine - y * stepSine
            y = x * stepSine + y * stepCosine
            x = turnedX
        }
        addShifted(grown, corners, i, normals[2 * i] * distance, normals[2 * i + 1] * distance)
    }
    return grown
}

private fun addShifted(points: Points, corners: IntArray, i: Int, dx: Double, dy: Double) =
    points.add(roundAway(corners[2 * i] + dx), roundAway(corners[2 * i + 1] + dy))

/** The nearest integer; halves are rounded away from zero. */
private fun roundAway(value: Double): Int = (if (value < 0) value - 0.5 else value + 0.5).toInt()

/** A rectangle as a line of text: its longer side, as a vector too, and its shorter side. */
internal class Line(val length: Double, val height: Double, val dx: Double, val dy: Double)

/** The longer and the shorter side of a rectangle (8 floats). */
internal fun measureLine(polygon: FloatArray): Line {
    val acrossX = polygon[2].toDouble() - polygon[0]
    val acrossY = polygon[3].toDouble() - polygon[1]
    val downX = polygon[6].toDouble() - polygon[0]
    val downY = polygon[7].toDouble() - polygon[1]
    val across = hypot(acrossX, acrossY)
    val down = hypot(downX, downY)
    return if (across >= down) Line(across, down, acrossX, acrossY) else Line(down, across, downX, downY)
}

/** Whether a rectangle is [ratio] times longer than high and its absolute slope is in [slopes]. */
internal fun isSlanted(polygon: FloatArray, ratio: Double, slopes: Slopes): Boolean {
    val line = measureLine(polygon)
    val rise = abs(line.dy)
    val run = abs(line.dx)
    return line.length >= ratio * line.height && slopes.least * run <= rise && rise <= slopes.most * run
}

/** Makes a polygon from [coordinate] of 0..7, rounded to whole pixels inside the picture of [imageSize]. */
internal inline fun roundCorners(imageSize: Size, coordinate: (Int) -> Double) = FloatArray(8) {
    val side = if (it % 2 == 0) imageSize.width else imageSize.height
    Math.rint(coordinate(it)).coerceIn(0.0, side.toDouble()).toFloat()
}

/**
 * Joins the pieces of steeply slanted lines. All other boxes are unchanged, in the given order.
 *
 * Pieces may also come from [spare], boxes that are too uncertain on their own. A joined box has whole pixels inside
 * the picture of [imageSize] and the score of the longer box.
 */
internal fun joinPieces(
    boxes: List<TextBox>,
    spare: List<TextBox>,
    imageSize: Size,
    settings: GeometrySettings,
): List<TextBox> {
    val lines = (boxes + spare).toMutableList()
    var count = boxes.size
    var i = 0
    var unchanged = 0
    val fitter = RectangleFitter()
    while (unchanged < count) {
        i %= count
        val found = findPiece(lines, i, fitter, settings)
        if (found == null) {
            i++
            unchanged++
            continue
        }
        val (k, quad) = found
        lines[i] = TextBox(roundCorners(imageSize) { quad[it].toDouble() }, lines[i].detScore)
        lines.removeAt(k)
        if (k < count) {
            count--
            if (k < i) i--
        }
        // The joined box may reach another piece.
        unchanged = 0
    }
    return lines.take(count)
}

/**
 * Returns the index of the first piece of line [i] and the rectangle around both; null if there is none.
 *
 * A piece is not longer than the line, reaches one of its ends and has its direction.
 */
private fun findPiece(
    lines: List<TextBox>,
    i: Int,
    fitter: RectangleFitter,
    settings: GeometrySettings,
): Pair<Int, FloatArray>? {
    val polygon = lines[i].polygon
    if (!isSlanted(polygon, settings.slantedRatio, settings.breakingSlant)) return null
    val line = measureLine(polygon)
    val gap = settings.pieceGap * line.height
    val distance = limitDistance(line, settings)
    val corners = Points(8)
    for (k in lines.indices) {
        if (k == i) continue
        val piece = lines[k].polygon
        // On a page with many lines, most are far away; one corner is enough to see that.
        val off = ((piece[1] - polygon[1]) * line.dx - (piece[0] - polygon[0]) * line.dy) / line.length
        if (abs(off) > distance) continue
        var start = Double.POSITIVE_INFINITY
        var end = Double.NEGATIVE_INFINITY
        for (c in 0 until 4) {
            val x = piece[2 * c] - polygon[0]
            val y = piece[2 * c + 1] - polygon[1]
            val along = (x * line.dx + y * line.dy) / line.length
            start = min(start, along)
            end = max(end, along)
        }
        if (end - start > line.length || end < -gap || start > line.length + gap) continue
        corners.clear()
        for (c in 0 until 4) {
            corners.add(polygon[2 * c].toInt(), polygon[2 * c + 1].toInt())
            corners.add(piece[2 * c].toInt(), piece[2 * c + 1].toInt())
        }
        val both = fitter.fit(corners)
        if (both.side <= settings.pieceHeight * line.height) return k to both.corners
    }
    return null
}

/**
 * The largest distance of a piece's corner from the longer side of its line.
 *
 * The corner and the side form a triangle inside the rectangle around both. Its smallest height, on its longest side,
 * is at most the rectangle's shorter side. One pixel is added because that side is computed in float32.
 */
private fun limitDistance(line: Line, settings: GeometrySettings): Double {
    val height = settings.pieceHeight * line.height + 1
    val longest = 2 * line.length + settings.pieceGap * line.height
    if (line.length <= height) return Double.POSITIVE_INFINITY
    return height * longest / sqrt(line.length * line.length - height * height)
}

/**
 * Returns the slope (dy / dx) of the page, up to `maxTilt`.
 *
 * The median slope of the boxes that are clearly wider than high, weighted by width. 0 if the page is level or steeper,
 * or if fewer than two boxes, or less than two thirds of the weight, agree on the slope.
 */
internal fun measureTilt(boxes: List<TextBox>, settings: GeometrySettings): Double {
    val slopes = ArrayList<Pair<Double, Double>>()
    for (box in boxes) {
        // The upper and the lower edge together.
        val corners = box.polygon.map { it.toDouble() }
        val run = corners[2] - corners[0] + corners[4] - corners[6]
        val rise = corners[3] - corners[1] + corners[5] - corners[7]
        val height = measure(box.polygon, 0, 3) + measure(box.polygon, 1, 2)
        if (run >= settings.tiltRatio * height && run > 0) slopes += rise / run to run
    }
    slopes.sortWith(compareBy({ it.first }, { it.second }))
    val total = slopes.sumOf { it.second }
    var passed = 0.0
    val tilt = slopes.firstOrNull { (_, run) ->
        passed += run
        2 * passed >= total
    }?.first ?: 0.0
    val agreeing = slopes.filter { abs(it.first - tilt) <= settings.tiltSpread }
    val isAgreed = agreeing.size >= 2 && 3 * agreeing.sumOf { it.second } >= 2 * total
    return if (isAgreed && abs(tilt) in settings.leastTilt..settings.maxTilt) tilt else 0.0
}

/**
 * Sorts boxes from top to bottom, and from left to right, or [rightToLeft], within a row.
 *
 * In a row, the top corner of each box, on the side where a row starts, differs in y by less than `rowTolerance` of the
 * median height from the previous one. On a tilted page ([measureTilt]), x and y follow the page.
 */
internal fun sortReadingOrder(
    boxes: List<TextBox>,
    settings: GeometrySettings,
    rightToLeft: Boolean = false,
): List<TextBox> {
    if (boxes.isEmpty()) return boxes
    // The length of the left side: for slanted lines it is the height of the text, not the vertical extent.
    val heights = boxes.map { measure(it.polygon, 0, 3) }.sorted()
    val tolerance = settings.rowTolerance * heights[heights.size / 2]
    val tilt = measureTilt(boxes, settings)
    val placed = boxes.map { box ->
        val corner = if (rightToLeft) 2 else 0
        val x = box.polygon[corner].toDouble()
        val y = box.polygon[corner + 1].toDouble()
        Place((x + tilt * y) * (if (rightToLeft) -1 else 1), y - tilt * x, box)
    }.sortedWith(compareBy({ it.y }, { it.x })).toMutableList()
    for (end in 1 until placed.size) {
        for (i in end downTo 1) {
            val above = placed[i - 1]
            val below = placed[i]
            if (!(abs(below.y - above.y) < tolerance && below.x < above.x)) break
            placed[i - 1] = below
            placed[i] = above
        }
    }
    return placed.map { it.box }
}

/** The corner of a box where its row starts, in coordinates of its page; x grows in reading direction. */
private class Place(val x: Double, val y: Double, val box: TextBox)

/** The distance of two corners of a polygon. */
private fun measure(polygon: FloatArray, from: Int, to: Int): Double = hypot(
    polygon[2 * to].toDouble() - polygon[2 * from],
    polygon[2 * to + 1].toDouble() - polygon[2 * from + 1],
)

/** The sides of a polygon's crop before it is turned, at least 1 px each. */
internal fun measureSides(polygon: FloatArray) = Size(
    height = max(1, max(measure(polygon, 0, 3), measure(polygon, 1, 2)).toInt()),
    width = max(1, max(measure(polygon, 0, 1), measure(polygon, 3, 2)).toInt()),
)

/** Whether a crop of [size] is vertical text. */
internal fun isVertical(size: Size, settings: GeometrySettings): Boolean =
    size.height >= size.width * settings.verticalRatio

/**
 * Cuts a quadrilateral out of the image and straightens it, so that upright text is horizontal.
 *
 * A crop at least `verticalRatio` times taller than wide is turned by 90° counter-clockwise. Sides are at least 1 px.
 */
internal fun cropPolygon(image: BgrImage, polygon: FloatArray, settings: GeometrySettings): BgrImage {
    val size = measureSides(polygon)
    val crop = Perspective(polygon, size.width, size.height).warp(image)
    return if (isVertical(size, settings)) crop.turnLeft() else crop
}

// 32 positions between pixels, each with its own weights, as in OpenCV.
private const val PLACE_BITS = 5
private const val PLACES = 1 shl PLACE_BITS

/** For each position between two pixels, the weights of the four pixels around it: cubic convolution, a = −0.75. */
private val CUBIC_WEIGHTS = FloatArray(4 * PLACES).also { weights ->
    val a = -0.75f
    for (place in 0 until PLACES) {
        val x = place.toFloat() / PLACES
        val (far, near, opposite) = listOf(x + 1, x, 1 - x)
        weights[4 * place] = ((a * far - 5 * a) * far + 8 * a) * far - 4 * a
        weights[4 * place + 1] = ((a + 2) * near - (a + 3)) * near * near + 1
        weights[4 * place + 2] = ((a + 2) * opposite - (a + 3)) * opposite * opposite + 1
        weights[4 * place + 3] = 1 - weights[4 * place] - weights[4 * place + 1] - weights[4 * place + 2]
    }
}

/** The mapping from the pixels of an upright rectangle of [width] × [height] to those of a [quad] (8 floats). */
internal class Perspective(quad: FloatArray, private val width: Int, private val height: Int) {
    private val perColumn: DoubleArray
    private val perRow: DoubleArray
    private val origin = doubleArrayOf(quad[0].toDouble(), quad[1].toDouble(), 1.0)

    init {
        val x = DoubleArray(4) { quad[2 * it].toDouble() }
        val y = DoubleArray(4) { quad[2 * it + 1].toDouble() }
        val (dx1, dx2) = x[1] - x[2] to x[3] - x[2]
        val (dy1, dy2) = y[1] - y[2] to y[3] - y[2]
        val bendX = x[0] - x[1] + x[2] - x[3]
        val bendY = y[0] - y[1] + y[2] - y[3]
        val area = dx1 * dy2 - dx2 * dy1
        // A quadrilateral that collapsed into a line is treated as a parallelogram.
        val g = if (area == 0.0) 0.0 else (bendX * dy2 - dx2 * bendY) / area
        val h = if (area == 0.0) 0.0 else (dx1 * bendY - bendX * dy1) / area
        perColumn = doubleArrayOf((x[1] - x[0] + g * x[1]) / width, (y[1] - y[0] + g * y[1]) / width, g / width)
        perRow = doubleArrayOf((x[3] - x[0] + h * x[3]) / height, (y[3] - y[0] + h * y[3]) / height, h / height)
    }

    /** Where a point of the rectangle is. */
    fun map(x: Double, y: Double): Pair<Double, Double> {
        val depth = perColumn[2] * x + perRow[2] * y + origin[2]
        return Pair(
            (perColumn[0] * x + perRow[0] * y + origin[0]) / depth,
            (perColumn[1] * x + perRow[1] * y + origin[1]) / depth,
        )
    }

    /** The rectangle's pixels, bicubic; beyond the image's edge, its outermost pixels are repeated. */
    fun warp(image: BgrImage): BgrImage {
        val pixels = ByteArray(3 * width * height)
        val columns = IntArray(4)
        val rows = IntArray(4)
        var to = 0
        for (y in 0 until height) {
            for (x in 0 until width) {
                val scale = PLACES / (perColumn[2] * x + perRow[2] * y + origin[2])
                val sourceX = Math.rint((perColumn[0] * x + perRow[0] * y + origin[0]) * scale).toInt()
                val sourceY = Math.rint((perColumn[1] * x + perRow[1] * y + origin[1]) * scale).toInt()
                for (i in 0 until 4) {
                    columns[i] = 3 * ((sourceX shr PLACE_BITS) + i - 1).coerceIn(0, image.width - 1)
                    rows[i] = 3 * image.width * ((sourceY shr PLACE_BITS) + i - 1).coerceIn(0, image.height - 1)
                }
                val weightsX = 4 * (sourceX and (PLACES - 1))
                val weightsY = 4 * (sourceY and (PLACES - 1))
                for (channel in 0 until 3) {
                    var sum = 0f
                    for (i in 0 until 4) {
                        val row = rows[i] + channel
                        var rowSum = 0f
                        for (k in 0 until 4) {
                            rowSum += CUBIC_WEIGHTS[weightsX + k] * (image.pixels[row + columns[k]].toInt() and 0xFF)
                        }
                        sum += CUBIC_WEIGHTS[weightsY + i] * rowSum
                    }
                    pixels[to++] = floor(sum + 0.5f).toInt().coerceIn(0, 255).toByte()
                }
            }
        }
        return BgrImage(width, height, pixels)
    }
}
