package io.github.edgeocr.demo

import android.content.Context
import android.net.Uri
import io.github.edgeocr.BundleArchive
import io.github.edgeocr.EdgeOcr
import io.github.edgeocr.OcrOptions
import io.github.edgeocr.core.BundleException
import io.github.edgeocr.core.Cancellation
import io.github.edgeocr.core.EdgeOcrException
import io.github.edgeocr.core.Manifest
import java.io.File
import java.io.FilterInputStream
import java.io.IOException
import java.io.InputStream
import java.util.concurrent.CancellationException
import java.util.concurrent.atomic.AtomicReference

/** The models that the user installed, and the app's own if there are none or they cannot be used. Thread-safe. */
internal class Models(private val context: Context) {
    private val folder get() = File(context.filesDir, "models")
    private val untold = AtomicReference<EdgeOcrException?>()

    /** Why the app's own were opened last, although others are installed; null if that is not so. */
    @Volatile
    var fallbackReason: EdgeOcrException? = null
        private set

    val isInstalled: Boolean get() = folder.exists()

    /** Throws what [EdgeOcr.open] throws. */
    fun open(options: OcrOptions): EdgeOcr = EdgeOcr.open(context, folder, options).also { ocr ->
        val reason = ocr.fallbackReason
        if (reason != null && reason.message != fallbackReason?.message) untold.set(reason)
        fallbackReason = reason
    }

    /** Returns a new [fallbackReason] once, for a message to the user. */
    fun takeReason(): EdgeOcrException? = untold.getAndSet(null)

    /** The manifest of those that are used. Throws [IOException]. */
    fun openManifest(): InputStream =
        if (isInstalled && fallbackReason == null) {
            File(folder, Manifest.FILE).inputStream()
        } else {
            context.assets.open("${EdgeOcr.ASSETS_FOLDER}/${Manifest.FILE}")
        }

    /**
     * Installs the zip at [uri]; [tell] gets how many MB of it were read.
     *
     * Throws what [BundleArchive.unpack] throws, [SecurityException] if the app may not read it,
     * [CancellationException].
     */
    fun install(uri: Uri, cancellation: Cancellation, tell: (readMb: Int) -> Unit) {
        val content = try {
            context.contentResolver.openInputStream(uri)
        } catch (error: IOException) {
            throw BundleException("the archive cannot be read: ${error.message}", null, error)
        } ?: throw BundleException("the archive cannot be read", null)
        content.use { BundleArchive.unpack(context, CountedStream(it, cancellation, tell), folder) }
        forget()
    }

    /** Deletes those that the user installed. */
    fun remove() {
        folder.deleteRecursively()
        forget()
    }

    private fun forget() {
        fallbackReason = null
        untold.set(null)
    }
}

private class CountedStream(source: InputStream, val cancellation: Cancellation, val tell: (readMb: Int) -> Unit) :
    FilterInputStream(source) {
    private var readBytes = 0L

    override fun read(): Int = throw UnsupportedOperationException("archives are read in blocks")

    override fun read(buffer: ByteArray, start: Int, length: Int): Int {
        if (cancellation.isCancelled()) throw CancellationException("the installation was cancelled")
        val count = super.read(buffer, start, length)
        val before = readBytes / MB
        readBytes += maxOf(0, count)
        if (readBytes / MB != before) tell((readBytes / MB).toInt())
        return count
    }

    private companion object {
        const val MB = 1_000_000L
    }
}
