package io.github.edgeocr

import android.content.Context
import io.github.edgeocr.core.BundleException
import io.github.edgeocr.core.EdgeOcrException
import io.github.edgeocr.core.Manifest
import io.github.edgeocr.core.NoEd25519Exception
import io.github.edgeocr.core.SIGNATURE_BYTES
import io.github.edgeocr.core.SIGNATURE_FILE
import io.github.edgeocr.core.UntrustedException
import java.io.ByteArrayOutputStream
import java.io.File
import java.io.IOException
import java.io.InputStream
import java.io.OutputStream
import java.util.zip.ZipEntry
import java.util.zip.ZipFile

/** Installs bundles that an app downloads. Thread-safe; threads take turns. */
public object BundleArchive {
    /** The size of the largest archive, and of the largest bundle in one: 1 GiB. */
    public const val LIMIT_BYTES: Long = 1L shl 30

    private const val DOWNLOAD_AGAIN = "download the archive again"
    private val LOCK = Any()

    /**
     * Unpacks the bundle in a zip into [folder], from which `EdgeOcr.open(context, folder)` reads, and returns its
     * manifest.
     *
     * The zip is what `edge-ocr export --target android --zip` writes, or has the bundle's own folder. [archive] is
     * read to its end and not closed. Only what the manifest lists is taken, without networks for engines that are not
     * in the app. An earlier bundle in [folder] stays until the new one is complete; until then, the device also holds
     * the zip and the new files, beside [folder]. What is open keeps its networks: close it and open it again. Takes
     * long: do not call it on the main thread.
     *
     * The bundle must be signed as for `EdgeOcr.open(context)`; its counter is recorded when it is opened. Throws
     * [UntrustedException] if it must not be used, [NoEd25519Exception] if this device cannot check signatures,
     * [BundleException] if the zip is damaged, incomplete or too large, has not exactly one bundle, or one without
     * networks for the app's engines, [StorageException] if the device has no room.
     */
    @JvmStatic
    @JvmOverloads
    @Throws(EdgeOcrException::class)
    public fun unpack(context: Context, archive: InputStream, folder: File, trust: Trust? = null): Manifest =
        unpack(archive, folder, trust ?: Trust.findInAssets(context), LIMIT_BYTES)

    internal fun unpack(archive: InputStream, folder: File, trust: Trust?, limitBytes: Long): Manifest =
        synchronized(LOCK) {
            val target = folder.absoluteFile
            val (packed, begun) = File("$target.packed") to File("$target.begun")
            try {
                begun.deleteRecursively()
                writeDurably(packed) { pump(archive, it, limitBytes, "the archive") }
                val manifest = openZip(packed).use { unpack(it, begun, trust, limitBytes) }
                replace(target, begun)
                manifest
            } finally {
                packed.delete()
                begun.deleteRecursively()
            }
        }

    private fun openZip(file: File): ZipFile =
        try {
            ZipFile(file)
        } catch (error: IOException) {
            throw BundleException("the archive is not a whole zip: ${error.message}", DOWNLOAD_AGAIN, error)
        } catch (error: IllegalArgumentException) {
            throw BundleException("the archive has a name that is not UTF-8: ${error.message}", DOWNLOAD_AGAIN, error)
        }

    private fun unpack(zip: ZipFile, folder: File, trust: Trust?, limitBytes: Long): Manifest {
        val entries = listEntries(zip)
        val found = entries.keys.filter { it.substringAfterLast('/') == Manifest.FILE }
        val root = found.singleOrNull()?.removeSuffix(Manifest.FILE)
            ?: throw BundleException("the archive has ${found.size} files named ${Manifest.FILE}, expected 1")

        fun read(name: String, maxBytes: Long) = entries[root + name]?.let { entry ->
            ByteArrayOutputStream().also { copy(zip, entry, it, maxBytes) }.toByteArray()
        }

        val content = read(Manifest.FILE, BundleFolder.MAX_MANIFEST_BYTES)!!
        val signature = read(SIGNATURE_FILE, SIGNATURE_BYTES.toLong())
        // Check the signature of exactly the bytes that are parsed and written afterwards.
        trust?.check(content, "the bundle in the archive") { signature }
        val manifest = BundleFolder.parse(content.decodeToString())
        val bundle = BundleFolder(folder, manifest)
        var leftBytes = limitBytes
        for (name in listNeeded(manifest)) {
            val sizeBytes = manifest.files.getValue(name).sizeBytes
            if (sizeBytes !in 0..leftBytes) throw BundleException("the bundle has more than $limitBytes bytes")
            leftBytes -= sizeBytes
            val entry = entries[root + name] ?: throw BundleException("the archive has no $root$name", DOWNLOAD_AGAIN)
            writeDurably(File(folder, name)) { copy(zip, entry, it, sizeBytes) }
            bundle.checkFile(name)
        }
        writeDurably(File(folder, Manifest.FILE)) { it.write(content) }
        if (signature != null) writeDurably(File(folder, SIGNATURE_FILE)) { it.write(signature) }
        return manifest
    }

    private fun listEntries(zip: ZipFile): Map<String, ZipEntry> {
        val entries = HashMap<String, ZipEntry>()
        for (entry in zip.entries()) {
            if (BundleFolder.isOutside(entry.name)) throw BundleException("the archive has a file ${entry.name}")
            if (entries.put(entry.name, entry) != null) throw BundleException("the archive has ${entry.name} twice")
        }
        return entries
    }

    /** The bundle's files without networks that only engines run that are not [inApp]. */
    internal fun listNeeded(
        manifest: Manifest,
        inApp: List<EngineKind> = EngineKind.entries.filter { it.isInApp },
    ): Set<String> {
        fun listModels(engines: List<EngineKind>) = engines.flatMap { it.listModels(manifest).values }.toSet()

        val networks = listModels(inApp)
        if (networks.isEmpty()) {
            throw BundleException("the bundle has no networks for ${inApp.joinToString(" or ") { it.product }}")
        }
        return manifest.files.keys - (listModels(EngineKind.entries) - networks)
    }

    private fun copy(zip: ZipFile, entry: ZipEntry, target: OutputStream, maxBytes: Long) {
        val source = try {
            zip.getInputStream(entry)
        } catch (error: IOException) {
            throw BundleException("${entry.name} in the archive is damaged: ${error.message}", DOWNLOAD_AGAIN, error)
        }
        source.use { pump(it, target, maxBytes, "${entry.name} in the archive") }
    }

    /** Copies a stream, which errors call [place], without reading much more than [maxBytes]. */
    private fun pump(source: InputStream, target: OutputStream, maxBytes: Long, place: String) {
        val buffer = ByteArray(BUFFER_BYTES)
        var leftBytes = maxBytes
        while (true) {
            val count = try {
                source.read(buffer)
            } catch (error: IOException) {
                throw BundleException("$place cannot be read: ${error.message}", DOWNLOAD_AGAIN, error)
            }
            if (count < 0) return
            leftBytes -= count
            if (leftBytes < 0) throw BundleException("$place has more than $maxBytes bytes")
            target.write(buffer, 0, count)
        }
    }

    private fun replace(folder: File, begun: File) {
        val old = File("$folder.old")
        old.deleteRecursively()
        // Java cannot exchange two folders in one step.
        if (folder.exists() && !folder.renameTo(old)) throw StorageException("$folder cannot be renamed to $old")
        if (!begun.renameTo(folder)) {
            old.renameTo(folder)
            throw StorageException("$begun cannot be renamed to $folder")
        }
        old.deleteRecursively()
    }

    private const val BUFFER_BYTES = 1 shl 16
}
