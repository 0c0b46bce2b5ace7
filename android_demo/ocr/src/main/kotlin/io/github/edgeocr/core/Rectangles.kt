package io.github.edgeocr.core

import kotlin.math.atan2
import kotlin.math.cos
import kotlin.math.hypot
import kotlin.math.max
import kotlin.math.min
import kotlin.math.sin
import kotlin.math.sqrt

/** A rotated rectangle: [corners] as 8 floats in the order of polygons, and its shorter [side] in pixels. */
internal class Rectangle(val corners: FloatArray, val side: Float)

/** The points of an outline in whole pixels, x and y alternating. */
internal class Points(capacity: Int = 256) {
    var values = IntArray(2 * capacity)
        private set
    var count = 0
        private set

    fun add(x: Int, y: Int) {
        if (2 * count == values.size) values = values.copyOf(2 * values.size)
        values[2 * count] = x
        values[2 * count + 1] = y
        count++
    }

    fun clear() {
        count = 0
    }
}

/**
 * Fits the smallest rotated rectangles around points.
 *
 * Reuses its arrays between calls; not thread-safe.
 */
internal class RectangleFitter {
    private var leftmost = IntArray(64)
    private var rightmost = IntArray(64)
    private val left = Points()
    private val right = Points()
    private val hull = Points()
    private var stack = IntArray(64)

    // The hull's corners, and the edge that starts at each.
    private var x = FloatArray(64)
    private var y = FloatArray(64)
    private var sideX = FloatArray(64)
    private var sideY = FloatArray(64)
    private var inverseLength = FloatArray(64)
    private val touching = IntArray(4)

    /** The smallest rectangle around [points], at least one. */
    fun fit(points: Points): Rectangle {
        findHull(points)
        return when (hull.count) {
            1 -> makeRectangle(hull.values[0].toFloat(), hull.values[1].toFloat(), 0f, 0f, 0.0)
            2 -> fitLine()
            else -> fitHull()
        }
    }

    /** Writes the corners of the convex hull to [hull], clockwise as seen in the picture. */
    private fun findHull(points: Points) {
        val values = points.values
        var top = Int.MAX_VALUE
        var bottom = Int.MIN_VALUE
        for (i in 0 until points.count) {
            top = min(top, values[2 * i + 1])
            bottom = max(bottom, values[2 * i + 1])
        }
        // Only the ends of a row can be corners, so no sorting is needed.
        val rows = bottom - top + 1
        if (leftmost.size < rows) {
            leftmost = IntArray(2 * rows)
            rightmost = IntArray(2 * rows)
        }
        leftmost.fill(Int.MAX_VALUE, 0, rows)
        rightmost.fill(Int.MIN_VALUE, 0, rows)
        for (i in 0 until points.count) {
            val row = values[2 * i + 1] - top
            leftmost[row] = min(leftmost[row], values[2 * i])
            rightmost[row] = max(rightmost[row], values[2 * i])
        }
        findChain(leftmost, rows, -1, left)
        findChain(rightmost, rows, 1, right)
        hull.clear()
        // The top left corner is last: of two leftmost corners, the calipers start with the lower one.
        val isPeak = left.values[0] == right.values[0]
        val isFoot = left.values[2 * left.count - 2] == right.values[2 * right.count - 2]
        for (i in (if (isPeak) 1 else 0) until right.count) hull.add(right.values[2 * i], right.values[2 * i + 1] + top)
        for (i in left.count - (if (isFoot && rows > 1) 2 else 1) downTo 0) {
            hull.add(left.values[2 * i], left.values[2 * i + 1] + top)
        }
    }

