package io.github.edgeocr

import android.content.Context
import android.content.res.AssetFileDescriptor
import android.graphics.Bitmap
import io.github.edgeocr.core.BgrImage
import io.github.edgeocr.core.BundleException
import io.github.edgeocr.core.Cancellation
import io.github.edgeocr.core.EdgeOcrException
import io.github.edgeocr.core.Manifest
import io.github.edgeocr.core.NoEd25519Exception
import io.github.edgeocr.core.OrientationClassifier
import io.github.edgeocr.core.PageClassifier
import io.github.edgeocr.core.Reading
import io.github.edgeocr.core.ReturnWords
import io.github.edgeocr.core.Settings
import io.github.edgeocr.core.TextDetector
import io.github.edgeocr.core.TextReader
import io.github.edgeocr.core.TextRecognizer
import io.github.edgeocr.core.UntrustedException
import java.io.Closeable
import java.io.File
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.channels.FileChannel
import java.util.concurrent.CancellationException
import java.util.concurrent.TimeUnit
import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.withLock

/**
 * Reads text in pictures with the networks of a bundle: `EdgeOcr.open(context).use { it.recognize(bitmap) }`.
 *
 * Thread-safe; threads take turns. Opening and reading take long: do not call them on the main thread.
 */
public class EdgeOcr private constructor(
    private val bundle: BundleFolder,
    private val networks: List<OpenEngine>,
    private val reader: TextReader,
    /** The settings of the stages: the bundle's, as changed by the options. */
    public val settings: Settings,
    /** What runs the networks. */
    public val engine: EngineKind,
    /** Its version, such as `v2.13-rc` for Paddle-Lite or `1.28.0` for ONNX Runtime. */
    public val engineVersion: String,
    /** How long opening took, including the checks of the files. */
    public val loadMs: Double,
    /** Why the bundle in the app's assets was opened instead of the one in the folder; null if it was not. */
    public val fallbackReason: EdgeOcrException? = null,
) : Closeable {
    private val lock = ReentrantLock()

    @Volatile
    private var isClosed = false

    /** The bundle's manifest. */
    public val manifest: Manifest get() = bundle.manifest

    /**
     * Reads the text lines of a bitmap. The bitmap is not kept. Without text, there are no lines.
     *
     * The polygons are in pixels of [bitmap]; the first of the timings is `bitmap`, its conversion. [returnWords]: what
     * each line has besides its text; the default is that of [settings].
     *
     * Throws [CancellationException] soon after [cancellation] asks for it, the thread is interrupted or this is
     * closed; [PictureException] if the bitmap cannot be read or memory is too small; [EngineException] if a network
     * fails; [IllegalStateException] after [close].
     */
    @JvmOverloads
    @Throws(EdgeOcrException::class)
    public fun recognize(
        bitmap: Bitmap,
        cancellation: Cancellation = NEVER,
        returnWords: ReturnWords = settings.recognition.returnWords,
    ): Reading {
        checkOpen()
        val start = System.nanoTime()
        val image = readBitmap(bitmap)
        val bitmapMs = measureMs(start)
        val reading = recognize(image, cancellation, returnWords)
        return Reading(reading.lines, mapOf("bitmap" to bitmapMs) + reading.timingsMs, reading.pageAngle)
    }

    /** The same for a picture that is not a bitmap. */
    @JvmOverloads
    @Throws(EdgeOcrException::class)
    public fun recognize(
        image: BgrImage,
        cancellation: Cancellation = NEVER,
        returnWords: ReturnWords = settings.recognition.returnWords,
    ): Reading {
        val isUnwanted = Cancellation {
            cancellation.isCancelled() || isClosed || Thread.currentThread().isInterrupted
        }
        checkOpen()
        waitForTurn(isUnwanted)
        try {
            return reader.read(image, isUnwanted, returnWords)
        } catch (error: OutOfMemoryError) {
            throw PictureException(
                "not enough memory to read a picture of ${image.width}×${image.height} pixels",
                "downsample the picture",
                error,
            )
        } finally {
            lock.unlock()
        }
    }

    /**
     * Returns a file of the bundle, such as the picture of [Manifest.golden], after checking it.
     *
     * If the bundle is in assets, only the dictionary and the golden picture are available, and the networks if
     * Paddle-Lite runs them. Throws [BundleException] if the file is missing or damaged.
     */
    @Throws(EdgeOcrException::class)
    public fun findFile(name: String): File = synchronized(bundle) { bundle.checkFile(name) }

    /**
     * Frees the native memory. Does nothing the second time.
     *
     * A running reading ends with a [CancellationException]; this waits for it, at most one run of a network.
     */
    override fun close() {
        isClosed = true
        lock.withLock { networks.forEach(Closeable::close) }
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
        /** The bundle's folder in the assets. */
        public const val ASSETS_FOLDER: String = "edge-ocr"

        /** How often a waiting reading checks whether it was cancelled. */
        private const val PATIENCE_MS = 20L

        private val NEVER = Cancellation { false }

        /**
         * Loads the bundle in the app's assets. The first time, what must be a file is copied to the app's private
         * folder: the dictionary, the golden picture and, for Paddle-Lite, the networks.
         *
         * It must be signed with a key of [OcrOptions.trust] and not be older than an earlier one. If that is null,
         * the keys in the assets apply ([Trust.ASSETS_FOLDER]); without any, every bundle is accepted.
         *
         * Throws [UntrustedException] if it must not be used, [NoEd25519Exception] if this device cannot check
         * signatures, [BundleException] if it is missing or damaged or has no networks for the app's engine,
         * [VersionMismatchException] if it needs another version of Paddle-Lite, [LibraryException] if the engine is
         * not in the app or cannot be loaded, [StorageException] if the device has no room for the copy or for the
         * release counter.
         */
        @JvmStatic
        @JvmOverloads
        @Throws(EdgeOcrException::class)
        public fun open(context: Context, options: OcrOptions = OcrOptions()): EdgeOcr {
            val start = System.nanoTime()
            return openAssets(context, options, options.trust ?: Trust.findInAssets(context), start)
        }

        /**
         * Loads the bundle in [folder], such as a download, or the one in the app's assets if [folder] does not exist
         * or its bundle cannot be opened; [fallbackReason] then says why.
         *
         * Both must be signed as for `open(context)`, but the one in the assets may be older than those opened before:
         * it belongs to the app. Throws the same exceptions, if neither can be opened.
         */
        @JvmStatic
        @JvmOverloads
        @Throws(EdgeOcrException::class)
        public fun open(context: Context, folder: File, options: OcrOptions = OcrOptions()): EdgeOcr {
            val start = System.nanoTime()
            val trust = options.trust ?: Trust.findInAssets(context)
            val reason = try {
                if (folder.exists()) return load(BundleFolder.open(folder, trust), options, trust, start)
                null
            } catch (error: EdgeOcrException) {
                error
            }
            try {
                return openAssets(context, options, trust?.ofAnyAge(), start, reason)
            } catch (error: EdgeOcrException) {
                reason?.let(error::addSuppressed)
                throw error
            }
        }

        private fun openAssets(
            context: Context,
            options: OcrOptions,
            trust: Trust?,
            start: Long,
            reason: EdgeOcrException? = null,
        ): EdgeOcr {
            val assets = context.assets
            val bundle = AssetBundle(
                File(context.filesDir, ASSETS_FOLDER),
                { assets.open("$ASSETS_FOLDER/$it") },
                { name -> assets.openFd("$ASSETS_FOLDER/$name").use(::mapAsset) },
            )
            val unpacked = bundle.unpack(trust) { manifest ->
                val (engine, loader) = chooseEngine(manifest, options)
                if (loader.needsFiles) engine.listModels(manifest).values else emptyList()
            }
            return load(unpacked, options, trust, start, reason)
        }

        /**
         * Loads the bundle in a folder. Throws the same exceptions.
         *
         * Keys come from [OcrOptions.trust] only, for example `Trust.fromAssets(context)`. If it is null, every bundle
         * is accepted.
         */
        @JvmStatic
        @JvmOverloads
        @Throws(EdgeOcrException::class)
        public fun open(folder: File, options: OcrOptions = OcrOptions()): EdgeOcr {
            val start = System.nanoTime()
            return load(BundleFolder.open(folder, options.trust), options, options.trust, start)
        }

        private fun load(
            bundle: BundleFolder,
            options: OcrOptions,
            trust: Trust?,
            start: Long,
            reason: EdgeOcrException? = null,
        ): EdgeOcr {
            val manifest = bundle.manifest
            val charset = bundle.readCharset()
            val (engine, loader) = chooseEngine(manifest, options)
            val models = engine.listModels(manifest)
            // All before the first is loaded.
            if (loader.needsFiles) models.values.forEach(bundle::checkFile)
            val changed = options.settingsChange.apply(manifest.settings)
            val returnWords = options.returnWords ?: changed.recognition.returnWords
            val settings = changed.copy(recognition = changed.recognition.copy(returnWords = returnWords))
            val networks = ArrayList<OpenEngine>()
            try {
                fun load(kind: String) = models[kind]?.let { loader.open(bundle, it, options).also(networks::add) }

                val detector = TextDetector(load("det")!!, settings)
                val recognizer = TextRecognizer(load("rec")!!, charset, settings.recognition)
                val classifier = load("cls")?.let { OrientationClassifier(it, settings.orientation) }
                val pageClassifier = load("page")?.let { PageClassifier(it, settings.pageOrientation) }
                val reader = TextReader(detector, recognizer, classifier, settings, pageClassifier)
                // Only now: a bundle that fails to load must not lock out the previous one.
                bundle.release?.let { trust?.note(it) }
                val version = loader.readVersion(bundle)
                return EdgeOcr(bundle, networks, reader, settings, engine, version, measureMs(start), reason)
            } catch (error: Throwable) {
                networks.forEach(Closeable::close)
                throw error
            }
        }

        /** The engine for a bundle, and its loader. Throws [LibraryException] and [BundleException]. */
        private fun chooseEngine(manifest: Manifest, options: OcrOptions): Pair<EngineKind, EngineLoader> {
            val wanted = options.engine?.let(::listOf) ?: EngineKind.entries
            val inApp = wanted.mapNotNull { kind -> kind.findLoader()?.let { kind to it } }
            if (inApp.isEmpty()) {
                throw LibraryException("the app has no ${wanted.joinToString(" and no ") { it.product }}")
            }
            return inApp.firstOrNull { (kind, _) -> kind.listModels(manifest).isNotEmpty() }
                ?: throw BundleException("the bundle has no networks for ${inApp.joinToString { it.first.product }}")
        }

        /** The mapping stays when the caller closes [asset]. */
        private fun mapAsset(asset: AssetFileDescriptor): ByteBuffer =
            FileInputStream(asset.fileDescriptor).channel
                .map(FileChannel.MapMode.READ_ONLY, asset.startOffset, asset.declaredLength)

        private fun measureMs(start: Long) = (System.nanoTime() - start) / 1e6
    }
}
