package io.github.edgeocr

import io.github.edgeocr.core.Settings

/** The cores that Paddle-Lite computes on. */
public enum class PowerMode {
    /** The fast ones. */
    HIGH,

    /** The slow ones. */
    LOW,

    /** All. */
    FULL,

    /** Those that the system chooses. */
    NO_BIND,

    /** The fast ones, in turn. */
    RAND_HIGH,

    /** The slow ones, in turn. */
    RAND_LOW,
}

/** Makes the settings to read with from those of the bundle. */
public fun interface SettingsChange {
    public fun apply(settings: Settings): Settings
}

/**
 * How the networks compute: on [threads] threads (at least 1) and the cores that [powerMode] names.
 *
 * With [trust], a bundle is only used if it is signed with one of its keys.
 */
public class OcrOptions @JvmOverloads constructor(
    public val threads: Int = Runtime.getRuntime().availableProcessors().coerceAtMost(USEFUL_THREADS),
    public val powerMode: PowerMode = PowerMode.NO_BIND,
    public val settingsChange: SettingsChange = SettingsChange { it },
    public val trust: Trust? = null,
) {
    init {
        require(threads >= 1) { "$threads threads, expected at least 1" }
    }

    private companion object {
        /** Phones have two to four fast cores; with more threads these wait for the slow ones. */
        const val USEFUL_THREADS = 4
    }
}