    /** Writes the outermost corners of one [side] (−1 left, 1 right) to [chain], from top to bottom. */
    private fun findChain(ends: IntArray, rows: Int, side: Int, chain: Points) {
        chain.clear()
        var corners = stack
        if (corners.size < rows) corners = IntArray(2 * rows).also { stack = it }
        var count = 0
        for (row in 0 until rows) {
            if (ends[row] == Int.MAX_VALUE || ends[row] == Int.MIN_VALUE) continue
            while (count >= 2) {
                val last = corners[count - 1]
                val before = corners[count - 2]
                val cross = (ends[last] - ends[before]).toLong() * (row - before) -
                    (ends[row] - ends[before]).toLong() * (last - before)
                if (cross * side > 0) break
                count--
            }
            corners[count++] = row
        }
        for (i in 0 until count) chain.add(ends[corners[i]], corners[i])
    }

    private fun fitLine(): Rectangle {
        val (x0, y0, x1, y1) = hull.values
        val angle = atan2((y1 - y0).toDouble(), (x1 - x0).toDouble())
        val length = hypot((x1 - x0).toFloat(), (y1 - y0).toFloat())
        return makeRectangle((x0 + x1) * 0.5f, (y0 + y1) * 0.5f, length, 0f, angle)
    }

    /**
     * Rotating calipers: one side of the smallest rectangle is on an edge of the hull.
     *
     * Computes in float32 and in OpenCV's order, because corners are truncated to whole pixels afterwards: 178.99998
     * and 179 would then be a pixel apart.
     */
    private fun fitHull(): Rectangle {
        val count = hull.count
        prepareSides(count)
        // The corner at each caliper: above, right, below, left.
        touching[ABOVE] = findFirst(count) { y[it] }
        touching[ON_RIGHT] = findFirst(count) { -x[it] }
        touching[BELOW] = findFirst(count) { -y[it] }
        touching[ON_LEFT] = findFirst(count) { x[it] }
        var leastArea = Float.MAX_VALUE
        var bestX = 0f
        var bestY = 0f
        var bestWidth = 0f
        var bestHeight = 0f
        var bestLeft = 0
        var bestTop = 0
        repeat(count) {
            val next = findNextSide()
            val side = touching[next]
            // The direction of the upper caliper when this edge of the hull is on its caliper.
            val directionX = rotateX(next, sideX[side] * inverseLength[side], sideY[side] * inverseLength[side])
            val directionY = rotateY(next, sideX[side] * inverseLength[side], sideY[side] * inverseLength[side])
            touching[next] = if (side + 1 == count) 0 else side + 1
            val acrossX = x[touching[ON_RIGHT]] - x[touching[ON_LEFT]]
            val acrossY = y[touching[ON_RIGHT]] - y[touching[ON_LEFT]]
            val width = acrossX * directionX + acrossY * directionY
            val downX = x[touching[BELOW]] - x[touching[ABOVE]]
            val downY = y[touching[BELOW]] - y[touching[ABOVE]]
            val height = downY * directionX - downX * directionY
            // The last one of equals.
            if (width * height <= leastArea) {
                leastArea = width * height
                bestX = directionX
                bestY = directionY
                bestWidth = width
                bestHeight = height
                bestLeft = touching[ON_LEFT]
                bestTop = touching[ABOVE]
            }
        }
        // Intersect the left and the upper caliper.
        val along = bestX * x[bestLeft] + y[bestLeft] * bestY
        val down = bestX * y[bestTop] - bestY * x[bestTop]
        val scale = 1f / (bestX * bestX + bestY * bestY)
        val cornerX = (along * bestX - down * bestY) * scale
        val cornerY = (bestX * down + bestY * along) * scale
        val alongX = bestX * bestWidth
        val alongY = bestY * bestWidth
        val downX = -bestY * bestHeight
        val downY = bestX * bestHeight
        return makeRectangle(
            cornerX + (alongX + downX) * 0.5f,
            cornerY + (alongY + downY) * 0.5f,
            measure(alongX, alongY),
            measure(downX, downY),
            atan2(alongY.toDouble(), alongX.toDouble()),
        )
    }

    private fun measure(x: Float, y: Float) = sqrt(x.toDouble() * x + y.toDouble() * y).toFloat()

