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
 * The bundles that an app trusts: signed with one of [keys] (`edge-ocr export --sign`) and not older than [counters]
 * say.
 *
 * [keys] maps a name, used in errors, to a public key in PEM form; at least one. The constructor throws
 * [UntrustedException] if one is not an Ed25519 key.
 *
 * A security provider of the device must support Ed25519. No version of Android guarantees that: it came in 2025 with
 * updates of the provider Conscrypt. Without it, no bundle opens, unless the app includes Conscrypt 2.6 or newer and
 * calls `Security.addProvider(Conscrypt.newProvider())` before it opens a bundle.
 */
public class Trust private constructor(
    private val keys: List<ByteArray>,
    private val counters: CounterStore,
    private val isAgeless: Boolean,
) {
    @Throws(EdgeOcrException::class)
    public constructor(keys: Map<String, String>, counters: CounterStore) :
        this(keys.map { (name, pem) -> readPublicKey(pem, name) }, counters, isAgeless = false)

    init {
        if (keys.isEmpty()) throw UntrustedException("no bundle is trusted: there is no key", PUT_KEY)
    }

    /** Trusts the same keys, whatever the counter; still records it if it is the highest. */
    internal fun ofAnyAge(): Trust = Trust(keys, counters, isAgeless = true)

    /**
     * Checks the signature of a manifest and its counter. [readSignature] returns null if the bundle has none.
     *
     * Throws [UntrustedException], which calls the bundle [place], and [NoEd25519Exception].
     */
    internal fun check(manifest: ByteArray, place: String, readSignature: () -> ByteArray?): Release =
        try {
            checkManifest(manifest, readSignature(), keys, if (isAgeless) emptyMap() else counters.read())
        } catch (error: UntrustedException) {
            throw UntrustedException("$place is not trusted: ${error.message}", error.hint)
        }

    /** Records the counter of a bundle that was accepted. Throws what the store throws. */
    internal fun note(release: Release) {
        synchronized(LOCK) {
            val seen = counters.read()
            if ((seen[release.name] ?: -1) < release.counter) counters.write(seen + (release.name to release.counter))
        }
    }

    public companion object {
        /** The folder in the assets whose `*.pem` files are the keys that an app trusts. */
        public const val ASSETS_FOLDER: String = "edge-ocr-trust"

        private const val PUT_KEY = "put KEY.pub into the app: src/main/assets/$ASSETS_FOLDER/KEY.pem"

        private val LOCK = Any()

        /**
         * Trusts the keys in the app's assets and keeps the counters in the app's files.
         *
         * Throws [UntrustedException] if there is no key, or one cannot be read.
         */
        @JvmStatic
        @Throws(EdgeOcrException::class)
        public fun fromAssets(context: Context): Trust =
            findInAssets(context)
                ?: throw UntrustedException("no bundle is trusted: the app's assets have no $ASSETS_FOLDER", PUT_KEY)

        /** The same, but null if the app has no such folder. */
        internal fun findInAssets(context: Context): Trust? {
            val texts = try {
                val names = context.assets.list(ASSETS_FOLDER).orEmpty()
                // A folder without a key must not mean that everything is trusted.
                if (names.isEmpty()) return null
                names.filter { it.endsWith(".pem") }.associate { name ->
                    val path = "$ASSETS_FOLDER/$name"
                    path to context.assets.open(path).use { it.readBytes().decodeToString() }
                }
            } catch (error: IOException) {
                throw UntrustedException("the trusted keys in the app's assets cannot be read: ${error.message}")
            }
            if (texts.isEmpty()) {
                throw UntrustedException("no bundle is trusted: $ASSETS_FOLDER has no key (*.pem)", PUT_KEY)
            }
            return Trust(texts, FileCounterStore(File(context.filesDir, "$ASSETS_FOLDER/seen.json")))
        }
    }
}
