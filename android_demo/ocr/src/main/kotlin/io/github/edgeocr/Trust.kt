package io.github.edgeocr

import android.content.Context
import io.github.edgeocr.core.CounterStore
import io.github.edgeocr.core.EdgeOcrException
import io.github.edgeocr.core.NoEd25519Exception
import io.github.edgeocr.core.Release
import io.github.edgeocr.core.UntrustedException
import io.github.edgeocr.core.checkManifest
import io.github.edgeocr.core.readPublicKey
import java.io.File
import java.io.IOException

/**
 * What an app trusts: bundles that are signed with one of [keys] (`edge-ocr export --sign`), and not older than the
 * last that [counters] know.
 *
 * [keys] are the texts of public keys in PEM form, at least one, by names for errors. The constructor throws
 * [UntrustedException] for one that is something else.
 *
 * Signatures are checked by a security provider of the device that knows Ed25519. No version of Android promises one:
 * it came in 2025, with updates of its provider Conscrypt. Without one no bundle is opened, unless the app brings its
 * own: Conscrypt 2.6 or newer, and `Security.addProvider(Conscrypt.newProvider())` before the first bundle.
 */
public class Trust @Throws(EdgeOcrException::class) constructor(
    keys: Map<String, String>,
    private val counters: CounterStore,
) {
    private val keys = keys.map { (name, pem) -> readPublicKey(pem, name) }

    init {
        if (keys.isEmpty()) throw UntrustedException("there is no key, so no bundle is trusted", PUT_KEY)
    }

    /**
     * Checks the signature of a manifest, which [readSignature] gives as null where the bundle has none, and its
     * counter.
     *
     * Throws [UntrustedException], which names the bundle as [place], and [NoEd25519Exception].
     */
    internal fun check(manifest: ByteArray, place: String, readSignature: () -> ByteArray?): Release =
        try {
            checkManifest(manifest, readSignature(), keys, counters.read())
        } catch (error: UntrustedException) {
            throw UntrustedException("$place is not trusted: ${error.message}", error.hint)
        }

    /** Remembers the counter of a bundle that was accepted. Throws what the store does. */
    internal fun note(release: Release) {
        synchronized(LOCK) {
            val seen = counters.read()
            if ((seen[release.name] ?: -1) < release.counter) counters.write(seen + (release.name to release.counter))
        }
    }

    public companion object {
        /** Folder among the assets whose `*.pem` are the keys that an app trusts. */
        public const val ASSETS_FOLDER: String = "edge-ocr-trust"

        private const val PUT_KEY = "put KEY.pub into the app: src/main/assets/$ASSETS_FOLDER/KEY.pem"

        private val LOCK = Any()

        /**
         * Trusts the keys among the app's assets, and keeps the counters in the app's own files.
         *
         * Throws [UntrustedException] where there is no key, or one that cannot be read.
         */
        @JvmStatic
        @Throws(EdgeOcrException::class)
        public fun fromAssets(context: Context): Trust =
            findInAssets(context)
                ?: throw UntrustedException("the app's assets have no $ASSETS_FOLDER, so no bundle is trusted", PUT_KEY)

        /** The same, but null where the app has no such folder. */
        internal fun findInAssets(context: Context): Trust? {
            val texts = try {
                val names = context.assets.list(ASSETS_FOLDER).orEmpty()
                // Another file alone is no reason to trust everything.
                if (names.isEmpty()) return null
                names.filter { it.endsWith(".pem") }.associate { name ->
                    val path = "$ASSETS_FOLDER/$name"
                    path to context.assets.open(path).use { it.readBytes().decodeToString() }
                }
            } catch (error: IOException) {
                throw UntrustedException("the trusted keys among the app's assets cannot be read: ${error.message}")
            }
            if (texts.isEmpty()) {
                throw UntrustedException("$ASSETS_FOLDER has no key (*.pem), so no bundle is trusted", PUT_KEY)
            }
            return Trust(texts, FileCounterStore(File(context.filesDir, "$ASSETS_FOLDER/seen.json")))
        }
    }
}
