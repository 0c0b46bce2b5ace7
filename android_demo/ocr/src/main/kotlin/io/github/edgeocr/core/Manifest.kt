package io.github.edgeocr.core

/**
 * Expected size and hash of a file of the bundle.
 *
 * @property sizeBytes Its size.
 * @property sha256 In lower-case hexadecimal digits.
 */
public data class FileEntry(val sizeBytes: Long, val sha256: String)

/**
 * The bundle's picture whose text is known.
 *
 * @property image Its file.
 * @property lines Its lines, in reading order.
 */
public class Golden(public val image: String, public val lines: List<TextLine>)

/** A bundle's manifest.json: its files and how to use them. */
public class Manifest private constructor(
    /** The version of Paddle-Lite that the models need, such as `v2.13-rc`. */
    public val runtimeVersion: String,
    /** Files of the networks for Paddle-Lite by role: `det`, `rec` and often `cls` and `page`. */
    public val models: Map<String, String>,
    /** The same networks as ONNX files; empty if the bundle has none. */
    public val graphs: Map<String, String>,
    /** The dictionary's file. */
    public val charsetFile: String,
    /** Length of the last axis of the recogniser's output. */
    public val classCount: Int,
    /** The class for no character. */
    public val blankIndex: Int,
    /** Settings and constants of the stages. */
    public val settings: Settings,
    /** Null if the bundle has none. */
    public val golden: Golden?,
    /** Every file of the bundle except the manifest, by its path with forward slashes. */
    public val files: Map<String, FileEntry>,
    /** The release that it names, whether or not its signature was checked; null if it names none. */
    public val release: Release?,
) {
    public companion object {
        /** The manifest's file name. */
        public const val FILE: String = "manifest.json"

        /** The version of the format that this code was written for. */
        public const val SCHEMA_VERSION: Int = 3

        private const val TARGET = "android"

        /**
         * Parses a manifest.
         *
         * Throws [BundleException] if it is damaged, newer than this code or for another target.
         */
        @JvmStatic
        public fun parse(text: String): Manifest {
            val manifest = JsonFields.parse(text, FILE)
            val version = manifest.getInt("schema_version")
            if (version > SCHEMA_VERSION) {
                throw BundleException(
                    "$FILE has schema_version $version, expected at most $SCHEMA_VERSION",
                    "build the app with the edge-ocr that exported the bundle",
                )
            }
            if (version < SCHEMA_VERSION) {
                throw BundleException("$FILE has schema_version $version, expected $SCHEMA_VERSION")
            }
            val target = manifest.getText("target")
            if (target != TARGET) throw BundleException("the bundle is for $target, expected $TARGET")
            val files = manifest.getFields("files")
            val models = manifest.getFields("models")
            val charset = manifest.getFields("charset")
            val read = Manifest(
                manifest.getFields("lite").getText("runtime_version"),
                listFiles(models),
                // Absent in bundles without ONNX files, or null.
                if (manifest.has("onnx")) listFiles(manifest.getFields("onnx")) else emptyMap(),
                charset.getText("file"),
                charset.getInt("classes"),
                charset.getInt("blank_index"),
                Settings.read(manifest.getFields("settings"), manifest.getFields("constants")),
                if (manifest.has("golden")) readGolden(manifest.getFields("golden")) else null,
                files.keys.associateWith { name ->
                    files.getFields(name).let { FileEntry(it.getLong("size_bytes"), it.getText("sha256")) }
                },
                if (manifest.has("release")) readRelease(manifest.getFields("release")) else null,
            )
            val networks = read.models.values + read.graphs.values
            for (name in networks + read.charsetFile + listOfNotNull(read.golden?.image)) {
                if (name !in read.files) throw BundleException("$FILE: $name is not among the files")
            }
            return read
        }

        private val REQUIRED = listOf("det", "rec")
        private val MODELS = REQUIRED + listOf("cls", "page")

        private fun listFiles(models: JsonFields) =
            MODELS.filter { models.has(it) || it in REQUIRED }.associateWith { models.getFields(it).getText("file") }

        private fun readRelease(release: JsonFields) = Release(release.getText("name"), release.getLong("counter"))

        private fun readGolden(golden: JsonFields) = Golden(
            golden.getText("image"),
            golden.getFieldsList("lines").map { line ->
                TextLine(
                    line.getRows("polygon"),
                    line.getDouble("det_score"),
                    line.getText("text"),
                    line.getDouble("rec_score"),
                )
            },
        )
    }
}
