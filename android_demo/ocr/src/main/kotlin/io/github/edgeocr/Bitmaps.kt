package io.github.edgeocr

import android.graphics.Bitmap
import android.os.Build
import io.github.edgeocr.core.BgrImage
import kotlin.math.floor
import kotlin.math.max

/**
 * The pixels of a bitmap of any configuration.
 *
 * Transparent ones are laid over white, or over black where all that is visible is light, as on the host
 * (`flatten_alpha` of edge_ocr/core/pictures.py).
 *
 * Throws [PictureException] for a bitmap that is recycled, too large or cannot be copied.
 */
internal fun readBitmap(bitmap: Bitmap): BgrImage {
    if (bitmap.isRecycled) throw PictureException("the bitmap is recycled")
    val size = "${bitmap.width}×${bitmap.height} pixels"
    if (3L * bitmap.width * bitmap.height > MAX_BYTES) throw PictureException("$size are too many", SAMPLE_DOWN)
    try {
        // Its pixels lie in the memory of the graphics chip.
        val isHardware = Build.VERSION.SDK_INT >= Build.VERSION_CODES.O && bitmap.config == Bitmap.Config.HARDWARE
        if (!isHardware) return readPixels(bitmap)
        val copy = bitmap.copy(Bitmap.Config.ARGB_8888, false)
            ?: throw PictureException("the bitmap of $size cannot be copied from the graphics chip", SAMPLE_DOWN)
        try {
            return readPixels(copy)
        } finally {
            copy.recycle()
        }
    } catch (error: OutOfMemoryError) {
        throw PictureException("$size do not fit into memory", SAMPLE_DOWN, error)
    }
}

private fun readPixels(bitmap: Bitmap): BgrImage {
    val pixels = ByteArray(3 * bitmap.width * bitmap.height)
    var to = 0
    if (bitmap.hasAlpha()) {
        val paper = if (isLight(bitmap)) 0 else OPAQUE
        visitPixels(bitmap) { argb ->
            val alpha = argb ushr 24
            val under = paper * (OPAQUE - alpha) + OPAQUE / 2
            pixels[to++] = (((argb and 0xFF) * alpha + under) / OPAQUE).toByte()
            pixels[to++] = (((argb shr 8 and 0xFF) * alpha + under) / OPAQUE).toByte()
            pixels[to++] = (((argb shr 16 and 0xFF) * alpha + under) / OPAQUE).toByte()
        }
    } else {
        visitPixels(bitmap) { argb ->
            pixels[to++] = argb.toByte()
            pixels[to++] = (argb shr 8).toByte()
            pixels[to++] = (argb shr 16).toByte()
        }
    }
    return BgrImage(bitmap.width, bitmap.height, pixels)
}

/** Whether something is visible, and the first percentile of its brightness, interpolated, is light. */
private fun isLight(bitmap: Bitmap): Boolean {
    val counts = LongArray(OPAQUE + 1)
    visitPixels(bitmap) { argb ->
        if (argb ushr 24 > OPAQUE / 2) {
            counts[max(argb and 0xFF, max(argb shr 8 and 0xFF, argb shr 16 and 0xFF))]++
        }
    }
    val visible = counts.sum()
    if (visible == 0L) return false
    val place = DARKEST_SHARE * (visible - 1)
    val rank = floor(place).toLong()
    val (below, above) = find(counts, rank) to find(counts, minOf(rank + 1, visible - 1))
    return below + (above - below) * (place - rank) >= LIGHT_ON_TRANSPARENT
}

/** The brightness of the pixel at [rank], from 0, of all in the order of their brightness. */
private fun find(counts: LongArray, rank: Long): Int {
    var passed = 0L
    return counts.indices.first { value ->
        passed += counts[value]
        passed > rank
    }
}

/** Gives each pixel as 0xAARRGGBB, row by row. A few rows at a time, for all at once would double the memory. */
private inline fun visitPixels(bitmap: Bitmap, visit: (argb: Int) -> Unit) {
    val (width, height) = bitmap.width to bitmap.height
    val rows = (STRIP_PIXELS / width).coerceIn(1, height)
    val strip = IntArray(rows * width)
    for (top in 0 until height step rows) {
        val count = minOf(rows, height - top)
        bitmap.getPixels(strip, 0, width, 0, top, width, count)
        for (i in 0 until count * width) visit(strip[i])
    }
}

private const val SAMPLE_DOWN = "sample the picture down when you decode it: BitmapFactory.Options.inSampleSize"

/** What an array can hold. */
private const val MAX_BYTES = Int.MAX_VALUE - 8
private const val STRIP_PIXELS = 1 shl 16
private const val OPAQUE = 255

/** `LIGHT_ON_TRANSPARENT` of edge_ocr/core/pictures.py: brightness that all but the darkest hundredth must reach. */
private const val LIGHT_ON_TRANSPARENT = 192
private const val DARKEST_SHARE = 0.01
