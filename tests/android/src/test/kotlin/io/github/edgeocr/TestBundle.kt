package io.github.edgeocr

import android.graphics.Bitmap
import com.baidu.paddle.lite.FakeRuntime
import io.github.edgeocr.core.BgrImage
import io.github.edgeocr.core.Engine
import io.github.edgeocr.core.GoldenFiles
import io.github.edgeocr.core.ReplayEngine
import io.github.edgeocr.core.TableEngine
import io.github.edgeocr.core.Tensor
import io.github.edgeocr.core.elements
import io.github.edgeocr.core.items
import org.json.JSONObject
import java.awt.image.BufferedImage
import java.io.ByteArrayOutputStream
import java.io.File
import java.io.FileInputStream
import java.nio.channels.FileChannel.MapMode.READ_ONLY
import javax.imageio.ImageIO

/** A picture of tests/golden, a bundle with its settings, and networks that replay its recorded outputs. */
class TestBundle(name: String = "sign") {
    private val case = GoldenFiles.recorded.items("cases").first { it.getString("name") == name }
    private val expected = GoldenFiles.expected.items("cases").first { it.getString("name") == name }

    /** The manifest; a test may change it before it is written. */
    val manifest = JSONObject(GoldenFiles.manifest)

    /** Contents of the files, by name; a test may change them too. */
    val files = sortedMapOf<String, ByteArray>()

    val image: BgrImage = GoldenFiles.readView(case)

    /** The texts that the host read. */
    val texts: List<String> = expected.getJSONArray("read").elements().map { it as String }

    init {
        for (file in manifest.getJSONObject("files").keys()) files[file] = "content of $file\n".toByteArray()
        files["dict.txt"] = GoldenFiles.classes.drop(1).joinToString("") { "$it\n" }.toByteArray()
        manifest.getJSONObject("charset").put("classes", GoldenFiles.classes.size)
        val settings = case.getJSONObject("settings")
        // Copies, which a test may change.
        for (stage in settings.keys()) {
            manifest.getJSONObject("settings").put(stage, JSONObject("${settings.getJSONObject(stage)}"))
        }
        for ((file, content) in files.toList()) putFile(file, content)
    }

    /** Adds a file to the bundle and its manifest. */
    fun putFile(name: String, content: ByteArray) {
        files[name] = content
        val entry = JSONObject().put("size_bytes", content.size).put("sha256", hash(content.inputStream()))
        manifest.getJSONObject("files").put(name, entry)
    }

    /** The picture as a PNG. `sign` is the golden picture, whose lines are in the manifest. */
    fun encodePicture(): ByteArray {
        val picture = BufferedImage(image.width, image.height, BufferedImage.TYPE_INT_RGB)
        picture.setRGB(0, 0, image.width, image.height, readArgb(), 0, image.width)
        return ByteArrayOutputStream().also { ImageIO.write(picture, "png", it) }.toByteArray()
    }

    /** Writes the bundle into an empty folder. */
    fun write(folder: File): File {
        folder.deleteRecursively()
        for ((name, content) in files) File(folder, name).apply { parentFile.mkdirs() }.writeBytes(content)
        File(folder, "manifest.json").writeText(manifest.toString())
        return folder
    }

    fun makeBitmap(): Bitmap =
        Bitmap.createBitmap(readArgb(), image.width, image.height, Bitmap.Config.ARGB_8888)

    private fun readArgb() = IntArray(image.width * image.height) { i ->
        val (blue, green, red) = List(3) { image.pixels[3 * i + it].toInt() and 0xFF }
        (0xFF shl 24) or (red shl 16) or (green shl 8) or blue
    }

    /** Makes the networks of the bundle loadable; each run of the detector restarts the recording. */
    fun loadNetworks(beforeRun: (model: String) -> Unit = {}) {
        val name = case.getString("name")
        val map = GoldenFiles.readMap("$name.det")
        val texts = GoldenFiles.readTensor("$name.rec")
        val classes = GoldenFiles.readTensor("$name.cls")
        val engines = HashMap<String, Engine>()
        for (model in listOf("det", "rec", "cls")) {
            FakeRuntime.networks["$model.nb"] = FakeRuntime.Network { shape, data ->
                beforeRun(model)
                if (model == "det") {
                    engines["det"] = ReplayEngine(case, "det", map)
                    engines["rec"] = ReplayEngine(case, "rec", texts)
                    // The batches differ from the host's, which does not change results.
                    engines["cls"] = TableEngine(classes)
                }
                val output = engines.getValue(model).run(Tensor(shape.map(Long::toInt).toIntArray(), data))
                FakeRuntime.Output(output.shape.map(Int::toLong).toLongArray(), output.data)
            }
        }
    }
}

/** A bundle in [assets], a folder that replaces an app's assets. */
internal fun openAssets(home: File, assets: File) =
    AssetBundle(
        home,
        { File(assets, it).inputStream() },
        { name -> FileInputStream(File(assets, name)).use { it.channel.map(READ_ONLY, 0, it.channel.size()) } },
    )
