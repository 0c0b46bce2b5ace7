package io.github.edgeocr.core

/** The side that [DetectionSettings.limitSideLen] applies to. */
public enum class LimitType {
    /** The longest side is at most the limit. */
    MAX,

    /** The shortest side is at least the limit. */
    MIN,

    /** The longest side is exactly the limit. */
    LONG,
}

/**
 * (x / 255 − mean) / std for blue, green and red.
 *
 * @property mean Three values.
 * @property std Three values.
 */
public data class Normalization(val mean: List<Float>, val std: List<Float>) {
    /** The normalised value of each byte: 256 floats for the first channel, then for the second and the third. */
    internal fun tabulate(): FloatArray = FloatArray(3 * 256) { i ->
        val channel = i / 256
        (i % 256) * (1f / (255f * std[channel])) + -mean[channel] / std[channel]
    }
}

/** Resize, normalisation and post-processing of text detection. */
public data class DetectionSettings(
    /** Side length in pixels that [limitType] applies to. */
    val limitSideLen: Int,
    /** The side that [limitSideLen] applies to. */
    val limitType: LimitType,
    /** Probability in 0..1 above which a pixel of the prob map counts as text. */
    val binThreshold: Float,
    /** Mean probability in 0..1 that a box must reach. */
    val boxThreshold: Double,
    /** Boxes grow by area × ratio / perimeter pixels of the prob map. */
    val unclipRatio: Double,
    /** How many outlines are examined. */
    val maxCandidates: Int,
    /** For blue, green and red. */
    val normalization: Normalization,
    /** Sides of the input are multiples of this many pixels. */
    val sideMultiple: Int,
    /** Longest side of the network's input in pixels. */
    val maxSide: Int,
    /** Shorter side in pixels of the prob map below which a box is noise. */
    val minBoxSide: Int,
    /** The same after the box has grown. */
    val minGrownBoxSide: Int,
    /** Whether pictures whose text is too small at that side length get another look in windows at a larger scale. */
    val windows: Boolean,
)

/** The border around small pictures and strips of text. */
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

/** Large pictures in windows: when they get another look, and how boxes are merged. */
public data class WindowSettings(
    /** Longest side of a window in pixels of the network's input. */
    val side: Int,
    /** The overlap of neighbours, in the same pixels. */
    val overlap: Int,
    /** A first input with more pixels is computed in large windows, whatever the settings say. */
    val wholePixels: Int,
    /** Longest side of a large window in pixels of the network's input. */
    val largeSide: Int,
    /** The overlap of large windows, in the same pixels. */
    val largeOverlap: Int,
    /** A window whose values, in 0..255, all differ by less is blank. */
    val blankRange: Int,
    /** Text is too small if the lower quartile of the box heights, in pixels of the network's input, is below this. */
    val smallBox: Double,
    /** The height that such boxes get in the next look. */
    val legibleBox: Double,
    /** From this scale on, small text gives boxes. */
    val visibleScale: Double,
    /** Below this scale, a picture always gets another look. */
    val blindScale: Double,
    /** Up to this scale, a picture with fine print that no box covers gets another look. */
    val printScale: Double,
    /** Above this scale, it never does. */
    val enoughScale: Double,
    /** A scale from here on is rounded up to 1. */
    val wholeScale: Double,
    /** Boxes from windows grow on each side by this share of their height. */
    val margin: Double,
    /** A coarser box is already known if finer boxes cover this share of it. */
    val coveredShare: Double,
    /** Height from which a coarser box replaces its pieces, in pixels of the network's input. */
    val clearBox: Double,
    /** A single finer box counts as a piece only if it is shorter than this share of the coarser one. */
    val sameLine: Double,
    /** A pixel of a thin stroke differs by this much (0..255) from the pixels two to the left and right. */
    val strokeContrast: Int,
    /** Share of stroke pixels in a tile with fine print. */
    val strokeShare: Double,
    /** Side of a tile in pixels. */
    val tileSide: Int,
    /** Share of tiles with fine print in a picture that has a few such lines. */
    val tileShare: Double,
    /** Boxes higher than this, in pixels of the picture, do not cover fine print. */
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
    /** Range of the absolute slope of a slanted line. */
    val slant: Slopes,
    /** The same for lines whose pieces are joined. */
    val breakingSlant: Slopes,
    /** A slanted rectangle is scored by its text alone if text fills this share of it. */
    val leastFill: Double,
    /** Largest gap between a line and its piece, in heights of the line. */
    val pieceGap: Double,
    /** Largest height of a line and its piece together, in heights of the line. */
    val pieceHeight: Double,
    /** Boxes this many times wider than high are used to measure the tilt of the page. */
    val tiltRatio: Double,
    /** Slope of a page from which rows follow the tilt. */
    val leastTilt: Double,
    /** Slope of a page up to which rows follow the tilt. */
    val maxTilt: Double,
    /** Largest difference between the slopes of a box and the page. */
    val tiltSpread: Double,
)

