package io.github.edgeocr.demo

import android.content.ContentResolver
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Matrix
import android.media.ExifInterface
import android.net.Uri
import io.github.edgeocr.core.Cancellation
import java.io.File
import java.io.IOException
import java.io.InputStream
import java.io.OutputStream
import java.util.UUID
import java.util.concurrent.CancellationException
import kotlin.math.sqrt

/** A picture cannot be copied or read; [reason] is a string resource. */
internal class PictureFileException(val reason: Int, cause: Throwable? = null) : IOException(cause)

/** An upright picture of [width] × [height] pixels in its file; [bitmap] is downsampled to fit into memory. */
internal class Picture(val bitmap: Bitmap, val width: Int, val height: Int) {
    /** The same for the screen. A screenshot of 1080 × 12000 pixels is reduced to 734 × 8164. */
    fun shrink(): ShownPicture {
        val pixels = bitmap.width.toLong() * bitmap.height
        val scale = minOf(SCREEN_SIDE.toDouble() / bitmap.width, sqrt(SHOWN_PIXELS.toDouble() / pixels))
        if (scale >= 1) return ShownPicture(cut(bitmap), width, height)
        val (smallWidth, smallHeight) = (bitmap.width * scale).toInt() to (bitmap.height * scale).toInt()
        val small = Bitmap.createScaledBitmap(bitmap, maxOf(1, smallWidth), maxOf(1, smallHeight), true)
        return ShownPicture(cut(small), width, height)
    }

    private fun cut(whole: Bitmap) = List((whole.height + SCREEN_SIDE - 1) / SCREEN_SIDE) {
        val top = it * SCREEN_SIDE
        Bitmap.createBitmap(whole, 0, top, whole.width, minOf(SCREEN_SIDE, whole.height - top))
    }

    private companion object {
        /** The largest bitmap that every GPU draws is at least this wide and high. */
        const val SCREEN_SIDE = 2048

        /** 24 MB. */
        const val SHOWN_PIXELS = 6_000_000
    }
}

/** A picture of [width] × [height] pixels in its file, to show; [strips] are it from top to bottom. */
internal class ShownPicture(val strips: List<Bitmap>, val width: Int, val height: Int)

/** The app's own copy of a picture. It outlives the process and the permission to read the original. */
internal class PictureFile(val file: File) {
    /**
     * Decodes the picture, upright, with at most [maxPixels] pixels.
     *
     * Throws [PictureFileException] if the file is gone or is not a picture, [OutOfMemoryError].
     */
    fun decode(maxPixels: Int = countPixels(Runtime.getRuntime().maxMemory())): Picture {
        if (!file.isFile) throw PictureFileException(R.string.error_gone)
        val options = BitmapFactory.Options().apply { inJustDecodeBounds = true }
        BitmapFactory.decodeFile(file.path, options)
        val (width, height) = options.outWidth to options.outHeight
        if (width <= 0 || height <= 0) throw PictureFileException(R.string.error_no_picture)
        options.inJustDecodeBounds = false
        options.inSampleSize = 1
        while ((width / options.inSampleSize).toLong() * (height / options.inSampleSize) > maxPixels) {
            options.inSampleSize *= 2
        }
        val bitmap = BitmapFactory.decodeFile(file.path, options)
            ?: throw PictureFileException(R.string.error_no_picture)
        val orientation = readOrientation()
        val turn = makeTurn(orientation) ?: return Picture(bitmap, width, height)
        val upright = Bitmap.createBitmap(bitmap, 0, 0, bitmap.width, bitmap.height, turn, false)
        val isOnItsSide = orientation >= ExifInterface.ORIENTATION_TRANSPOSE
        return if (isOnItsSide) Picture(upright, height, width) else Picture(upright, width, height)
    }

    fun delete() {
        file.delete()
    }

