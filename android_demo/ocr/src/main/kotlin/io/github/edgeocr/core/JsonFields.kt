package io.github.edgeocr.core

import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject

/**
 * A JSON object and its [place], such as `manifest.json: settings`, so that errors name the key.
 *
 * Every getter throws [BundleException] if the key is missing or the value has another type.
 */
internal class JsonFields(private val json: JSONObject, private val place: String) {
    val keys: List<String> get() = json.keys().asSequence().toList()

    fun has(key: String): Boolean = json.has(key) && !json.isNull(key)

    fun getText(key: String): String = get(key, "a string") { it as? String }

    fun getBoolean(key: String): Boolean = get(key, "true or false") { it as? Boolean }

    fun getInt(key: String): Int = get(key, "an integer") { value -> (value as? Number)?.let(::toWhole) }

    fun getLong(key: String): Long = get(key, "an integer") { value ->
        (value as? Number)?.takeIf { it is Int || it is Long }?.toLong()
    }

    fun getDouble(key: String): Double = get(key, "a number") { (it as? Number)?.toDouble() }

    fun getFields(key: String): JsonFields = get(key, "an object") { value ->
        (value as? JSONObject)?.let { JsonFields(it, locate(key)) }
    }

    fun getFieldsList(key: String): List<JsonFields> = get(key, "a list of objects") { value ->
        (value as? JSONArray)?.let { list ->
            List(list.length()) { i -> (list.opt(i) as? JSONObject)?.let { JsonFields(it, "${locate(key)}[$i]") } }
                .takeIf { null !in it }?.filterNotNull()
        }
    }

    fun getFloats(key: String, count: Int): List<Float> = get(key, "a list of $count numbers") { value ->
        (value as? JSONArray)?.takeIf { it.length() == count }?.let { list ->
            List(list.length()) { i -> (list.opt(i) as? Number)?.toFloat() }.takeIf { null !in it }?.filterNotNull()
        }
    }

    /** The rows of a list of lists of numbers, one after the other. */
    fun getRows(key: String): FloatArray = get(key, "a list of lists of numbers") { value ->
        (value as? JSONArray)?.let { rows ->
            val flat = ArrayList<Float>()
            for (i in 0 until rows.length()) {
                val row = rows.opt(i) as? JSONArray ?: return@let null
                for (k in 0 until row.length()) flat += (row.opt(k) as? Number ?: return@let null).toFloat()
            }
            flat.toFloatArray()
        }
    }

    private fun toWhole(value: Number): Int? =
        value.toInt().takeIf { (value is Int || value is Long) && it.toLong() == value.toLong() }

    /** Returns a value after [convert], which returns null if the value is not what is [expected]. */
    fun <T : Any> get(key: String, expected: String, convert: (Any) -> T?): T {
        val value = json.opt(key) ?: throw BundleException("${locate(key)} is missing, expected $expected")
        return convert(value)
            ?: throw BundleException("${locate(key)} is ${value.toString().take(SHOWN_CHARACTERS)}, expected $expected")
    }

    private fun locate(key: String) = if (place.endsWith(" ")) "$place$key" else "$place.$key"

    companion object {
        private const val SHOWN_CHARACTERS = 60

        /** Parses an object; errors call it [file]. */
        fun parse(text: String, file: String): JsonFields =
            try {
                JsonFields(JSONObject(text), "$file: ")
            } catch (error: JSONException) {
                throw BundleException("$file is damaged: not JSON", cause = error)
            }
    }
}
