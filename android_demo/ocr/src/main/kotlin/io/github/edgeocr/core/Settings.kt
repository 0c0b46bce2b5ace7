package io.github.edgeocr.core

/** What [DetectionSettings.limitSideLen] applies to. */
public enum class LimitType {
    /** The longest side is at most the limit. */
    MAX,

    /** The shortest side is at least the limit. */
    MIN,

    /** The longest side is exactly the limit. */
    LONG,
}

/** (x / 255 − mean) / std for each channel of blue, green, red; [mean] and [std] have three values, of x in 0..1. */
public data class Normalization(val mean: List<Float>, val std: List<Float>) {
    /** What each value of a byte becomes: 256 floats of the first channel, then of the second and the third. */
    internal fun tabulate(): FloatArray = FloatArray(3 * 256) { i ->
        val channel = i / 256
        (i % 256) * (1f / (255f * std[channel])) + -mean[channel] / std[channel]
    }
}

/** Resize, normalisation and post-processing of text detection. */
public data class DetectionSettings(
    /** Side in pixels that [limitType] applies to. */
    val limitSideLen: Int,
    val limitType: LimitType,
    /** Probability in 0..1 above which a pixel of the prob map counts as text. */
    val binThreshold: Float,
    /** Mean probability in 0..1 that a box must reach. */
    val boxThreshold: Double,
    /** Boxes grow by area × ratio / perimeter pixels of the prob map. */
    val unclipRatio: Double,
    /** How many outlines are looked at. */
    val maxCandidates: Int,
    val normalization: Normalization,
    /** Sides of the input are multiples of this many pixels. */
    val sideMultiple: Int,
    /** Longest side in pixels that the network is ever given. */
    val maxSide: Int,
    /** Shorter side in pixels of the prob map below which a box is noise. */
    val minBoxSide: Int,
    /** The same after the box has grown. */
    val minGrownBoxSide: Int,
)

/** Crops and reading order. */
public data class GeometrySettings(
    /** Boxes that differ in y by less than this share of the median height are one row. */
    val rowTolerance: Double,
    /** A crop this many times taller than wide is vertical text. */
    val verticalRatio: Double,
    /** A slanted line is this many times longer than high. */
    val slantedRatio: Double,
    /** Least and greatest slope of a slanted line, up or down. */
    val slant: Slopes,
    /** The same of lines whose pieces are joined. */
    val breakingSlant: Slopes,
    /** Share of a slanted rectangle that text must fill to be scored by that text alone. */
    val leastFill: Double,
    /** How far from the end of a line a piece of it may begin, in heights of the line. */
    val pieceGap: Double,
    /** How high a line and its piece are together at most, in heights of the line. */
    val pieceHeight: Double,
    /** Boxes this many times wider than high tell the tilt of the page. */
    val tiltRatio: Double,
    /** Slope of a page from which its rows are followed. */
    val leastTilt: Double,
    /** Slope of a page up to which its rows are followed. */
    val maxTilt: Double,
    /** How much the slopes of boxes may differ from that of the page. */
    val tiltSpread: Double,
)

/** A range of slopes: pixels down or up for each to the right. */
public data class Slopes(val least: Double, val most: Double)

/** Input shape, batches and score limit of text recognition. */
public data class RecognitionSettings(
    /** Rows of the input. */
    val imageHeight: Int,
    /** Narrowest input in pixels. */
    val minWidth: Int,
    /** Lines that may run together. */
    val batchSize: Int,
    /** Lines with a lower score are left out of the result. */
    val textScore: Double,
    val normalization: Normalization,
    /** What is right of a line that is narrower than the input. */
    val padValue: Float,
    /** Widths of the input are multiples of this many pixels. */
    val widthMultiple: Int,
    /** Widest input in pixels; longer lines are squeezed into it. */
    val maxWidth: Int,
)

