package io.github.edgeocr

import io.github.edgeocr.core.BundleException
import io.github.edgeocr.core.Manifest
import io.github.edgeocr.core.NoEd25519Exception
import io.github.edgeocr.core.SIGNATURE_FILE
import java.io.File
import java.io.FileNotFoundException
import java.io.FileOutputStream
import java.io.IOException
import java.io.InputStream
import java.nio.ByteBuffer

/**
 * A bundle in an app's assets, which [open] reads and [map] maps by name. What must be a file is copied to [home].
 *
 * [map] throws [FileNotFoundException] for an asset that is compressed in the APK.
 */
internal class AssetBundle(
    private val home: File,
    private val open: (name: String) -> InputStream,
    private val map: (name: String) -> ByteBuffer,
) {
    /**
     * Copies dictionary, golden picture and what [listFiles] returns, unless intact copies of this bundle exist. Copies
     * nothing if [trust] is given and does not accept the bundle.
     *
     * A folder gets its name only after all files are written, so a partial copy is never used. Copies of other
     * bundles are deleted.
     *
     * Throws [BundleException] if the assets have no bundle, a damaged one or one that is not trusted,
     * [NoEd25519Exception] if this device cannot check signatures, [StorageException] if [home] cannot be written.
     */
    fun unpack(trust: Trust? = null, listFiles: (Manifest) -> Collection<String>): BundleFolder = synchronized(LOCK) {
        val content = readAsset(Manifest.FILE)
        val signature = readSignature()
        // Check the signature of exactly the bytes that are parsed afterwards.
        val release = trust?.check(content, "the bundle in the app's assets") { signature }
        val manifest = BundleFolder.parse(content.decodeToString())
        val folder = File(home, hash(content.inputStream()).take(NAME_DIGITS))
        val needed = listFiles(manifest) + manifest.charsetFile + listOfNotNull(manifest.golden?.image)
        val kept = BundleFolder(folder, manifest, release, ::mapAsset)
        if (isWhole(kept, needed) && hasSignature(folder, signature)) return kept
        val begun = File(home, "${folder.name}$BEGUN")
        begun.deleteRecursively()
        for (name in needed) copy(name, File(begun, name))
        val copied = BundleFolder(begun, manifest)
        needed.forEach(copied::checkFile)
        writeDurably(File(begun, Manifest.FILE)) { it.write(content) }
        if (signature != null) writeDurably(File(begun, SIGNATURE_FILE)) { it.write(signature) }
        // Exists only if it was damaged.
        folder.deleteRecursively()
        if (!begun.renameTo(folder)) throw StorageException("$begun cannot be renamed to $folder")
        home.listFiles()?.filter { it != folder }?.forEach { it.deleteRecursively() }
        BundleFolder(folder, manifest, release, ::mapAsset)
    }

    private fun mapAsset(name: String): ByteBuffer =
        try {
            map(name)
        } catch (_: FileNotFoundException) {
            // Compressed, because the app's build lacks noCompress; costs memory, but works.
            val content = open(name).use { it.readBytes() }
            ByteBuffer.allocateDirect(content.size).put(content).apply { flip() }
        }

    private fun isWhole(bundle: BundleFolder, files: Collection<String>): Boolean =
        try {
            files.forEach(bundle::checkFile)
            true
        } catch (_: BundleException) {
            false
        }

    /** Whether the copy has the same signature as the assets: the same manifest may have been signed again. */
    private fun hasSignature(folder: File, signature: ByteArray?): Boolean {
        val file = File(folder, SIGNATURE_FILE)
        return try {
            if (signature == null) !file.exists() else file.readBytes().contentEquals(signature)
        } catch (_: IOException) {
            false
        }
    }

    private fun readSignature(): ByteArray? =
        try {
            open(SIGNATURE_FILE).use { it.readBytes() }
        } catch (_: FileNotFoundException) {
            null
        } catch (error: IOException) {
            throw BundleException("$SIGNATURE_FILE in the app's assets cannot be read", cause = error)
        }

    private fun readAsset(name: String): ByteArray =
        try {
            open(name).use { it.readBytes() }
        } catch (error: IOException) {
            throw BundleException("the bundle in the app's assets has no $name", cause = error)
        }

    private fun copy(name: String, file: File) {
        val asset = try {
            open(name)
        } catch (error: IOException) {
            throw BundleException("the bundle in the app's assets has no $name", cause = error)
        }
        asset.use { source -> writeDurably(file) { source.copyTo(it) } }
    }

    private companion object {
        /** Digits of the manifest's sha256 in the folder's name: enough to tell bundles apart. */
        const val NAME_DIGITS = 16
        const val BEGUN = ".begun"
        val LOCK = Any()
    }
}

/** Writes a file to disk and creates its folder if needed. Throws [StorageException] if that fails. */
internal fun writeDurably(file: File, fill: (FileOutputStream) -> Unit) {
    try {
        file.parentFile?.mkdirs()
        FileOutputStream(file).use {
            fill(it)
            // Otherwise the rename may reach the disk before the content.
            it.fd.sync()
        }
    } catch (error: IOException) {
        throw StorageException("$file cannot be written: ${error.message}", error)
    }
}