    private fun prepareSides(count: Int) {
        if (x.size < count) {
            x = FloatArray(2 * count)
            y = FloatArray(2 * count)
            sideX = FloatArray(2 * count)
            sideY = FloatArray(2 * count)
            inverseLength = FloatArray(2 * count)
        }
        for (i in 0 until count) {
            x[i] = hull.values[2 * i].toFloat()
            y[i] = hull.values[2 * i + 1].toFloat()
        }
        for (i in 0 until count) {
            val next = if (i + 1 == count) 0 else i + 1
            sideX[i] = x[next] - x[i]
            sideY[i] = y[next] - y[i]
            inverseLength[i] = (1 / sqrt(sideX[i].toDouble() * sideX[i] + sideY[i].toDouble() * sideY[i])).toFloat()
        }
    }

    private inline fun findFirst(count: Int, key: (Int) -> Float): Int {
        var found = 0
        for (i in 1 until count) if (key(i) < key(found)) found = i
        return found
    }

    /** The caliper that reaches an edge of the hull first if all turn together; the first one of equals. */
    private fun findNextSide(): Int {
        var first = 0
        for (caliper in 1 until 4) {
            val side = touching[caliper]
            val other = touching[first]
            val x = rotateX(caliper, sideX[side], sideY[side]).toDouble()
            val y = rotateY(caliper, sideX[side], sideY[side]).toDouble()
            val otherX = rotateX(first, sideX[other], sideY[other])
            val otherY = rotateY(first, sideX[other], sideY[other])
            if (x * otherY - y * otherX > 0) first = caliper
        }
        return first
    }

    /** The x of a direction along a caliper, turned to the upper caliper. */
    private fun rotateX(caliper: Int, x: Float, y: Float) = when (caliper) {
        ABOVE -> x
        ON_RIGHT -> y
        BELOW -> -x
        else -> -y
    }

    private fun rotateY(caliper: Int, x: Float, y: Float) = when (caliper) {
        ABOVE -> y
        ON_RIGHT -> -x
        BELOW -> -y
        else -> x
    }

    /** Makes a rectangle from its centre and its sides along and across [direction] (in radians). */
    private fun makeRectangle(x: Float, y: Float, length: Float, depth: Float, direction: Double): Rectangle {
        // Like OpenCV, with an angle from −90° to 0°.
        var degrees = Math.toDegrees(direction).toFloat()
        var (width, height) = length to depth
        while (degrees !in -90f..<0f) {
            degrees += if (degrees < 0) 90f else -90f
            width = height.also { height = width }
        }
        val halfCosine = cos(Math.toRadians(degrees.toDouble())).toFloat() * 0.5f
        val halfSine = sin(Math.toRadians(degrees.toDouble())).toFloat() * 0.5f
        val firstX = x - halfSine * height - halfCosine * width
        val firstY = y + halfCosine * height - halfSine * width
        val secondX = x + halfSine * height - halfCosine * width
        val secondY = y - halfCosine * height - halfSine * width
        val corners = floatArrayOf(
            firstX, firstY, secondX, secondY, 2 * x - firstX, 2 * y - firstY, 2 * x - secondX, 2 * y - secondY,
        )
        return Rectangle(orderCorners(corners), min(width, height))
    }

    private companion object {
        const val ABOVE = 0
        const val ON_RIGHT = 1
        const val BELOW = 2
        const val ON_LEFT = 3
    }
}

/**
 * Returns four corners (8 floats) in the order top left, top right, bottom right, bottom left.
 *
 * The two leftmost are the left side; each side is ordered by y. The sort is stable.
 */
internal fun orderCorners(corners: FloatArray): FloatArray {
    val byX = (0 until 4).sortedBy { corners[2 * it] }
    val (topLeft, bottomLeft) = byX.take(2).sortedBy { corners[2 * it + 1] }
    val (topRight, bottomRight) = byX.drop(2).sortedBy { corners[2 * it + 1] }
    val ordered = FloatArray(8)
    listOf(topLeft, topRight, bottomRight, bottomLeft).forEachIndexed { i, from ->
        corners.copyInto(ordered, 2 * i, 2 * from, 2 * from + 2)
    }
    return ordered
}
