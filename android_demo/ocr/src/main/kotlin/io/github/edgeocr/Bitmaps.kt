package io.github.edgeocr

import android.graphics.Bitmap
import android.os.Build
import io.github.edgeocr.core.BgrImage
import kotlin.math.floor
import kotlin.math.max

/**
 * Returns the pixels of a bitmap of any configuration.
 *
 * Transparent pixels are blended with white, or with black if everything visible is light, as on the host
 * (`flatten_alpha` in edge_ocr/core/pictures.py).
 *
 * Throws [PictureException] if the bitmap is recycled, too large or cannot be copied.
 */
internal fun readBitmap(bitmap: Bitmap): BgrImage {
    if (bitmap.isRecycled) throw PictureException("the bitmap is recycled")
    val size = "${bitmap.width}×${bitmap.height} pixels"
    if (3L * bitmap.width * bitmap.height > MAX_BYTES) {
        throw PictureException("the bitmap of $size is too large", SAMPLE_DOWN)
    }
    try {
        // Its pixels are in GPU memory.
        val isHardware = Build.VERSION.SDK_INT >= Build.VERSION_CODES.O && bitmap.config == Bitmap.Config.HARDWARE
        if (!isHardware) return readPixels(bitmap)
        val copy = bitmap.copy(Bitmap.Config.ARGB_8888, false)
            ?: throw PictureException("the bitmap of $size cannot be copied from GPU memory", SAMPLE_DOWN)
        try {
            return readPixels(copy)
        } finally {
            copy.recycle()
        }
    } catch (error: OutOfMemoryError) {
        throw PictureException("not enough memory for a bitmap of $size", SAMPLE_DOWN, error)
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

/** Whether anything is visible and the first percentile of its brightness (interpolated) is light. */
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

/** The brightness of the pixel at [rank] (from 0) if all are sorted by brightness. */
private fun find(counts: LongArray, rank: Long): Int {
    var passed = 0L
    return counts.indices.first { value ->
        passed += counts[value]
        passed > rank
    }
}

/** Passes each pixel as 0xAARRGGBB, row by row. Works on a few rows at a time to save memory. */
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

private const val SAMPLE_DOWN = "downsample the picture when you decode it: BitmapFactory.Options.inSampleSize"

/** The largest array. */
private const val MAX_BYTES = Int.MAX_VALUE - 8
private const val STRIP_PIXELS = 1 shl 16
private const val OPAQUE = 255

/** `LIGHT_ON_TRANSPARENT` of edge_ocr/core/pictures.py: brightness that all but the darkest 1 % must reach. */
private const val LIGHT_ON_TRANSPARENT = 192
private const val DARKEST_SHARE = 0.01
