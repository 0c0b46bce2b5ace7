package io.github.edgeocr

import io.github.edgeocr.core.BundleException
import io.github.edgeocr.core.Charset
import io.github.edgeocr.core.FileEntry
import io.github.edgeocr.core.Manifest
import io.github.edgeocr.core.NoEd25519Exception
import io.github.edgeocr.core.Release
import io.github.edgeocr.core.SIGNATURE_BYTES
import io.github.edgeocr.core.SIGNATURE_FILE
import io.github.edgeocr.core.UntrustedException
import java.io.File
import java.io.FileInputStream
import java.io.IOException
import java.io.InputStream
import java.nio.ByteBuffer
import java.nio.channels.FileChannel
import java.security.MessageDigest

/**
 * A bundle in a folder. Its manifest has been read; other files are checked when they are needed. Not thread-safe.
 *
 * [release] is the signed release, or null if no signature was required. [mapAsset] maps the content of files that are
 * in the app's assets, not in [folder].
 */
internal class BundleFolder(
    val folder: File,
    val manifest: Manifest,
    val release: Release? = null,
    private val mapAsset: ((name: String) -> ByteBuffer)? = null,
) {
    private val checked = HashSet<String>()

    /**
     * Returns a file of the bundle after checking its size and hash.
     *
     * Throws [BundleException] if it is missing or damaged.
     */
    fun checkFile(name: String): File {
        val entry = findEntry(name)
        val file = File(folder, name)
        if (name in checked) return file
        if (!file.isFile) throw BundleException("$file is missing", COPY_AGAIN)
        check("$file", entry, file.length()) {
            try {
                file.inputStream().use(::hash)
            } catch (error: IOException) {
                throw BundleException("$file cannot be read: ${error.message}", COPY_AGAIN, error)
            }
        }
        checked += name
        return file
    }

    /**
     * Returns the content of a file as a direct buffer, after checking its size and hash. The system reads it from
     * storage when it is used.
     *
     * Throws [BundleException] if it is missing or damaged.
     */
    fun mapFile(name: String): ByteBuffer {
        val entry = findEntry(name)
        val place = if (mapAsset == null) "${File(folder, name)}" else "$name in the app's assets"
        val content = try {
            if (mapAsset != null) mapAsset(name) else mapWhole(File(folder, name))
        } catch (error: IOException) {
            throw BundleException("$place cannot be read: ${error.message}", COPY_AGAIN, error)
        }
        check(place, entry, content.remaining().toLong()) {
            MessageDigest.getInstance("SHA-256").apply { update(content.duplicate()) }.toHex()
        }
        return content
    }

    private fun findEntry(name: String): FileEntry =
        manifest.files[name] ?: throw BundleException("$name is not in the manifest of $folder")

    private fun check(place: String, entry: FileEntry, sizeBytes: Long, hash: () -> String) {
        if (sizeBytes != entry.sizeBytes) {
            throw BundleException("$place has $sizeBytes bytes, expected ${entry.sizeBytes}", COPY_AGAIN)
        }
        val digest = hash()
        if (digest != entry.sha256) {
            throw BundleException("$place is damaged: its sha256 is $digest, expected ${entry.sha256}", COPY_AGAIN)
        }
    }

    /** The classes of the recogniser. Throws [BundleException] if the dictionary is damaged or does not match. */
    fun readCharset(): Charset =
        Charset.parse(checkFile(manifest.charsetFile).readText(), manifest.classCount, manifest.blankIndex)

    companion object {
        private const val COPY_AGAIN = "copy the bundle again"

        /** Manifests have about 40 KB. */
        const val MAX_MANIFEST_BYTES = 16L shl 20

        /**
         * Reads the manifest in a folder. If [trust] is given, it must accept the signature.
         *
         * Throws [BundleException] if the manifest is missing, damaged or not trusted, [NoEd25519Exception] if this
         * device cannot check signatures.
         */
        fun open(folder: File, trust: Trust? = null): BundleFolder {
            val file = File(folder, Manifest.FILE)
            // Opening a pipe would wait forever.
            if (file.exists() && (!file.isFile || file.length() > MAX_MANIFEST_BYTES)) {
                throw BundleException("$file is not the manifest of a bundle")
            }
            val content = try {
                file.readBytes()
            } catch (error: IOException) {
                throw BundleException("$folder is not a bundle: ${error.message}", cause = error)
            }
            // Check the signature of exactly the bytes that are parsed afterwards.
            val release = trust?.check(content, "$folder") { readSignature(folder) }
            return BundleFolder(folder, parse(content.decodeToString()), release)
        }

        /** The content of manifest.sig, at most one byte more than a signature has; null if the file is missing. */
        private fun readSignature(folder: File): ByteArray? {
            val file = File(folder, SIGNATURE_FILE)
            if (!file.exists()) return null
            // Opening a pipe would wait forever.
            if (!file.isFile) throw UntrustedException("$file cannot be read: not a file")
            val content = ByteArray(SIGNATURE_BYTES + 1)
            val count = try {
                file.inputStream().use { it.read(content) }
            } catch (error: IOException) {
                throw UntrustedException("$file cannot be read: ${error.message}")
            }
            return content.copyOf(count.coerceAtLeast(0))
        }

        /** Parses a manifest. Throws [BundleException] if it is damaged or names a file outside the bundle. */
        fun parse(text: String): Manifest {
            val manifest = Manifest.parse(text)
            for (name in manifest.files.keys) {
                if (isOutside(name)) throw BundleException("${Manifest.FILE}: the file $name is outside the bundle")
            }
            return manifest
        }

        /** Whether a file of this name in a folder might be outside that folder. */
        fun isOutside(name: String): Boolean =
            name.startsWith("/") || '\\' in name || '\u0000' in name || ".." in name.split("/")
    }
}

/** The sha256 of the rest of a stream, in lower-case hexadecimal digits. */
internal fun hash(stream: InputStream): String {
    val digest = MessageDigest.getInstance("SHA-256")
    val buffer = ByteArray(HASHED_BYTES)
    while (true) {
        val count = stream.read(buffer)
        if (count < 0) break
        digest.update(buffer, 0, count)
    }
    return digest.toHex()
}

private fun MessageDigest.toHex() = digest().joinToString("") { "%02x".format(it) }

private fun mapWhole(file: File): ByteBuffer =
    FileInputStream(file).use { it.channel.map(FileChannel.MapMode.READ_ONLY, 0, it.channel.size()) }

private const val HASHED_BYTES = 1 shl 16
