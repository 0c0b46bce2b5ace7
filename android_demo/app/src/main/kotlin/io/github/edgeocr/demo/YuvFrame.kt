package io.github.edgeocr.demo

import android.graphics.Bitmap
import android.graphics.Color
import android.media.Image
import io.github.edgeocr.core.BgrImage

/** One plane of a frame: the value of column x and row y is at y × [rowStride] + x × [pixelStride]. */
internal class YuvPlane(val values: ByteArray, val rowStride: Int, val pixelStride: Int)

/** A camera frame: brightness ([y]) for each pixel, colour ([u], [v]) for each block of 2×2. */
internal class YuvFrame(val width: Int, val height: Int, val y: YuvPlane, val u: YuvPlane, val v: YuvPlane) {
    /**
     * Returns the picture rotated clockwise by [degrees]: 0, 90, 180 or 270.
     *
     * Full range of BT.601, the default of Android's YUV_420_888.
     */
    fun toBgr(degrees: Int): BgrImage {
        require(degrees in 0..270 && degrees % 90 == 0) { "degrees is $degrees, expected 0, 90, 180 or 270" }
        // The pixel of column x and row y goes to origin + x × across + y × down.
        val (origin, across, down) = when (degrees) {
            0 -> Triple(0, 1, width)
            90 -> Triple(height - 1, height, -1)
            180 -> Triple(width * height - 1, -1, -width)
            else -> Triple((width - 1) * height, -height, 1)
        }
        val pixels = ByteArray(3 * width * height)
        for (row in 0 until height) {
            for (column in 0 until width) {
                val light = (y.values[row * y.rowStride + column * y.pixelStride].toInt() and 0xFF shl BITS) + HALF
                val blue = (u.values[row / 2 * u.rowStride + column / 2 * u.pixelStride].toInt() and 0xFF) - NO_COLOUR
                val red = (v.values[row / 2 * v.rowStride + column / 2 * v.pixelStride].toInt() and 0xFF) - NO_COLOUR
                val to = 3 * (origin + column * across + row * down)
                pixels[to] = clamp(light + BLUE_OF_U * blue)
                pixels[to + 1] = clamp(light - GREEN_OF_U * blue - GREEN_OF_V * red)
                pixels[to + 2] = clamp(light + RED_OF_V * red)
            }
        }
        return if (degrees % 180 == 0) BgrImage(width, height, pixels) else BgrImage(height, width, pixels)
    }

    private fun clamp(scaled: Int): Byte = (scaled shr BITS).coerceIn(0, 255).toByte()

    companion object {
        /** Copies a frame; its planes are invalid after [image] is closed. */
        fun copy(image: Image): YuvFrame {
            val (y, u, v) = image.planes.map { plane ->
                val buffer = plane.buffer.duplicate()
                YuvPlane(ByteArray(buffer.remaining()).also(buffer::get), plane.rowStride, plane.pixelStride)
            }
            return YuvFrame(image.width, image.height, y, u, v)
        }

        // 1.402, 0.344136, 0.714136 and 1.772 times 2^16.
        private const val BITS = 16
        private const val HALF = 1 shl BITS - 1
        private const val RED_OF_V = 91_881
        private const val GREEN_OF_U = 22_553
        private const val GREEN_OF_V = 46_802
        private const val BLUE_OF_U = 116_130
        private const val NO_COLOUR = 128
    }
}

/** Converts a picture for a view. */
internal fun BgrImage.toBitmap(): Bitmap {
    val bitmap = Bitmap.createBitmap(width, height, Bitmap.Config.ARGB_8888)
    val row = IntArray(width)
    for (y in 0 until height) {
        for (x in 0 until width) {
            val from = 3 * (y * width + x)
            row[x] = Color.rgb(
                pixels[from + 2].toInt() and 0xFF,
                pixels[from + 1].toInt() and 0xFF,
                pixels[from].toInt() and 0xFF,
            )
        }
        bitmap.setPixels(row, 0, width, 0, y, width, 1)
    }
    return bitmap
}
