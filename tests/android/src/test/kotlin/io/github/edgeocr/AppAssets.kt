package io.github.edgeocr

import org.robolectric.RuntimeEnvironment
import java.io.File
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream

/** Adds files to the app's assets: writes [apk], an APK with nothing else, with the bundle in [folder]. */
fun addAssets(apk: File, folder: File, vararg others: Pair<String, String>) {
    ZipOutputStream(apk.outputStream()).use { zip ->
        val files = folder.walk().filter(File::isFile)
            .map { "${EdgeOcr.ASSETS_FOLDER}/${it.relativeTo(folder).path}" to it.readBytes() }
        for ((name, content) in files + others.map { (name, text) -> name to text.toByteArray() }) {
            zip.putNextEntry(ZipEntry("assets/$name"))
            zip.write(content)
        }
    }
    val assets = RuntimeEnvironment.getApplication().assets
    val cookie = assets.javaClass.getMethod("addAssetPath", String::class.java).invoke(assets, apk.path) as Int
    check(cookie > 0) { "no assets in $apk" }
}
