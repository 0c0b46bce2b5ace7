package io.github.edgeocr.core

import kotlin.math.abs
import kotlin.math.hypot
import kotlin.math.max

/*
 * Large pictures are detected in overlapping windows: the scale, the windows, and how boxes are merged.
 * The same algorithm as in edge_ocr/core/windows.py.
 */

/** Where a window starts along one axis, and which part of the map it fills: seams are in the middle of overlaps. */
internal data class Span(val start: Int, val first: Int, val end: Int)

/** The windows along one axis. All have the same [size], so that the network sees one shape. */
internal class Spans(val size: Int, val spans: List<Span>)

/**
 * Returns the windows along an axis of [length] pixels; their size is a multiple of [multiple].
 *
 * On a short axis, the only window may be longer than the axis.
 */
internal fun planSpans(length: Int, multiple: Int, settings: WindowSettings): Spans {
    val overlap = settings.overlap
    val count = if (length > settings.side) divideUp(length - overlap, settings.side - overlap) else 1
    val size = divideUp(divideUp(length + (count - 1) * overlap, count), multiple) * multiple
    val starts = List(count) { if (count > 1) it * (length - size) / (count - 1) else 0 }
    val seams = starts.zipWithNext { start, after -> (start + size + after) / 2 }
    return Spans(size, List(count) { Span(starts[it], seams.getOrElse(it - 1) { 0 }, seams.getOrElse(it) { length }) })
}

private fun divideUp(value: Int, by: Int) = (value + by - 1) / by

/**
 * Returns the prob map of [image] scaled by [scale] (at most 1), one byte per pixel, made window by window with [run].
 *
 * [run] gets 1 × 3 × H × W, the same array each time, and returns its H × W values in 0..1. [beforeWindow] may throw to
 * stop.
 */
internal fun mapWindows(
    image: BgrImage,
    scale: Double,
    settings: Settings,
    beforeWindow: () -> Unit,
    run: (Tensor) -> FloatArray,
): ProbMap {
    val size = Size(max(1, Math.rint(image.height * scale).toInt()), max(1, Math.rint(image.width * scale).toInt()))
    return mapSpans(image, size, settings, beforeWindow, run)
}

/** The windows of large inputs. As nothing else may look at them, windows with faint text are not blank. */
internal fun planLarge(settings: WindowSettings): WindowSettings =
    settings.copy(side = settings.largeSide, overlap = settings.largeOverlap, blankRange = 1)

/** Returns the prob map of [image] scaled to [size], as [mapWindows] does, in the windows of large inputs. */
internal fun mapLarge(
    image: BgrImage,
    size: Size,
    settings: Settings,
    beforeWindow: () -> Unit,
    run: (Tensor) -> FloatArray,
): ProbMap = mapSpans(image, size, settings.copy(windows = planLarge(settings.windows)), beforeWindow, run)

/** Returns the prob map of [image] scaled to [size], made in the windows of [settings]; blank ones are 0. */
private fun mapSpans(
    image: BgrImage,
    size: Size,
    settings: Settings,
    beforeWindow: () -> Unit,
    run: (Tensor) -> FloatArray,
): ProbMap {
    val reduced = resize(image, size)
    val downs = planSpans(size.height, settings.detection.sideMultiple, settings.windows)
    val acrosses = planSpans(size.width, settings.detection.sideMultiple, settings.windows)
    val window = Size(downs.size, acrosses.size)
    val input = Tensor(intArrayOf(1, 3, window.height, window.width), FloatArray(3 * window.height * window.width))
    val table = settings.detection.normalization.tabulate()
    val levels = ByteArray(size.height * size.width)
    for (down in downs.spans) {
        for (across in acrosses.spans) {
            beforeWindow()
            if (measureRange(reduced, across.start, down.start, window) < settings.windows.blankRange) continue
            fillWindow(reduced, across.start, down.start, window, input.data, table)
            val probs = run(input)
            for (y in down.first until down.end) {
                val from = (y - down.start) * window.width - across.start
                val to = y * size.width
                for (x in across.first until across.end) {
                    levels[to + x] = Math.rint((probs[from + x] * 255f).toDouble()).toInt().coerceIn(0, 255).toByte()
                }
            }
        }
    }
    return ProbMap.ofLevels(levels, size)
}

