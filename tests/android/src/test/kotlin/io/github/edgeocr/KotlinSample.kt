package io.github.edgeocr

import android.content.Context
import android.graphics.Bitmap
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.catch

// An app's use of the library in Kotlin; docs/howto/phone.md shows the parts between the marks.

// shown: suspending
suspend fun readTexts(context: Context, bitmap: Bitmap): List<String> =
    EdgeOcr.openSuspending(context).use { ocr ->
        ocr.recognizeSuspending(bitmap).lines.map { it.text }
    }
// end

// shown: frames
suspend fun showFrames(ocr: EdgeOcr, camera: Flow<Bitmap>, show: (String) -> Unit) {
    ocr.recognizeFrames(camera)
        .catch { error -> show("${error.message}") }
        .collect { show(it.reading.lines.joinToString("\n") { line -> line.text }) }
}
// end