/**
 * A range of absolute slopes (dy / dx).
 *
 * @property least Its lower end.
 * @property most Its upper end.
 */
public data class Slopes(val least: Double, val most: Double)

/** Input shape, batches and score limit of text recognition. */
public data class RecognitionSettings(
    /** Rows of the input. */
    val imageHeight: Int,
    /** Narrowest input in pixels. */
    val minWidth: Int,
    /** Largest number of lines in a batch. */
    val batchSize: Int,
    /** Lines with a lower score are left out of the result. */
    val textScore: Double,
    /** Whether the text runs from right to left; networks always return the order of the picture, left to right. */
    val isRightToLeft: Boolean,
    /** How many times more probable a space counts against the blank. */
    val spaceWeight: Float,
    /** For blue, green and red. */
    val normalization: Normalization,
    /** The value to the right of a line that is narrower than the input. */
    val padValue: Float,
    /** Widths of the input are multiples of this many pixels. */
    val widthMultiple: Int,
    /** Widest input in pixels; longer lines are cut into parts. */
    val maxWidth: Int,
    /** Target width of a part in pixels. */
    val partWidth: Int,
    /** How far a cut may move to either side, in pixels. */
    val cutReach: Int,
    /** A column is a gap if its range of values (0..255) exceeds that of the emptiest column by at most this. */
    val cutRange: Int,
    /** Width from which a gap between Latin letters is a space, as a share of the height. */
    val spaceRatio: Double,
    /** What each line has besides its text. */
    val returnWords: ReturnWords,
    /** Whether a word is a run of Chinese or Japanese characters; otherwise each of them is one. */
    val joinsCjk: Boolean,
    /** Where words and characters are looked for. */
    val words: WordSettings,
)

/** Where the characters of a line are. */
public data class WordSettings(
    /** A column has ink if its range of values exceeds the emptiest one's by this share of the largest difference. */
    val inkShare: Double,
    /** Ranges that differ by less (of 255) do not tell ink from background. */
    val leastInk: Int,
    /** What a cut at a character costs more than one half way to its neighbour, as a share of the largest range. */
    val cutPull: Double,
    /** How far the ink of a character is from the middle of its time steps, in heights of the line. */
    val reach: Double,
)

/** Input shape and thresholds of the classifier that finds upside-down lines. */
public data class OrientationSettings(
    /** Rows of the input. */
    val imageHeight: Int,
    /** Columns of the input. */
    val imageWidth: Int,
    /** A line is turned if the probability that it is upside down exceeds this. */
    val threshold: Float,
    /** For blue, green and red. */
    val normalization: Normalization,
    /** The value to the right of a line that is narrower than the input. */
    val padValue: Float,
    /** The class for upside down. */
    val turnedClass: Int,
    /** By how much the turned reading must score better if a line is read both ways. */
    val turnedScoreMargin: Double,
    /** Turned lines (without a classifier: vertical ones) that score below this are read both ways. */
    val unsureScore: Double,
)

