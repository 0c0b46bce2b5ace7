package io.github.edgeocr.core

import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min

/**
 * The size of a picture.
 *
 * @property height Rows.
 * @property width Columns.
 */
public data class Size(val height: Int, val width: Int)

/** The width of the border that a picture needs for detection, in pixels; 0 except for small pictures and strips. */
internal fun planBorder(height: Int, width: Int, settings: BorderSettings): Int {
    val (shorter, longer) = min(height, width) to max(height, width)
    val isStrip = shorter <= settings.stripSide && shorter.toLong() * settings.stripRatio <= longer
    return if (isStrip || shorter <= settings.smallSide) settings.pixels else 0
}

/** Adds [border] pixels on each side, in the median colour of the outermost pixels; returns the image itself for 0. */
internal fun addBorder(image: BgrImage, border: Int): BgrImage {
    if (border == 0) return image
    val (width, height) = image.width + 2 * border to image.height + 2 * border
    val colour = findEdgeColour(image)
    val framed = ByteArray(3 * width * height) { colour[it % 3] }
    for (y in 0 until image.height) {
        val row = 3 * y * image.width
        image.pixels.copyInto(framed, 3 * ((y + border) * width + border), row, row + 3 * image.width)
    }
    return BgrImage(width, height, framed)
}

/** The median of the outermost pixels for each channel; the lower one of two, so that it is an existing value. */
private fun findEdgeColour(image: BgrImage) = ByteArray(3) { channel ->
    fun read(x: Int, y: Int) = image.pixels[3 * (y * image.width + x) + channel].toInt() and 0xFF

    val (right, bottom) = image.width - 1 to image.height - 1
    // Corners count twice, as on the host.
    val values = (0..right).flatMap { listOf(read(it, 0), read(it, bottom)) } +
        (0..bottom).flatMap { listOf(read(0, it), read(right, it)) }
    values.sorted()[(values.size - 1) / 2].toByte()
}

/** The size of the detection input: scaled to the limit, each side rounded to the network's multiple. */
internal fun planDetectionSize(height: Int, width: Int, settings: DetectionSettings): Size {
    val limit = settings.limitSideLen.toDouble()
    val (shortest, longest) = min(height, width) to max(height, width)
    val wanted = when (settings.limitType) {
        LimitType.LONG -> limit / longest
        LimitType.MAX -> min(1.0, limit / longest)
        LimitType.MIN -> max(1.0, limit / shortest)
    }
    val ratio = min(wanted, settings.maxSide.toDouble() / longest)
    val step = settings.sideMultiple

    // Halves are rounded to even, as on the host.
    fun fit(side: Int) = max(Math.rint((side * ratio).toInt().toDouble() / step).toInt() * step, step)

    return Size(fit(height), fit(width))
}

/** The detection input: 1 × 3 × H × W, resized and normalised. */
internal fun prepareDetection(image: BgrImage, settings: DetectionSettings): Tensor {
    val size = planDetectionSize(image.height, image.width, settings)
    val data = FloatArray(3 * size.height * size.width)
    fillPlanes(resize(image, size), data, 0, size.width, settings.normalization.tabulate())
    return Tensor(intArrayOf(1, 3, size.height, size.width), data)
}

/** Scales a text line to [height] rows and keeps its ratio, but squeezes it to at most [maxWidth] columns. */
internal fun resizeLine(crop: BgrImage, height: Int, maxWidth: Int = Int.MAX_VALUE): BgrImage {
    val width = (crop.width.toLong() * height + crop.height - 1) / crop.height
    return resize(crop, Size(height, width.coerceIn(1, maxWidth.toLong()).toInt()))
}

/**
 * Normalises the part of an image that starts at [left] and [top] into [data], 3 × [size].
 *
 * Beyond the right and the lower edge, the outermost pixels are repeated.
 */
internal fun fillWindow(image: BgrImage, left: Int, top: Int, size: Size, data: FloatArray, table: FloatArray) {
    val plane = size.height * size.width
    var to = 0
    for (y in top until top + size.height) {
        val row = min(y, image.height - 1) * image.width
        for (x in left until left + size.width) {
            val from = 3 * (row + min(x, image.width - 1))
            data[to] = table[image.pixels[from].toInt() and 0xFF]
            data[to + plane] = table[256 + (image.pixels[from + 1].toInt() and 0xFF)]
            data[to + 2 * plane] = table[512 + (image.pixels[from + 2].toInt() and 0xFF)]
            to++
        }
    }
}

