package io.github.edgeocr.core

/** Columns and rows to the eight neighbours of a pixel: from the right on, counter-clockwise as seen in the picture. */
private val STEP_X = intArrayOf(1, 1, 0, -1, -1, -1, 0, 1)
private val STEP_Y = intArrayOf(0, -1, -1, -1, 0, 1, 1, 1)
private const val RIGHT = 0
private const val LEFT = 4

// Of a pixel of a shape: whether an outline passed it, and whether one did with nothing to the right of it.
private const val EMPTY: Byte = 0
private const val NEW: Byte = 1
private const val PASSED: Byte = 2
private const val PASSED_AT_RIGHT_END: Byte = 3

/**
 * Finds the outlines of shapes, of their holes as well: Suzuki and Abe's border following, without the hierarchy.
 *
 * Shapes hang together by any of eight neighbours. One finder finds once.
 */
internal class OutlineFinder(private val map: ProbMap) {
    private val width = map.size.width
    private val height = map.size.height

    // With a rim of nothing, so that each pixel has eight neighbours.
    private val stride = width + 2
    private val marks = ByteArray(stride * (height + 2))
    private val offsets = IntArray(8) { STEP_Y[it] * stride + STEP_X[it] }

    /**
     * The outlines of what is above [threshold] in the map, at most [limit] and those found last, the last one first.
     *
     * Found in the order of rows, so these are the lowest; that is what OpenCV hands on, and the host cuts off.
     */
    fun find(threshold: Float, limit: Int): List<Points> {
        for (y in 0 until height) {
            val row = (y + 1) * stride + 1
            for (x in 0 until width) marks[row + x] = if (map[y * width + x] > threshold) NEW else EMPTY
        }
        val found = ArrayDeque<Points>()
        for (y in 1..height) {
            var previous = EMPTY
            for (x in 1..width + 1) {
                val place = y * stride + x
                val mark = marks[place]
                if (previous == EMPTY && mark == NEW) {
                    found.addFirst(follow(place, LEFT))
                } else if (mark == EMPTY && (previous == NEW || previous == PASSED)) {
                    found.addFirst(follow(place - 1, RIGHT))
                }
                if (found.size > limit) found.removeLast()
                previous = marks[place]
            }
        }
        return found
    }

    /** Goes once around from [start], beside which in direction [outside] there is nothing; returns where it turned. */
    private fun follow(start: Int, outside: Int): Points {
        val points = Points(32)
        var direction = outside
        do {
            direction = (direction + 7) and 7
        } while (marks[start + offsets[direction]] == EMPTY && direction != outside)
        if (direction == outside) {
            marks[start] = PASSED_AT_RIGHT_END
            add(points, start)
            return points
        }
        val second = start + offsets[direction]
        var place = start
        var came = -1
        while (true) {
            var isRightEnd = false
            var next: Int
            while (true) {
                direction = (direction + 1) and 7
                next = place + offsets[direction]
                if (marks[next] != EMPTY) break
                if (direction == RIGHT) isRightEnd = true
            }
            if (isRightEnd) {
                marks[place] = PASSED_AT_RIGHT_END
            } else if (marks[place] == NEW) {
                marks[place] = PASSED
            }
            // On a straight line only its ends matter.
            if (direction != came) add(points, place)
            came = direction
            if (next == start && place == second) return points
            place = next
            direction = (direction + 4) and 7
        }
    }

    private fun add(points: Points, place: Int) = points.add(place % stride - 1, place / stride - 1)
}