/** The range of a window's values over all channels, 0..255. */
private fun measureRange(image: BgrImage, left: Int, top: Int, size: Size): Int {
    var least = 255
    var most = 0
    for (y in top until minOf(top + size.height, image.height)) {
        for (i in 3 * (y * image.width + left) until 3 * (y * image.width + minOf(left + size.width, image.width))) {
            val value = image.pixels[i].toInt() and 0xFF
            if (value < least) least = value
            if (value > most) most = value
        }
    }
    return most - least
}

/**
 * Returns the scale, at most 1, for another look at [image]; null if [scale] shows its text.
 *
 * [boxes] were found at [scale].
 */
internal fun planFinerScale(image: BgrImage, scale: Double, boxes: List<TextBox>, settings: WindowSettings): Double? {
    if (scale > settings.enoughScale) return null
    val heights = boxes.map { measureLine(it.polygon).height * scale }.sorted()
    val low = if (heights.isEmpty()) settings.smallBox else heights[heights.size / 4]
    val isBlind = scale < settings.blindScale
    val finer = when {
        !isBlind && low < settings.smallBox -> scale * settings.legibleBox / low
        // The boxes found there tell how large the text is; without any, the next pass is at full scale.
        isBlind || (scale <= settings.printScale && hasFinePrint(image, boxes, settings)) ->
            if (scale < settings.visibleScale) settings.visibleScale else 1.0
        else -> return null
    }
    return if (finer < settings.wholeScale) finer else 1.0
}

/**
 * Whether a picture has strokes as thin and dense as those of text of 12 to 24 px, judged by the green channel.
 *
 * Ignores what is inside [boxes]. Most photos are too soft for such strokes at full size.
 */
internal fun hasFinePrint(image: BgrImage, boxes: List<TextBox>, settings: WindowSettings): Boolean {
    val side = settings.tileSide
    val rows = image.height / side
    val columns = image.width / side
    if (rows == 0 || columns == 0) return false
    val covers = boxes.filter { measureLine(it.polygon).height <= settings.fineBox }
        .map { expand(it.polygon, side.toDouble()) }
    var tiles = 0
    val strokes = IntArray(columns)
    for (row in 0 until rows) {
        strokes.fill(0)
        for (y in row * side until (row + 1) * side) countStrokes(image, y, strokes, settings)
        for (column in 0 until columns) {
            if (strokes[column] < settings.strokeShare * side * side) continue
            val centre = floatArrayOf(column * side + side / 2f, row * side + side / 2f)
            if (covers.none { contains(it, centre) }) tiles++
        }
    }
    return tiles >= settings.tileShare * rows * columns
}

/** Moves the sides of a rectangle outwards by [margin] pixels. */
private fun expand(polygon: FloatArray, margin: Double): FloatArray {
    val (acrossX, acrossY) = makeStep(polygon, 1, margin)
    val (downX, downY) = makeStep(polygon, 3, margin)
    val steps = doubleArrayOf(
        -acrossX - downX, -acrossY - downY, acrossX - downX, acrossY - downY,
        acrossX + downX, acrossY + downY, downX - acrossX, downY - acrossY,
    )
    return FloatArray(8) { (polygon[it] + steps[it]).toFloat() }
}

/** Adds to each tile of [strokes] how many pixels of row [y] differ from the pixels two to the left and right. */
private fun countStrokes(image: BgrImage, y: Int, strokes: IntArray, settings: WindowSettings) {
    val green = 3 * y * image.width + 1
    val last = image.width - 1
    for (x in 0 until strokes.size * settings.tileSide) {
        val middle = image.pixels[green + 3 * x].toInt() and 0xFF
        val left = image.pixels[green + 3 * max(x - 2, 0)].toInt() and 0xFF
        val right = image.pixels[green + 3 * minOf(x + 2, last)].toInt() and 0xFF
        if (abs(2 * middle - left - right) >= 2 * settings.strokeContrast) strokes[x / settings.tileSide]++
    }
}

