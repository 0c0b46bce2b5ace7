package io.github.edgeocr

import io.github.edgeocr.core.BundleException
import io.github.edgeocr.core.Charset
import io.github.edgeocr.core.Manifest
import java.io.File
import java.io.IOException
import java.io.InputStream
import java.security.MessageDigest

/** A bundle in a folder, whose manifest was read; its files are checked as they are needed. Not thread-safe. */
internal class BundleFolder(val folder: File, val manifest: Manifest) {
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

        /** Reads the manifest in a folder. Throws [BundleException] where there is none, or none that is whole. */
        fun open(folder: File): BundleFolder {
            val file = File(folder, Manifest.FILE)
            val text = try {
                file.readText()
            } catch (error: IOException) {
                throw BundleException("$folder is no bundle: ${error.message}", cause = error)
            }
            return BundleFolder(folder, parse(text))
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
