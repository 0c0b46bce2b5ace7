package io.github.edgeocr.demo

import android.content.Context
import io.github.edgeocr.EngineKind
import io.github.edgeocr.OcrOptions
import io.github.edgeocr.PowerMode
import io.github.edgeocr.SettingsChange
import io.github.edgeocr.core.ReturnWords
import io.github.edgeocr.core.Settings

/** A number in [range] that the user may set. The ranges of the bundle's settings are those of edge_ocr/config.py. */
internal enum class NumberSetting(
    val viewId: Int,
    val title: Int,
    val range: ClosedRange<Double>,
    val isWhole: Boolean = false,
    /** The bundle's own value, as text; null if it has none. */
    val readOwn: (Settings) -> Any?,
) {
    THREADS(R.id.threads, R.string.threads, 1.0..Runtime.getRuntime().availableProcessors().toDouble(), true, { null }),
    LIMIT_SIDE_LEN(R.id.limit_side_len, R.string.limit_side_len, 32.0..4000.0, true, { it.detection.limitSideLen }),
    BIN_THRESHOLD(R.id.bin_threshold, R.string.bin_threshold, 0.0..1.0, readOwn = { it.detection.binThreshold }),
    BOX_THRESHOLD(R.id.box_threshold, R.string.box_threshold, 0.0..1.0, readOwn = { it.detection.boxThreshold }),
    UNCLIP_RATIO(R.id.unclip_ratio, R.string.unclip_ratio, 0.1..10.0, readOwn = { it.detection.unclipRatio }),
    TEXT_SCORE(R.id.text_score, R.string.text_score, 0.0..1.0, readOwn = { it.recognition.textScore }),
    ;

    /** Parses a number; null if the text is not a number in [range]. */
    fun parse(text: String): Double? =
        text.toDoubleOrNull()?.takeIf { it in range && !(isWhole && it != Math.rint(it)) }

    /** Formats a number for [parse]. */
    fun format(value: Double): String = if (isWhole) value.toInt().toString() else value.toString()
}

/** The user's settings, stored by the system. If one is null, the bundle's or the library's value applies. */
internal class Preferences(context: Context) {
    private val stored = context.getSharedPreferences("settings", Context.MODE_PRIVATE)

    operator fun get(setting: NumberSetting): Double? = stored.getString(setting.name, null)?.let(setting::parse)

    /** Stores a number in the setting's range. */
    operator fun set(setting: NumberSetting, value: Double?) = store(setting.name, value?.let(setting::format))

    var threads: Int?
        get() = this[NumberSetting.THREADS]?.toInt()
        set(value) = set(NumberSetting.THREADS, value?.toDouble())

    var powerMode: PowerMode?
        get() = stored.getString(POWER_MODE, null).let { name -> PowerMode.entries.find { it.name == name } }
        set(value) = store(POWER_MODE, value?.name)

    /** Null also if the app was built without the one that the user chose. */
    var engine: EngineKind?
        get() = stored.getString(ENGINE, null).let { name -> EngineKind.entries.find { it.name == name && it.isInApp } }
        set(value) = store(ENGINE, value?.name)

    fun clear() = stored.edit().clear().apply()

    fun toOptions(): OcrOptions {
        val own = OcrOptions()
        return OcrOptions(
            threads ?: own.threads,
            powerMode ?: own.powerMode,
            // A data class, so that options with the same values are equal.
            Overrides(NumberSetting.entries.filter { it != NumberSetting.THREADS }.associateWith(::get)),
            returnWords = ReturnWords.WORDS,
            engine = engine,
        )
    }

    private fun store(key: String, value: String?) = stored.edit().putString(key, value).apply()

    private companion object {
        const val POWER_MODE = "POWER_MODE"
        const val ENGINE = "ENGINE"
    }
}

private data class Overrides(val values: Map<NumberSetting, Double?>) : SettingsChange {
    override fun apply(settings: Settings): Settings = settings.copy(
        detection = settings.detection.run {
            copy(
                limitSideLen = values[NumberSetting.LIMIT_SIDE_LEN]?.toInt() ?: limitSideLen,
                // Windows would exceed the side length that the user sets; the same rule as in edge_ocr/config.py.
                windows = windows && values[NumberSetting.LIMIT_SIDE_LEN] == null,
                binThreshold = values[NumberSetting.BIN_THRESHOLD]?.toFloat() ?: binThreshold,
                boxThreshold = values[NumberSetting.BOX_THRESHOLD] ?: boxThreshold,
                unclipRatio = values[NumberSetting.UNCLIP_RATIO] ?: unclipRatio,
            )
        },
        recognition = settings.recognition.run { copy(textScore = values[NumberSetting.TEXT_SCORE] ?: textScore) },
    )
}
