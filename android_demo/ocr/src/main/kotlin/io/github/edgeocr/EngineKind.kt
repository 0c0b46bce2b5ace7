package io.github.edgeocr

import io.github.edgeocr.core.Engine
import io.github.edgeocr.core.Manifest
import java.io.Closeable

/**
 * What runs the networks. An app has those that its build chose (`edge-ocr export --engine`), which [isInApp] tells.
 *
 * In order of preference: ONNX Runtime also runs on x86-64 and on devices with pages of 16 KB.
 */
public enum class EngineKind(internal val product: String, private val loader: String) {
    /** ONNX Runtime, with the bundle's `.onnx` files, which stay in the APK. */
    ONNXRUNTIME("ONNX Runtime", "io.github.edgeocr.OnnxRuntimeLoader"),

    /** Paddle-Lite, with the bundle's `.nb` files, which are copied from the APK. */
    PADDLE_LITE("Paddle-Lite", "io.github.edgeocr.PaddleLiteLoader"),
    ;

    /** Whether this app was built with the engine. */
    public val isInApp: Boolean get() = findLoader() != null

    /** The files of the bundle's networks for this engine, by role; empty if it has none. */
    internal fun listModels(manifest: Manifest): Map<String, String> =
        if (this == ONNXRUNTIME) manifest.graphs else manifest.models

    /** By name, because the source folder of an engine that the build left out is not compiled. */
    internal fun findLoader(): EngineLoader? =
        try {
            Class.forName(loader).getDeclaredConstructor().newInstance() as EngineLoader
        } catch (_: ClassNotFoundException) {
            null
        }
}

/** A network that holds native memory until it is closed. Not thread-safe: close it only while it is not running. */
internal interface OpenEngine : Engine, Closeable

/** Loads networks for one engine. Public classes with this interface are created by name. */
internal interface EngineLoader {
    /** Whether the networks must be files; otherwise they are mapped, also from the APK. */
    val needsFiles: Boolean

    /** The engine's version; call it after a network is loaded. */
    fun readVersion(bundle: BundleFolder): String

    /**
     * Loads the network in the file [name] of [bundle], after checking it.
     *
     * Throws [io.github.edgeocr.core.BundleException] if the file is damaged or cannot be loaded, [LibraryException] if
     * the engine cannot be loaded on this device, [VersionMismatchException] if it has the wrong version.
     */
    fun open(bundle: BundleFolder, name: String, options: OcrOptions): OpenEngine
}
