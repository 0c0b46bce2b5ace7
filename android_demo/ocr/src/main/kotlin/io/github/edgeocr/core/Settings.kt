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
    /** Whether pictures whose text is too small at that side length are looked at again in windows, larger. */
    val windows: Boolean,
)

/** What small pictures and strips of text get around them. */
public data class BorderSettings(
    /** Shorter side in pixels up to which a picture is small. */
    val smallSide: Int,
    /** Shorter side in pixels up to which a picture can be a strip. */
    val stripSide: Int,
    /** A strip is at least this many times longer than high. */
    val stripRatio: Int,
    /** How wide the border is. */
    val pixels: Int,
)

/** Large pictures in windows: when they are looked at again, and how boxes are merged. */
public data class WindowSettings(
    /** Longest side of a window in pixels that the network sees. */
    val side: Int,
    /** What neighbours share, in the same pixels. */
    val overlap: Int,
    /** A window whose values, in 0..255, all differ by less is blank. */
    val blankRange: Int,
    /** Lower quartile of the box heights, in pixels that the network sees, below which text is too small. */
    val smallBox: Double,
    /** The height that such boxes are then given. */
    val legibleBox: Double,
    /** From this scale on, small text gives boxes. */
    val visibleScale: Double,
    /** Below this scale a picture is always looked at again. */
    val blindScale: Double,
    /** Up to this scale a picture with fine print that no box covers is looked at again. */
    val printScale: Double,
    /** Above this scale it never is. */
    val enoughScale: Double,
    /** A scale from here on is rounded up to 1. */
    val wholeScale: Double,
    /** By which share of their height boxes of windows grow on each side. */
    val margin: Double,
    /** Share of a coarser box that finer ones cover where it is known already. */
    val coveredShare: Double,
    /** How high a coarser box is, in pixels that the network saw, where it takes the place of its pieces. */
    val clearBox: Double,
    /** A single finer box counts as a piece only if it is shorter than this share of the coarser one. */
    val sameLine: Double,
    /** By how much, in 0..255, a pixel of a thin stroke differs from those two to its left and right. */
    val strokeContrast: Int,
    /** Share of the pixels of a tile of fine print that are of strokes. */
    val strokeShare: Double,
    /** Side of a tile in pixels. */
    val tileSide: Int,
    /** Share of the tiles of a picture with a few lines of fine print. */
    val tileShare: Double,
    /** Boxes higher than this, in pixels of the picture, cover no fine print. */
    val fineBox: Double,
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
    /** Widest input in pixels; longer lines are cut into parts. */
    val maxWidth: Int,
    /** How wide parts are, at most, where the gaps between characters are in the right places. */
    val partWidth: Int,
    /** How far a cut may move from there to either side, in pixels. */
    val cutReach: Int,
    /** How much more, in 0..255, the pixels of a column may differ than those of the emptiest to be a gap. */
    val cutRange: Int,
    /** Width, as a share of the height, from which a gap is a space between Latin letters. */
    val spaceRatio: Double,
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
    /** Turned lines (without a classifier: vertical ones) that score below this are read both ways. */
    val unsureScore: Double,
)

/** Everything that the stages take from the manifest: the user's settings, and what no setting changes. */
public data class Settings(
    val detection: DetectionSettings,
    val border: BorderSettings,
    val windows: WindowSettings,
    val geometry: GeometrySettings,
    val recognition: RecognitionSettings,
    val orientation: OrientationSettings,
) {
    internal companion object {
        /** Reads `settings` and `constants` of a manifest. Throws [BundleException] for what is missing or wrong. */
        fun read(settings: JsonFields, constants: JsonFields) = Settings(
            readDetection(settings.getFields("detection"), constants.getFields("detection")),
            readBorder(constants.getFields("border")),
            readWindows(constants.getFields("windows")),
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
            windows = settings.getBoolean("windows"),
        )

        private fun readBorder(constants: JsonFields) = BorderSettings(
            smallSide = constants.getInt("small_side"),
            stripSide = constants.getInt("strip_side"),
            stripRatio = constants.getInt("strip_ratio"),
            pixels = constants.getInt("pixels"),
        )

        private fun readWindows(constants: JsonFields) = WindowSettings(
            side = constants.getInt("side"),
            overlap = constants.getInt("overlap"),
            blankRange = constants.getInt("blank_range"),
            smallBox = constants.getDouble("small_box"),
            legibleBox = constants.getDouble("legible_box"),
            visibleScale = constants.getDouble("visible_scale"),
            blindScale = constants.getDouble("blind_scale"),
            printScale = constants.getDouble("print_scale"),
            enoughScale = constants.getDouble("enough_scale"),
            wholeScale = constants.getDouble("whole_scale"),
            margin = constants.getDouble("margin"),
            coveredShare = constants.getDouble("covered_share"),
            clearBox = constants.getDouble("clear_box"),
            sameLine = constants.getDouble("same_line"),
            strokeContrast = constants.getInt("stroke_contrast"),
            strokeShare = constants.getDouble("stroke_share"),
            tileSide = constants.getInt("tile_side"),
            tileShare = constants.getDouble("tile_share"),
            fineBox = constants.getDouble("fine_box"),
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
            partWidth = constants.getInt("part_width"),
            cutReach = constants.getInt("cut_reach"),
            cutRange = constants.getInt("cut_range"),
            spaceRatio = constants.getDouble("space_ratio"),
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
