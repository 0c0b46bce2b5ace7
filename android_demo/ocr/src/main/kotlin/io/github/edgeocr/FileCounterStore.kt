package io.github.edgeocr

import io.github.edgeocr.core.CounterStore
import io.github.edgeocr.core.UntrustedException
import io.github.edgeocr.core.readStrictJson
import org.json.JSONObject
import java.io.File
import java.io.IOException

/** Counters in a JSON [file]. Use the app's `filesDir`, not its cache, which the system may empty. */
public class FileCounterStore(private val file: File) : CounterStore {
    /** Throws [UntrustedException] if the file is damaged: without it, older bundles would be accepted again. */
    override fun read(): Map<String, Long> {
        if (!file.exists()) return emptyMap()
        val content = try {
            readStrictJson(file.readBytes().decodeToString(throwOnInvalidSequence = true)) as? Map<*, *>
        } catch (_: IOException) {
            null
        } catch (_: IllegalArgumentException) {
            null
        }
        return content?.entries?.associate { (name, counter) -> "$name" to (counter as? Long ?: throw makeError()) }
            ?: throw makeError()
    }

    /** Throws [StorageException] if the file cannot be written. */
    override fun write(counters: Map<String, Long>) {
        val begun = File("${file.path}.begun")
        writeDurably(begun) { it.write(JSONObject(counters).toString().toByteArray()) }
        if (!begun.renameTo(file)) throw StorageException("$begun cannot be renamed to $file")
    }

    private fun makeError() = UntrustedException(
        "no bundle is trusted: $file cannot be read or is damaged",
        "clear the app's storage in the system settings",
    )
}