/** Input shape and thresholds of the classifier that finds lines upside down. */
public data class OrientationSettings(
    val imageHeight: Int,
    val imageWidth: Int,
    /** A line is turned when the probability that it is upside down exceeds this. */
    val threshold: Float,
    val normalization: Normalization,
    val padValue: Float,
    /** The class that stands for upside down. */
    val turnedClass: Int,
    /** How much better the turned reading of a line must score where it is read both ways. */
    val turnedScoreMargin: Double,
    /** With no classifier, vertical lines that score below this are read both ways. */
    val unsureScore: Double,
)

/** Everything that the stages take from the manifest: the user's settings, and what no setting changes. */
public data class Settings(
    val detection: DetectionSettings,
    val geometry: GeometrySettings,
    val recognition: RecognitionSettings,
    val orientation: OrientationSettings,
) {
    internal companion object {
        /** Reads `settings` and `constants` of a manifest. Throws [BundleException] for what is missing or wrong. */
        fun read(settings: JsonFields, constants: JsonFields) = Settings(
            readDetection(settings.getFields("detection"), constants.getFields("detection")),
            readGeometry(constants.getFields("geometry")),
            readRecognition(settings.getFields("recognition"), constants.getFields("recognition")),
            readOrientation(settings.getFields("orientation"), constants.getFields("orientation")),
        )

        fun readDetection(settings: JsonFields, constants: JsonFields) = DetectionSettings(
            limitSideLen = settings.getInt("limit_side_len"),
            limitType = settings.get("limit_type", "max, min or long") { name ->
                LimitType.entries.find { it.name.lowercase() == name }
            },
            binThreshold = settings.getDouble("bin_threshold").toFloat(),
            boxThreshold = settings.getDouble("box_threshold"),
            unclipRatio = settings.getDouble("unclip_ratio"),
            maxCandidates = settings.getInt("max_candidates"),
            normalization = readNormalization(settings),
            sideMultiple = constants.getInt("side_multiple"),
            maxSide = constants.getInt("max_side"),
            minBoxSide = constants.getInt("min_box_side"),
            minGrownBoxSide = constants.getInt("min_grown_box_side"),
        )

        private fun readGeometry(constants: JsonFields) = GeometrySettings(
            rowTolerance = constants.getDouble("row_tolerance"),
            verticalRatio = constants.getDouble("vertical_ratio"),
            slantedRatio = constants.getDouble("slanted_ratio"),
            slant = readSlopes(constants.getFields("slant")),
            breakingSlant = readSlopes(constants.getFields("breaking_slant")),
            leastFill = constants.getDouble("least_fill"),
            pieceGap = constants.getDouble("piece_gap"),
            pieceHeight = constants.getDouble("piece_height"),
            tiltRatio = constants.getDouble("tilt_ratio"),
            leastTilt = constants.getDouble("least_tilt"),
            maxTilt = constants.getDouble("max_tilt"),
            tiltSpread = constants.getDouble("tilt_spread"),
        )

        private fun readSlopes(constants: JsonFields) = Slopes(constants.getDouble("least"), constants.getDouble("most"))

        fun readRecognition(settings: JsonFields, constants: JsonFields) = RecognitionSettings(
            imageHeight = settings.getInt("image_height"),
            minWidth = settings.getInt("min_width"),
            batchSize = settings.getInt("batch_size"),
            textScore = settings.getDouble("text_score"),
            normalization = readNormalization(constants),
            padValue = constants.getDouble("pad_value").toFloat(),
            widthMultiple = constants.getInt("width_multiple"),
            maxWidth = constants.getInt("max_width"),
        )

        fun readOrientation(settings: JsonFields, constants: JsonFields) = OrientationSettings(
            imageHeight = settings.getInt("image_height"),
            imageWidth = settings.getInt("image_width"),
            threshold = settings.getDouble("threshold").toFloat(),
            normalization = readNormalization(constants),
            padValue = constants.getDouble("pad_value").toFloat(),
            turnedClass = constants.getInt("turned_class"),
            turnedScoreMargin = constants.getDouble("turned_score_margin"),
            unsureScore = constants.getDouble("unsure_score"),
        )

        private fun readNormalization(fields: JsonFields) =
            Normalization(fields.getFloats("mean", 3), fields.getFloats("std", 3))
    }
}
