package io.github.edgeocr.core

/**
 * A picture.
 *
 * @property width Pixels in a row.
 * @property height Rows.
 * @property pixels [height] × [width] × 3 bytes, in the order blue, green, red.
 */
public class BgrImage(public val width: Int, public val height: Int, public val pixels: ByteArray) {
    init {
        require(width > 0 && height > 0) { "the picture has $width×$height pixels, expected at least 1×1" }
        require(pixels.size.toLong() == 3L * width * height) { "${pixels.size} bytes, expected $height×$width×3" }
    }

    /** The picture turned by 90° counter-clockwise. */
    public fun turnLeft(): BgrImage = BgrImage(height, width, move { x, y -> (width - 1 - x) * height + y })

    /** The picture turned by 90° clockwise. */
    public fun turnRight(): BgrImage = BgrImage(height, width, move { x, y -> x * height + height - 1 - y })

    /** The picture turned by 180°. */
    public fun turnAround(): BgrImage = BgrImage(width, height, move { x, y -> (height - y) * width - 1 - x })

    /** The columns from [start] to [end], exclusive. */
    internal fun cutColumns(start: Int, end: Int): BgrImage = cut(start, 0, Size(height, end - start))

    /** The part of [size] that starts at [left] and [top]. */
    internal fun cut(left: Int, top: Int, size: Size): BgrImage {
        val part = ByteArray(3 * size.height * size.width)
        for (y in 0 until size.height) {
            val start = 3 * ((top + y) * width + left)
            pixels.copyInto(part, 3 * y * size.width, start, start + 3 * size.width)
        }
        return BgrImage(size.width, size.height, part)
    }

    private inline fun move(place: (x: Int, y: Int) -> Int): ByteArray {
        val moved = ByteArray(pixels.size)
        var from = 0
        for (y in 0 until height) {
            for (x in 0 until width) {
                val to = 3 * place(x, y)
                moved[to] = pixels[from]
                moved[to + 1] = pixels[from + 1]
                moved[to + 2] = pixels[from + 2]
                from += 3
            }
        }
        return moved
    }

    public companion object {
        /** Converts [height] × [width] ints 0xAARRGGBB, as Android's Bitmap returns them; ignores alpha. */
        @JvmStatic
        public fun fromArgb(width: Int, height: Int, argb: IntArray): BgrImage {
            require(argb.size == width * height) { "${argb.size} ints, expected $height×$width" }
            val pixels = ByteArray(3 * argb.size)
            for (i in argb.indices) {
                pixels[3 * i] = argb[i].toByte()
                pixels[3 * i + 1] = (argb[i] shr 8).toByte()
                pixels[3 * i + 2] = (argb[i] shr 16).toByte()
            }
            return BgrImage(width, height, pixels)
        }
    }
}