    private fun readOrientation(): Int = try {
        ExifInterface(file.path).getAttributeInt(ExifInterface.TAG_ORIENTATION, ExifInterface.ORIENTATION_NORMAL)
    } catch (_: IOException) {
        // The format has no orientation.
        ExifInterface.ORIENTATION_NORMAL
    }

    /** The transformation that makes a picture with this Exif [orientation] upright; null if it is upright. */
    private fun makeTurn(orientation: Int): Matrix? {
        val (degrees, isMirrored) = when (orientation) {
            ExifInterface.ORIENTATION_FLIP_HORIZONTAL -> 0f to true
            ExifInterface.ORIENTATION_ROTATE_180 -> 180f to false
            ExifInterface.ORIENTATION_FLIP_VERTICAL -> 180f to true
            ExifInterface.ORIENTATION_TRANSPOSE -> 90f to true
            ExifInterface.ORIENTATION_ROTATE_90 -> 90f to false
            ExifInterface.ORIENTATION_TRANSVERSE -> 270f to true
            ExifInterface.ORIENTATION_ROTATE_270 -> 270f to false
            else -> return null
        }
        return Matrix().apply {
            setRotate(degrees)
            if (isMirrored) postScale(-1f, 1f)
        }
    }

    companion object {
        /** The largest file that is copied: several times the size of a photo of 108 megapixels. */
        const val LIMIT_BYTES = 256L shl 20

        /** Enough for most phone photos and long screenshots at full size; a bitmap of 96 MB. */
        private const val MOST_PIXELS = 24_000_000

        /** The bitmap, and at the same time the library's copy. */
        private const val PIXEL_BYTES = 7

        /**
         * The largest picture in pixels, so that these need at most half of the heap.
         *
         * A screenshot of 1080 × 12000 pixels is read at full size on a phone that gives apps 192 MB.
         */
        fun countPixels(heapBytes: Long): Int = minOf(MOST_PIXELS.toLong(), heapBytes / 2 / PIXEL_BYTES).toInt()

        /**
         * Copies a shared picture to [folder] and deletes old files there.
         *
         * Throws [PictureFileException] if it has more than [limitBytes] or is not a content URI, [IOException],
         * [SecurityException] if the app may not read it, [CancellationException].
         */
        fun copy(
            resolver: ContentResolver,
            uri: Uri,
            folder: File,
            cancellation: Cancellation,
            limitBytes: Long = LIMIT_BYTES,
        ): PictureFile {
            // Otherwise another app could name one of this app's own files.
            if (uri.scheme != ContentResolver.SCHEME_CONTENT) throw PictureFileException(R.string.error_no_content)
            deleteOld(folder)
            folder.mkdirs()
            val copy = PictureFile(File(folder, UUID.randomUUID().toString()))
            try {
                val content = resolver.openInputStream(uri) ?: throw PictureFileException(R.string.error_no_content)
                content.use { source -> copy.file.outputStream().use { pump(source, it, cancellation, limitBytes) } }
                return copy
            } catch (error: Throwable) {
                copy.delete()
                throw error
            }
        }

        private fun pump(source: InputStream, target: OutputStream, cancellation: Cancellation, limitBytes: Long) {
            val buffer = ByteArray(BUFFER_BYTES)
            var left = limitBytes
            while (true) {
                if (cancellation.isCancelled()) throw CancellationException("the copy was cancelled")
                val count = source.read(buffer)
                if (count < 0) return
                left -= count
                if (left < 0) throw PictureFileException(R.string.error_too_large)
                target.write(buffer, 0, count)
            }
        }

        private const val BUFFER_BYTES = 1 shl 16
    }
}

/** Deletes files older than a day: the readings that left them were never continued. */
internal fun deleteOld(folder: File) {
    val tooOld = System.currentTimeMillis() - DAY_MS
    folder.listFiles()?.filter { it.lastModified() < tooOld }?.forEach(File::delete)
}

private const val DAY_MS = 24 * 60 * 60 * 1000L
