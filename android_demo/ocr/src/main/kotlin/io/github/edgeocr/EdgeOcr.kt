package io.github.edgeocr

import android.content.Context
import android.graphics.Bitmap
import io.github.edgeocr.core.BgrImage
import io.github.edgeocr.core.BundleException
import io.github.edgeocr.core.Cancellation
import io.github.edgeocr.core.EdgeOcrException
import io.github.edgeocr.core.Manifest
import io.github.edgeocr.core.NoEd25519Exception
import io.github.edgeocr.core.OrientationClassifier
import io.github.edgeocr.core.Reading
import io.github.edgeocr.core.Settings
import io.github.edgeocr.core.TextDetector
import io.github.edgeocr.core.TextReader
import io.github.edgeocr.core.TextRecognizer
import io.github.edgeocr.core.UntrustedException
import java.io.Closeable
import java.io.File
import java.util.concurrent.CancellationException
import java.util.concurrent.TimeUnit
import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.withLock

/**
 * Reads text in pictures with the networks of a bundle: `EdgeOcr.open(context).use { it.recognize(bitmap) }`.
 *
 * Safe to use from several threads, which take turns. Both opening and reading take long: not for the main thread.
 */
public class EdgeOcr private constructor(
    private val bundle: BundleFolder,
    private val engines: List<PaddleLiteEngine>,
    private val reader: TextReader,
    /** What the stages go by: the bundle's settings, as the options changed them. */
    public val settings: Settings,
    /** How long opening took, checks of the files included. */
    public val loadMs: Double,
) : Closeable {
    private val lock = ReentrantLock()

    @Volatile
    private var isClosed = false

    /** What the bundle says of itself. */
    public val manifest: Manifest get() = bundle.manifest

    /**
     * Reads the text lines of a bitmap, which it does not keep. No text gives no lines.
     *
     * The polygons are in pixels of [bitmap]; the first of the timings is `bitmap`, its conversion.
     *
     * Throws [CancellationException] soon after [cancellation] says so, the thread is interrupted or this is closed;
     * [PictureException] for a bitmap that cannot be read or does not fit into memory; [EngineException] where a
     * network fails; [IllegalStateException] after [close].
     */
    @JvmOverloads
    @Throws(EdgeOcrException::class)
    public fun recognize(bitmap: Bitmap, cancellation: Cancellation = NEVER): Reading {
        checkOpen()
        val start = System.nanoTime()
        val image = readBitmap(bitmap)
        val bitmapMs = measureMs(start)
        val reading = recognize(image, cancellation)
        return Reading(reading.lines, mapOf("bitmap" to bitmapMs) + reading.timingsMs)
    }

    /** The same for a picture that is no bitmap. */
    @JvmOverloads
    @Throws(EdgeOcrException::class)
    public fun recognize(image: BgrImage, cancellation: Cancellation = NEVER): Reading {
        val isUnwanted = Cancellation {
            cancellation.isCancelled() || isClosed || Thread.currentThread().isInterrupted
        }
        checkOpen()
        waitForTurn(isUnwanted)
        try {
            return reader.read(image, isUnwanted)
        } catch (error: OutOfMemoryError) {
            throw PictureException(
                "${image.width}×${image.height} pixels cannot be read in the memory that is left",
                "sample the picture down",
                error,
            )
        } finally {
            lock.unlock()
        }
    }

    /**
     * A file of the bundle, such as the picture of [Manifest.golden], checked.
     *
     * Of a bundle in assets there are the networks, the dictionary and the golden picture. Throws [BundleException]
     * for one that is missing or damaged.
     */
    @Throws(EdgeOcrException::class)
    public fun findFile(name: String): File = synchronized(bundle) { bundle.checkFile(name) }

    /**
     * Frees the native memory. Does nothing the second time.
     *
     * A reading that is under way ends with a [CancellationException]; this waits for it, one run of a network at most.
     */
    override fun close() {
        isClosed = true
        lock.withLock { engines.forEach(Closeable::close) }
    }

    private fun checkOpen() = check(!isClosed) { "this EdgeOcr is closed" }

    private fun waitForTurn(isUnwanted: Cancellation) {
        do {
            if (isUnwanted.isCancelled()) throw CancellationException("the reading was cancelled")
            val isMine = try {
                lock.tryLock(PATIENCE_MS, TimeUnit.MILLISECONDS)
            } catch (_: InterruptedException) {
                Thread.currentThread().interrupt()
                false
            }
        } while (!isMine)
    }

    public companion object {
        /** Folder of the bundle among the assets. */
        public const val ASSETS_FOLDER: String = "edge-ocr"

        /** How often a reading that waits for another asks whether it is still wanted. */
        private const val PATIENCE_MS = 20L

        private val NEVER = Cancellation { false }

        /**
         * Loads the bundle among the app's assets. The first time, its files are copied to the app's own folder.
         *
         * It must be signed with a key of [OcrOptions.trust] and not be older than one before. Without, the keys among
         * the assets count ([Trust.ASSETS_FOLDER]), if there are any; otherwise every bundle is taken.
         *
         * Throws [UntrustedException] where it must not be used, [NoEd25519Exception] where that cannot be found out,
         * [BundleException] where it is missing or damaged, [VersionMismatchException] where the app's
         * Paddle-Lite is not the one that it is for, [LibraryException] where that cannot be loaded,
         * [StorageException] where the device has no room for the copy, or for the counter of the release.
         */
        @JvmStatic
        @JvmOverloads
        @Throws(EdgeOcrException::class)
        public fun open(context: Context, options: OcrOptions = OcrOptions()): EdgeOcr {
            val start = System.nanoTime()
            val trust = options.trust ?: Trust.findInAssets(context)
            val assets = context.assets
            val bundle = AssetBundle(File(context.filesDir, ASSETS_FOLDER)) { assets.open("$ASSETS_FOLDER/$it") }
            return load(bundle.unpack(trust), options, trust, start)
        }

        /**
         * Loads the bundle in a folder; throws what the other does, but for the copy.
         *
         * Only [OcrOptions.trust] says what it must be signed with, `Trust.fromAssets(context)` for the app's own keys:
         * of assets this knows nothing. Where it is null, every bundle is taken.
         */
        @JvmStatic
        @JvmOverloads
        @Throws(EdgeOcrException::class)
        public fun open(folder: File, options: OcrOptions = OcrOptions()): EdgeOcr {
            val start = System.nanoTime()
            return load(BundleFolder.open(folder, options.trust), options, options.trust, start)
        }

        private fun load(bundle: BundleFolder, options: OcrOptions, trust: Trust?, start: Long): EdgeOcr {
            val manifest = bundle.manifest
            val charset = bundle.readCharset()
            val models = manifest.models.mapValues { (_, name) -> bundle.checkFile(name) }
            val settings = options.settingsChange.apply(manifest.settings)
            val engines = ArrayList<PaddleLiteEngine>()
            try {
                // Paddle-Lite tells its version only once a network is loaded. Every version loads the detector of
                // another; some end the process on the recogniser.
                fun load(kind: String) =
                    models[kind]?.let { PaddleLiteEngine.open(it, manifest.runtimeVersion, options).also(engines::add) }

                val detector = TextDetector(load("det")!!, settings)
                val recognizer = TextRecognizer(load("rec")!!, charset, settings.recognition)
                val classifier = load("cls")?.let { OrientationClassifier(it, settings.orientation) }
                val reader = TextReader(detector, recognizer, classifier, settings)
                // Only now: a bundle that does not load must not keep the one before out.
                bundle.release?.let { trust?.note(it) }
                return EdgeOcr(bundle, engines, reader, settings, measureMs(start))
            } catch (error: Throwable) {
                engines.forEach(Closeable::close)
                throw error
            }
        }

        private fun measureMs(start: Long) = (System.nanoTime() - start) / 1e6
    }
}
