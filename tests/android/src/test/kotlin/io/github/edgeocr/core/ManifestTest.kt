package io.github.edgeocr.core

import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class ManifestTest {
    private val content get() = JSONObject(GoldenFiles.manifest)

    @Test
    fun `a bundle's manifest is read`() {
        val manifest = Manifest.parse(GoldenFiles.manifest)
        assertEquals("v2.13-rc", manifest.runtimeVersion)
        assertEquals(setOf("det", "rec", "cls"), manifest.models.keys)
        assertEquals(6625, manifest.classCount)
        assertEquals(0, manifest.blankIndex)
        assertEquals(content.getJSONObject("files").length(), manifest.files.size)
        assertEquals(32, manifest.settings.detection.sideMultiple)
        assertEquals(LimitType.MAX, manifest.settings.detection.limitType)
        assertEquals(0.9f, manifest.settings.orientation.threshold)
        assertEquals(listOf(0.485f, 0.456f, 0.406f), manifest.settings.detection.normalization.mean)
        val golden = manifest.golden!!
        assertTrue(golden.lines.isNotEmpty())
        assertTrue(golden.lines.all { it.polygon.size == 8 })
    }

    @Test
    fun `a bundle may lack classifier and golden picture`() {
        val manifest = content
        manifest.getJSONObject("models").remove("cls")
        manifest.put("golden", JSONObject.NULL)
        val read = Manifest.parse(manifest.toString())
        assertEquals(setOf("det", "rec"), read.models.keys)
        assertEquals(null, read.golden)
    }

    @Test
    fun `a bundle may have a classifier of pages`() {
        val manifest = content
        manifest.getJSONObject("models").apply { put("page", getJSONObject("cls")) }
        assertEquals(setOf("det", "rec", "cls", "page"), Manifest.parse(manifest.toString()).models.keys)
    }

    @Test
    fun `anything but JSON is refused`() {
        assertRefused("not JSON", "")
        assertRefused("not JSON", GoldenFiles.manifest.dropLast(50))
        assertRefused("not JSON", "[1]")
    }

    @Test
    fun `other targets and newer formats are refused`() {
        assertRefused("is for arm, expected android", content.put("target", "arm").toString())
        assertRefused("schema_version 4", content.put("schema_version", 4).toString())
        assertRefused("schema_version 1", content.put("schema_version", 1).toString())
    }

    @Test
    fun `each key that is read must be there and of its type`() {
        for (path in PATHS) {
            for (value in listOf(null, JSONObject().put("odd", true))) {
                val manifest = content
                val names = path.split(".")
                val parent = names.dropLast(1).fold(manifest) { inner, name -> inner.getJSONObject(name) }
                require(parent.has(names.last())) { path }
                if (value == null) parent.remove(names.last()) else parent.put(names.last(), value)
                val error = assertThrows(BundleException::class.java, { Manifest.parse(manifest.toString()) }, path)
                assertTrue(names.last() in error.message!! || "odd" in error.message!!, "$path: ${error.message}")
            }
        }
    }

    @Test
    fun `fractions and texts are not whole numbers`() {
        for (value in listOf(960.5, "960", true)) {
            val manifest = content
            manifest.getJSONObject("settings").getJSONObject("detection").put("limit_side_len", value)
            assertRefused("settings.detection.limit_side_len is $value, expected ", manifest.toString())
        }
    }

    @Test
    fun `texts and numbers are neither true nor false`() {
        for (value in listOf("true", 1)) {
            val manifest = content
            manifest.getJSONObject("settings").getJSONObject("detection").put("windows", value)
            assertRefused("settings.detection.windows is $value, expected ", manifest.toString())
        }
        for (value in listOf(true, false)) {
            val manifest = content
            manifest.getJSONObject("settings").getJSONObject("detection").put("windows", value)
            assertEquals(value, Manifest.parse(manifest.toString()).settings.detection.windows)
        }
    }

    @Test
    fun `odd values are refused by name`() {
        for ((key, value) in listOf("limit_type" to "MAX", "mean" to listOf(0.5, 0.5), "std" to listOf(1, 1, "1"))) {
            val manifest = content
            manifest.getJSONObject("settings").getJSONObject("detection").put(key, value)
            assertRefused("manifest.json: settings.detection.$key is ", manifest.toString())
        }
    }

    @Test
    fun `a model that is not among the files is refused`() {
        val manifest = content
        manifest.getJSONObject("files").remove("models/rec.nb")
        assertRefused("models/rec.nb", manifest.toString())
    }

    private fun assertRefused(reason: String, text: String) {
        val error = assertThrows(BundleException::class.java) { Manifest.parse(text) }
        assertTrue(reason in error.message!!, error.message)
    }

    private companion object {
        val PATHS = listOf(
            "schema_version", "target", "files", "models", "charset", "settings", "constants", "lite.runtime_version",
            "models.det", "models.rec.file", "charset.file", "charset.classes", "charset.blank_index", "golden.image",
            "golden.lines", "settings.detection.limit_type", "settings.detection.mean",
            "settings.recognition.min_width", "settings.detection.bin_threshold",
            "settings.orientation.image_width", "settings.page_orientation.resize_short",
            "constants.detection.max_side", "settings.detection.windows", "constants.border", "constants.border.pixels",
            "constants.windows", "constants.windows.tile_share", "constants.windows.whole_pixels",
            "constants.windows.large_side", "constants.windows.large_overlap", "constants.recognition.part_width",
            "constants.recognition.space_ratio",
            "constants.geometry.row_tolerance", "constants.recognition.std", "constants.orientation.turned_class",
            "constants.page_orientation.probe_lines", "settings.recognition.return_words",
            "settings.recognition.cjk_words", "constants.words", "constants.words.reach",
        )
    }
}