/** Moves each side of a box outwards by `margin` of its height, to whole pixels inside the picture of [imageSize]. */
internal fun growBox(box: TextBox, imageSize: Size, settings: WindowSettings): TextBox {
    val grown = expand(box.polygon, settings.margin * measureLine(box.polygon).height)
    return TextBox(roundCorners(imageSize) { grown[it].toDouble() }, box.detScore)
}

/** A vector of [length] pixels from the first corner towards corner [to]; shorter if they are less than 1 px apart. */
private fun makeStep(polygon: FloatArray, to: Int, length: Double): Pair<Double, Double> {
    val x = polygon[2 * to].toDouble() - polygon[0]
    val y = polygon[2 * to + 1].toDouble() - polygon[1]
    val side = max(hypot(x, y), 1.0)
    return x * length / side to y * length / side
}

/**
 * Returns the boxes of a finer look and those of a coarser one (at [scale]) that show other text, in any order.
 *
 * A coarser box stays if no finer box covers it, or touches it if it is not clear. If it is clear, it replaces the
 * pieces that the finer look made of it. Small lines that it mistook for one line are not pieces.
 */
internal fun mergeBoxes(
    fine: List<TextBox>,
    coarse: List<TextBox>,
    scale: Double,
    settings: WindowSettings,
): List<TextBox> {
    val centres = fine.map { findCentre(it.polygon) }
    val areas = fine.map { measureArea(it.polygon) }
    val lines = fine.map { measureLine(it.polygon) }
    val isReplaced = BooleanArray(fine.size)
    val kept = ArrayList<TextBox>()
    for (box in coarse) {
        val inside = fine.indices.filter { contains(box.polygon, centres[it]) }
        val line = measureLine(box.polygon)
        val pieces = inside.filter { lines[it].height > line.height / 2 }
        val isBroken = pieces.size > 1 || pieces.any { lines[it].length < settings.sameLine * line.length }
        val isClear = line.height * scale >= settings.clearBox
        if (isClear && isBroken) {
            for (i in inside) isReplaced[i] = true
            kept += box
            continue
        }
        val isCovered = fine.isNotEmpty() &&
            inside.sumOf { areas[it] } >= settings.coveredShare * measureArea(box.polygon)
        val centre = findCentre(box.polygon)
        val isKnown = isCovered || fine.any { contains(it.polygon, centre) } ||
            (!isClear && fine.any { touches(it.polygon, box.polygon) })
        if (!isKnown) kept += box
    }
    return fine.filterIndexed { i, _ -> !isReplaced[i] } + kept
}

/** Whether the upright rectangles around two quadrilaterals overlap. */
private fun touches(quad: FloatArray, other: FloatArray) = (0..1).all { axis ->
    val (from, to) = (0 until 4).map { quad[2 * it + axis] }.run { min() to max() }
    val (start, end) = (0 until 4).map { other[2 * it + axis] }.run { min() to max() }
    from < end && to > start
}

/** The mean of the corners: x and y. */
private fun findCentre(quad: FloatArray) = floatArrayOf(
    (quad[0] + quad[2] + quad[4] + quad[6]) / 4,
    (quad[1] + quad[3] + quad[5] + quad[7]) / 4,
)

/** Whether a point (x and y) is inside a convex quadrilateral or on its edge. */
private fun contains(quad: FloatArray, point: FloatArray): Boolean {
    var isLeft = true
    var isRight = true
    for (i in 0 until 4) {
        val k = (i + 1) and 3
        // In float32, as on the host.
        val turn = (quad[2 * k] - quad[2 * i]) * (point[1] - quad[2 * i + 1]) -
            (quad[2 * k + 1] - quad[2 * i + 1]) * (point[0] - quad[2 * i])
        isLeft = isLeft && turn >= 0
        isRight = isRight && turn <= 0
    }
    return isLeft || isRight
}

private fun measureArea(quad: FloatArray): Double {
    val doubled = (0 until 4).sumOf { i ->
        val k = (i + 1) and 3
        quad[2 * i].toDouble() * quad[2 * k + 1] - quad[2 * k].toDouble() * quad[2 * i + 1]
    }
    return abs(doubled) / 2
}
