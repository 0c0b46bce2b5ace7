package io.github.edgeocr

import io.github.edgeocr.core.ReturnWords
import io.github.edgeocr.core.Settings

/** The cores that Paddle-Lite uses. ONNX Runtime leaves the choice to the system. */
public enum class PowerMode {
    /** The fast cores. */
    HIGH,

    /** The slow cores. */
    LOW,

    /** All cores. */
    FULL,

    /** The system chooses. */
    NO_BIND,

    /** The fast cores, in turn. */
    RAND_HIGH,

    /** The slow cores, in turn. */
    RAND_LOW,
}

/** Returns the settings for reading, given those of the bundle. */
public fun interface SettingsChange {
    /** Called once while a bundle is opened. */
    public fun apply(settings: Settings): Settings
}

/**
 * How the networks run and what is read.
 *
 * @property threads How many threads a network runs on, at least 1.
 * @property powerMode The cores that they run on.
 * @property settingsChange Changes the bundle's settings.
 * @property trust If it is set, only bundles that are signed with one of its keys are used.
 * @property returnWords What each line has besides its text; if it is null, the bundle's setting applies.
 * @property engine What runs the networks; if it is null, the first one that is in the app and that the bundle has
 * networks for.
 */
public class OcrOptions @JvmOverloads constructor(
    public val threads: Int = Runtime.getRuntime().availableProcessors().coerceAtMost(USEFUL_THREADS),
    public val powerMode: PowerMode = PowerMode.NO_BIND,
    public val settingsChange: SettingsChange = SettingsChange { it },
    public val trust: Trust? = null,
    public val returnWords: ReturnWords? = null,
    public val engine: EngineKind? = null,
) {
    init {
        require(threads >= 1) { "threads is $threads, expected at least 1" }
    }

    private companion object {
        /** Phones have two to four fast cores; with more threads, the fast cores wait for the slow ones. */
        const val USEFUL_THREADS = 4
    }
}
