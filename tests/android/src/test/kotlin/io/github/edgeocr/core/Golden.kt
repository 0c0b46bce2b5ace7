package io.github.edgeocr.core

import org.json.JSONArray
import org.json.JSONObject
import java.awt.image.BufferedImage
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import java.util.zip.InflaterInputStream
import javax.imageio.ImageIO

/** The files of tests/golden, checked against their index. */
object GoldenFiles {
    private val root = File(System.getProperty("repository.root"))
    val folder = File(root, "tests/golden")
    private val index = JSONObject(File(folder, "index.json").readText()).getJSONObject("files")

    val expected = readJson("expected.json")
    val recorded = readJson("recorded.json")
    val manifest = readText("manifest.json")
    internal val constants = JsonFields.parse(manifest, "manifest.json").getFields("constants")
    val classes: List<String> = recorded.getJSONArray("classes").elements().map { it as String }

    fun readText(name: String): String = String(File(folder, name).readBytes().also { check(name, it) })

    fun readJson(name: String) = JSONObject(readText(name))

    /** The bytes of an array of uint8. */
    fun readBytes(name: String): ByteArray = readContent("arrays/$name.bin", "uint8")

    /** An array of float32. */
    fun readTensor(name: String): Tensor {
        val file = "arrays/$name.bin"
        val values = ByteBuffer.wrap(readContent(file, "float32")).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
        return Tensor(readShape(name), FloatArray(values.remaining()).also(values::get))
    }

    fun readShape(name: String): IntArray =
        index.getJSONObject("arrays/$name.bin").getJSONArray("shape").elements().map { it as Int }.toIntArray()

    /** A prob map, stored as bytes in steps of 1/255. */
    fun readMap(name: String): Tensor {
        val bytes = readBytes(name)
        return Tensor(readShape(name), FloatArray(bytes.size) { (bytes[it].toInt() and 0xFF) / 255f })
    }

    private fun readContent(file: String, dtype: String): ByteArray {
        require(index.getJSONObject(file).getString("dtype") == dtype) { "$file is not of $dtype" }
        return InflaterInputStream(File(folder, file).inputStream()).use { it.readBytes() }.also { check(file, it) }
    }

    private fun check(file: String, content: ByteArray) {
        val digest = MessageDigest.getInstance("SHA-256").digest(content).joinToString("") { "%02x".format(it) }
        require(digest == index.getJSONObject(file).getString("sha256")) { "$file differs from index.json" }
    }

    /** The part of a picture that a view describes. */
    fun readView(view: JSONObject): BgrImage {
        val name = view.getString("picture")
        val picture = pictures.getOrPut(name) { ImageIO.read(File(root, name)) }
        val (left, top, width, height) = view.getJSONArray("crop").elements().map { it as Int }
        var image = BgrImage.fromArgb(width, height, picture.getRGB(left, top, width, height, null, 0, width))
        repeat(view.getInt("turns")) { image = image.turnLeft() }
        return image
    }

    private val pictures = HashMap<String, BufferedImage>()

    internal fun readSettings(case: JSONObject): Settings =
        Settings.read(JsonFields(case.getJSONObject("settings"), "case"), constants)

    internal fun readDetectionSettings(settings: JSONObject): DetectionSettings =
        Settings.readDetection(JsonFields(settings, "settings"), constants.getFields("detection"))
}

/** The items of an array; Android's JSONArray is not a list. */
fun JSONArray.elements(): List<Any> = List(length()) { get(it) }

fun JSONObject.items(key: String): List<JSONObject> = getJSONArray(key).elements().map { it as JSONObject }

fun JSONArray.numbers(): DoubleArray = elements().map { (it as Number).toDouble() }.toDoubleArray()

/** The rows of a list of lists of numbers, one after the other. */
fun JSONArray.rows(): FloatArray =
    elements().flatMap { row -> (row as JSONArray).elements().map { (it as Number).toFloat() } }.toFloatArray()

fun JSONObject.rows(key: String): FloatArray = getJSONArray(key).rows()