/**
 * Returns N × 3 × H × [width], normalised, with [padValue] to the right of the lines.
 *
 * All lines have the same height H and are at most [width] wide.
 */
internal fun prepareLines(lines: List<BgrImage>, width: Int, normalization: Normalization, padValue: Float): Tensor {
    val height = lines[0].height
    val data = FloatArray(lines.size * 3 * height * width)
    if (padValue != 0f) data.fill(padValue)
    val table = normalization.tabulate()
    lines.forEachIndexed { i, line -> fillPlanes(line, data, i * 3 * height * width, width, table) }
    return Tensor(intArrayOf(lines.size, 3, height, width), data)
}

/** Writes an image as three planes with rows of [width], from [start] on, each byte mapped by [table]. */
private fun fillPlanes(image: BgrImage, data: FloatArray, start: Int, width: Int, table: FloatArray) {
    val plane = image.height * width
    var from = 0
    for (y in 0 until image.height) {
        var to = start + y * width
        repeat(image.width) {
            data[to] = table[image.pixels[from].toInt() and 0xFF]
            data[to + plane] = table[256 + (image.pixels[from + 1].toInt() and 0xFF)]
            data[to + 2 * plane] = table[512 + (image.pixels[from + 2].toInt() and 0xFF)]
            from += 3
            to++
        }
    }
}

// Weights are integers of 11 bits, as in OpenCV's INTER_LINEAR for bytes, which the host uses.
private const val WEIGHT_BITS = 11
private const val ONE = 1 shl WEIGHT_BITS

/** Scales the image to [size], bilinear between the centres of pixels. */
internal fun resize(image: BgrImage, size: Size): BgrImage {
    if (size.width == image.width && size.height == image.height) return image
    val columns = Samples(image.width, size.width)
    val rows = Samples(image.height, size.height)
    val scaled = ByteArray(3 * size.width * size.height)
    // Two source rows at the new width; the next row of the result mostly needs the same two.
    var upper = IntArray(3 * size.width)
    var lower = IntArray(3 * size.width)
    var upperRow = -1
    var lowerRow = -1
    var to = 0
    for (y in 0 until size.height) {
        val first = max(rows.first[y], 0)
        val second = min(rows.first[y] + 1, image.height - 1)
        if (first == lowerRow) {
            upper = lower.also { lower = upper }
            upperRow = lowerRow.also { lowerRow = upperRow }
        }
        if (first != upperRow) scaleRow(image, first, columns, upper)
        if (second != lowerRow) scaleRow(image, second, columns, lower)
        upperRow = first
        lowerRow = second
        val weight = rows.weight[y]
        for (x in upper.indices) {
            // Truncate each one: above the first row's centre, both come from the same row, and yet their sum is less.
            val above = ((ONE - weight) * (upper[x] shr 4)) shr 16
            val below = (weight * (lower[x] shr 4)) shr 16
            scaled[to++] = ((above + below + 2) shr 2).toByte()
        }
    }
    return BgrImage(size.width, size.height, scaled)
}

/**
 * For each position along one axis of the result: the source pixel at or before it ([first]) and the [weight] of the
 * next pixel.
 *
 * Before the first pixel's centre, [first] is −1.
 */
private class Samples(from: Int, to: Int) {
    val first = IntArray(to)
    val weight = IntArray(to)

    init {
        val scale = from.toDouble() / to
        for (i in 0 until to) {
            val place = ((i + 0.5) * scale - 0.5).toFloat()
            first[i] = floor(place).toInt()
            weight[i] = Math.rint(((place - first[i]) * ONE).toDouble()).toInt()
        }
    }
}

private fun scaleRow(image: BgrImage, row: Int, columns: Samples, scaled: IntArray) {
    val start = row * image.width
    val last = image.width - 1
    var to = 0
    for (x in columns.first.indices) {
        val weight = columns.weight[x]
        val left = 3 * (start + max(columns.first[x], 0))
        val right = 3 * (start + min(columns.first[x] + 1, last))
        for (channel in 0 until 3) {
            val a = image.pixels[left + channel].toInt() and 0xFF
            val b = image.pixels[right + channel].toInt() and 0xFF
            scaled[to++] = a * (ONE - weight) + b * weight
        }
    }
}