/** Input shape and thresholds of the classifier that finds turned pages. */
public data class PageOrientationSettings(
    /** Length in pixels to which the shorter side of a picture is scaled. */
    val resizeShort: Int,
    /** Rows of the input. */
    val imageHeight: Int,
    /** Columns of the input. */
    val imageWidth: Int,
    /** For red, green and blue. */
    val normalization: Normalization,
    /** A class with a lower probability is uncertain. */
    val threshold: Float,
    /** The classifier sees the middle of a picture, at most this many times longer than wide. */
    val maxViewRatio: Int,
    /** If a page is turned, or that is uncertain, this many lines, the longest, are read both ways. */
    val probeLines: Int,
)

/** Everything that the stages need from the manifest: the user's settings and the constants. */
public data class Settings(
    /** Text detection. */
    val detection: DetectionSettings,
    /** The border around small pictures. */
    val border: BorderSettings,
    /** Large pictures in windows. */
    val windows: WindowSettings,
    /** Crops and reading order. */
    val geometry: GeometrySettings,
    /** Text recognition. */
    val recognition: RecognitionSettings,
    /** Lines that are upside down. */
    val orientation: OrientationSettings,
    /** Pages that are turned. */
    val pageOrientation: PageOrientationSettings,
) {
    internal companion object {
        /** Reads `settings` and `constants` of a manifest. Throws [BundleException] if a value is missing or wrong. */
        fun read(settings: JsonFields, constants: JsonFields) = Settings(
            readDetection(settings.getFields("detection"), constants.getFields("detection")),
            readBorder(constants.getFields("border")),
            readWindows(constants.getFields("windows")),
            readGeometry(constants.getFields("geometry")),
            readRecognition(
                settings.getFields("recognition"),
                constants.getFields("recognition"),
                constants.getFields("words"),
            ),
            readOrientation(settings.getFields("orientation"), constants.getFields("orientation")),
            readPageOrientation(settings.getFields("page_orientation"), constants.getFields("page_orientation")),
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
            wholePixels = constants.getInt("whole_pixels"),
            largeSide = constants.getInt("large_side"),
            largeOverlap = constants.getInt("large_overlap"),
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

        private fun readSlopes(constants: JsonFields) =
            Slopes(constants.getDouble("least"), constants.getDouble("most"))

        fun readRecognition(settings: JsonFields, constants: JsonFields, words: JsonFields) = RecognitionSettings(
            imageHeight = settings.getInt("image_height"),
            minWidth = settings.getInt("min_width"),
            batchSize = settings.getInt("batch_size"),
            textScore = settings.getDouble("text_score"),
            spaceWeight = settings.getDouble("space_weight").toFloat(),
            isRightToLeft = settings.get("direction", "ltr or rtl") { mapOf("ltr" to false, "rtl" to true)[it] },
            normalization = readNormalization(constants),
            padValue = constants.getDouble("pad_value").toFloat(),
            widthMultiple = constants.getInt("width_multiple"),
            maxWidth = constants.getInt("max_width"),
            partWidth = constants.getInt("part_width"),
            cutReach = constants.getInt("cut_reach"),
            cutRange = constants.getInt("cut_range"),
            spaceRatio = constants.getDouble("space_ratio"),
            returnWords = settings.get("return_words", "none, words or chars") { name ->
                ReturnWords.entries.find { it.name.lowercase() == name }
            },
            joinsCjk = settings.get("cjk_words", "character or run") { mapOf("character" to false, "run" to true)[it] },
            words = WordSettings(
                inkShare = words.getDouble("ink_share"),
                leastInk = words.getInt("least_ink"),
                cutPull = words.getDouble("cut_pull"),
                reach = words.getDouble("reach"),
            ),
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

        fun readPageOrientation(settings: JsonFields, constants: JsonFields) = PageOrientationSettings(
            resizeShort = settings.getInt("resize_short"),
            imageHeight = settings.getInt("image_height"),
            imageWidth = settings.getInt("image_width"),
            normalization = readNormalization(settings),
            threshold = settings.getDouble("threshold").toFloat(),
            maxViewRatio = constants.getInt("max_view_ratio"),
            probeLines = constants.getInt("probe_lines"),
        )

        private fun readNormalization(fields: JsonFields) =
            Normalization(fields.getFloats("mean", 3), fields.getFloats("std", 3))
    }
}
