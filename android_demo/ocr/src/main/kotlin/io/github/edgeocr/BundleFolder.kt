package io.github.edgeocr

import io.github.edgeocr.core.BundleException
import io.github.edgeocr.core.Charset
import io.github.edgeocr.core.Manifest
import io.github.edgeocr.core.NoEd25519Exception
import io.github.edgeocr.core.Release
import io.github.edgeocr.core.SIGNATURE_BYTES
import io.github.edgeocr.core.SIGNATURE_FILE
import io.github.edgeocr.core.UntrustedException
import java.io.File
import java.io.IOException
import java.io.InputStream
import java.security.MessageDigest

/**
 * A bundle in a folder, whose manifest was read; its files are checked as they are needed. Not thread-safe.
 *
 * [release] is what it was found to be where it had to be signed.
 */
internal class BundleFolder(val folder: File, val manifest: Manifest, val release: Release? = null) {
    private val checked = HashSet<String>()

    /** The files that a reading needs, and the golden picture. */
    val neededFiles: List<String>
        get() = manifest.models.values + manifest.charsetFile + listOfNotNull(manifest.golden?.image)

    /**
     * A file of the bundle that is as the manifest says.
     *
     * Throws [BundleException] where it is missing or damaged.
     */
    fun checkFile(name: String): File {
        val entry = manifest.files[name] ?: throw BundleException("$name is not in the manifest of $folder")
        val file = File(folder, name)
        if (name in checked) return file
        if (!file.isFile) throw BundleException("$file is missing", COPY_AGAIN)
        if (file.length() != entry.sizeBytes) {
            throw BundleException("$file has ${file.length()} bytes, expected ${entry.sizeBytes}", COPY_AGAIN)
        }
        val digest = try {
            file.inputStream().use(::hash)
        } catch (error: IOException) {
            throw BundleException("$file cannot be read: ${error.message}", COPY_AGAIN, error)
        }
        if (digest != entry.sha256) {
            throw BundleException("$file is damaged: its sha256 is $digest, expected ${entry.sha256}", COPY_AGAIN)
        }
        checked += name
        return file
    }

    /** The classes of the recogniser. Throws [BundleException] where the dictionary is damaged or does not fit. */
    fun readCharset(): Charset =
        Charset.parse(checkFile(manifest.charsetFile).readText(), manifest.classCount, manifest.blankIndex)

    companion object {
        private const val COPY_AGAIN = "copy the bundle again"
        private const val MAX_MANIFEST_BYTES = 16L shl 20

        /**
         * Reads the manifest in a folder, whose signature must be one that [trust] takes, if that is given.
         *
         * Throws [BundleException] where there is none, none that is whole or none that is trusted,
         * [NoEd25519Exception] where signatures cannot be checked.
         */
        fun open(folder: File, trust: Trust? = null): BundleFolder {
            val file = File(folder, Manifest.FILE)
            // Opening a pipe would wait for ever; ours have 40 KB.
            if (file.exists() && (!file.isFile || file.length() > MAX_MANIFEST_BYTES)) {
                throw BundleException("$file is not the manifest of a bundle")
            }
            val content = try {
                file.readBytes()
            } catch (error: IOException) {
                throw BundleException("$folder is no bundle: ${error.message}", cause = error)
            }
            // Of the very bytes that are then parsed, and before.
            val release = trust?.check(content, "$folder") { readSignature(folder) }
            return BundleFolder(folder, parse(content.decodeToString()), release)
        }

        /** What is in manifest.sig, at most one byte more than a signature has; null where it is missing. */
        private fun readSignature(folder: File): ByteArray? {
            val file = File(folder, SIGNATURE_FILE)
            if (!file.exists()) return null
            // Opening a pipe would wait for ever.
            if (!file.isFile) throw UntrustedException("$file cannot be read: not a file")
            val content = ByteArray(SIGNATURE_BYTES + 1)
            val count = try {
                file.inputStream().use { it.read(content) }
            } catch (error: IOException) {
                throw UntrustedException("$file cannot be read: ${error.message}")
            }
            return content.copyOf(count.coerceAtLeast(0))
        }

        /** Reads the text of a manifest. Throws [BundleException] for one that is damaged or leads elsewhere. */
        fun parse(text: String): Manifest {
            val manifest = Manifest.parse(text)
            for (name in manifest.files.keys) {
                if (name.startsWith("/") || '\\' in name || '\u0000' in name || ".." in name.split("/")) {
                    throw BundleException("${Manifest.FILE}: the file $name leads out of the bundle")
                }
            }
            return manifest
        }
    }
}

/** The sha256 of what is left in a stream, in lower-case hexadecimal digits. */
internal fun hash(stream: InputStream): String {
    val digest = MessageDigest.getInstance("SHA-256")
    val buffer = ByteArray(HASHED_BYTES)
    while (true) {
        val count = stream.read(buffer)
        if (count < 0) break
        digest.update(buffer, 0, count)
    }
    return digest.digest().joinToString("") { "%02x".format(it) }
}

private const val HASHED_BYTES = 1 shl 16
