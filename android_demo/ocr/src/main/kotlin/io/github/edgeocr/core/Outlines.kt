package io.github.edgeocr.core

/** Offsets to the eight neighbours of a pixel, counter-clockwise from the right as seen in the picture. */
private val STEP_X = intArrayOf(1, 1, 0, -1, -1, -1, 0, 1)
private val STEP_Y = intArrayOf(0, -1, -1, -1, 0, 1, 1, 1)
private const val RIGHT = 0
private const val LEFT = 4

// Marks of a pixel: an outline passed it; an outline passed it with background to the right.
private const val EMPTY: Byte = 0
private const val NEW: Byte = 1
private const val PASSED: Byte = 2
private const val PASSED_AT_RIGHT_END: Byte = 3

/**
 * Finds the outlines of shapes and of their holes: border following of Suzuki and Abe, without the hierarchy.
 *
 * Shapes are 8-connected. Use each finder once.
 */
internal class OutlineFinder(private val map: ProbMap) {
    private val width = map.size.width
    private val height = map.size.height

    // With a border of background, so that each pixel has eight neighbours.
    private val stride = width + 2
    private val marks = ByteArray(stride * (height + 2))
    private val offsets = IntArray(8) { STEP_Y[it] * stride + STEP_X[it] }

    /**
     * Returns the outlines of what is above [threshold]: the last [limit] that are found, the last one first.
     *
     * They are found row by row, so these are the lowest ones, like the ones that the host keeps from OpenCV.
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

    /** Follows the outline from [start], whose neighbour in direction [outside] is background; returns its corners. */
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
            // Only the ends of a straight line matter.
            if (direction != came) add(points, place)
            came = direction
            if (next == start && place == second) return points
            place = next
            direction = (direction + 4) and 7
        }
    }

    private fun add(points: Points, place: Int) = points.add(place % stride - 1, place / stride - 1)
}
