package io.github.edgeocr

import io.github.edgeocr.core.BundleException
import io.github.edgeocr.core.Manifest
import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.io.InputStream

/** A bundle among an app's assets, which [open] reads by name; Paddle-Lite takes files only, so they go to [home]. */
internal class AssetBundle(private val home: File, private val open: (name: String) -> InputStream) {
    /**
     * Copies the files that are needed, unless they are there already, whole and of this very bundle.
     *
     * A folder appears under its name when all of it is written, so one that was left half is never used. Copies of
     * other bundles are deleted.
     *
     * Throws [BundleException] where the assets hold no bundle or a damaged one, [StorageException] where [home]
     * cannot be written.
     */
    fun unpack(): BundleFolder = synchronized(LOCK) {
        val content = readAsset(Manifest.FILE)
        val manifest = BundleFolder.parse(content.decodeToString())
        val folder = File(home, hash(content.inputStream()).take(NAME_DIGITS))
        val kept = BundleFolder(folder, manifest)
        if (isWhole(kept)) return kept
        val begun = File(home, "${folder.name}$BEGUN")
        begun.deleteRecursively()
        for (name in kept.neededFiles) copy(name, File(begun, name))
        val copied = BundleFolder(begun, manifest)
        copied.neededFiles.forEach(copied::checkFile)
        write(File(begun, Manifest.FILE)) { it.write(content) }
        // Gone already, but where it was damaged.
        folder.deleteRecursively()
        if (!begun.renameTo(folder)) throw StorageException("$begun cannot be renamed to $folder")
        home.listFiles()?.filter { it != folder }?.forEach { it.deleteRecursively() }
        BundleFolder(folder, manifest)
    }

    private fun isWhole(bundle: BundleFolder): Boolean =
        try {
            bundle.neededFiles.forEach(bundle::checkFile)
            true
        } catch (_: BundleException) {
            false
        }

    private fun readAsset(name: String): ByteArray =
        try {
            open(name).use { it.readBytes() }
        } catch (error: IOException) {
            throw BundleException("the app's assets lack $name of the bundle", cause = error)
        }

    private fun copy(name: String, file: File) {
        val asset = try {
            open(name)
        } catch (error: IOException) {
            throw BundleException("the app's assets lack $name of the bundle", cause = error)
        }
        asset.use { source -> write(file) { source.copyTo(it) } }
    }

    private fun write(file: File, fill: (FileOutputStream) -> Unit) {
        try {
            file.parentFile?.mkdirs()
            FileOutputStream(file).use {
                fill(it)
                // A rename may reach the disk ahead of the content.
                it.fd.sync()
            }
        } catch (error: IOException) {
            throw StorageException("$file cannot be written: ${error.message}", error)
        }
    }

    private companion object {
        /** Of the manifest's sha256: enough to tell bundles apart. */
        const val NAME_DIGITS = 16
        const val BEGUN = ".begun"
        val LOCK = Any()
    }
}
