package io.github.edgeocr.demo

import android.graphics.Bitmap
import android.graphics.BitmapFactory
import io.github.edgeocr.EdgeOcr
import io.github.edgeocr.PictureException
import io.github.edgeocr.core.BundleException
import io.github.edgeocr.core.Golden

/** The bundle's picture whose lines are known. */
internal class GoldenPicture(val golden: Golden, val bitmap: Bitmap) {
    companion object {
        /** Throws [BundleException] if the bundle has none, [PictureException] if it cannot be decoded. */
        fun read(ocr: EdgeOcr): GoldenPicture {
            val golden = ocr.manifest.golden ?: throw BundleException("the bundle has no golden picture")
            val file = ocr.findFile(golden.image)
            val bitmap = BitmapFactory.decodeFile(file.path)
                ?: throw PictureException("$file cannot be decoded on this device")
            return GoldenPicture(golden, bitmap)
        }
    }
}
