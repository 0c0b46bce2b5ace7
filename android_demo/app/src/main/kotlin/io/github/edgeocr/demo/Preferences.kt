package io.github.edgeocr.demo

import android.content.Context
import io.github.edgeocr.OcrOptions
import io.github.edgeocr.PowerMode
import io.github.edgeocr.SettingsChange
import io.github.edgeocr.core.Settings

/** A number that the user may set, in [range]; of those of the bundle, the ranges are edge_ocr/config.py's. */
internal enum class NumberSetting(
    val viewId: Int,
    val title: Int,
    val range: ClosedRange<Double>,
    val isWhole: Boolean = false,
    /** The bundle's own value, as text; null where it has none. */
    val readOwn: (Settings) -> Any?,
) {
    THREADS(R.id.threads, R.string.threads, 1.0..Runtime.getRuntime().availableProcessors().toDouble(), true, { null }),
    LIMIT_SIDE_LEN(R.id.limit_side_len, R.string.limit_side_len, 32.0..4000.0, true, { it.detection.limitSideLen }),
    BIN_THRESHOLD(R.id.bin_threshold, R.string.bin_threshold, 0.0..1.0, readOwn = { it.detection.binThreshold }),
    BOX_THRESHOLD(R.id.box_threshold, R.string.box_threshold, 0.0..1.0, readOwn = { it.detection.boxThreshold }),
    UNCLIP_RATIO(R.id.unclip_ratio, R.string.unclip_ratio, 0.1..10.0, readOwn = { it.detection.unclipRatio }),
    TEXT_SCORE(R.id.text_score, R.string.text_score, 0.0..1.0, readOwn = { it.recognition.textScore }),
    ;

    /** The number that a text says; null where it says none, or none that may be set. */
    fun parse(text: String): Double? =
        text.toDoubleOrNull()?.takeIf { it in range && !(isWhole && it != Math.rint(it)) }

    /** The other way round. */
    fun format(value: Double): String = if (isWhole) value.toInt().toString() else value.toString()
}

/** What the user has set, kept by the system; what is null is as the bundle or the library has it. */
internal class Preferences(context: Context) {
    private val stored = context.getSharedPreferences("settings", Context.MODE_PRIVATE)

    operator fun get(setting: NumberSetting): Double? = stored.getString(setting.name, null)?.let(setting::parse)

    /** Keeps a number that is in the setting's range. */
    operator fun set(setting: NumberSetting, value: Double?) = store(setting.name, value?.let(setting::format))

    var threads: Int?
        get() = this[NumberSetting.THREADS]?.toInt()
        set(value) = set(NumberSetting.THREADS, value?.toDouble())

    var powerMode: PowerMode?
        get() = stored.getString(POWER_MODE, null).let { name -> PowerMode.entries.find { it.name == name } }
        set(value) = store(POWER_MODE, value?.name)

    fun clear() = stored.edit().clear().apply()

    fun toOptions(): OcrOptions {
        val own = OcrOptions()
        return OcrOptions(
            threads ?: own.threads,
            powerMode ?: own.powerMode,
            // A data class, so that options that say the same are equal.
            Overrides(NumberSetting.entries.filter { it != NumberSetting.THREADS }.associateWith(::get)),
        )
    }

    private fun store(key: String, value: String?) = stored.edit().putString(key, value).apply()

    private companion object {
        const val POWER_MODE = "POWER_MODE"
    }
}

private data class Overrides(val values: Map<NumberSetting, Double?>) : SettingsChange {
    override fun apply(settings: Settings): Settings = settings.copy(
        detection = settings.detection.run {
            copy(
                limitSideLen = values[NumberSetting.LIMIT_SIDE_LEN]?.toInt() ?: limitSideLen,
                // Windows go beyond the side that the user asks for; the same rule as in edge_ocr/config.py.
                windows = windows && values[NumberSetting.LIMIT_SIDE_LEN] == null,
                binThreshold = values[NumberSetting.BIN_THRESHOLD]?.toFloat() ?: binThreshold,
                boxThreshold = values[NumberSetting.BOX_THRESHOLD] ?: boxThreshold,
                unclipRatio = values[NumberSetting.UNCLIP_RATIO] ?: unclipRatio,
            )
        },
        recognition = settings.recognition.run { copy(textScore = values[NumberSetting.TEXT_SCORE] ?: textScore) },
    )
}
