package io.github.edgeocr.core

import java.util.concurrent.CancellationException

/** Reads every text line of a picture: detection, crops, orientation, recognition. */
public class TextReader(
    private val detector: TextDetector,
    private val recognizer: TextRecognizer,
    private val classifier: OrientationClassifier?,
    private val settings: Settings,
) {
    /**
     * Detects and reads. Leaves out lines whose score is below `textScore`. Without text, there are no lines.
     *
     * Throws [CancellationException] soon after [cancellation] asks for it, [BundleException] if a network does not
     * match the manifest.
     */
    @JvmOverloads
    public fun read(image: BgrImage, cancellation: Cancellation = Cancellation { false }): Reading {
        val timings = LinkedHashMap<String, Double>()
        val least = recognizer.settings.textScore
        val lines = readAll(image, timings, cancellation).filter { it.text.isNotEmpty() && it.recScore >= least }
        return Reading(lines, timings)
    }

    /** Returns a line for each box, whatever its score, "" if nothing was read; adds times in ms to [timings]. */
    internal fun readAll(
        image: BgrImage,
        timings: MutableMap<String, Double>,
        cancellation: Cancellation,
    ): List<TextLine> {
        val goOn = { if (cancellation.isCancelled()) throw CancellationException("the reading was cancelled") }
        goOn()
        val imageSize = Size(image.height, image.width)
        val border = planBorder(image.height, image.width, settings.border)
        val (framed, boxes) = timings.time("detection") {
            val bordered = addBorder(image, border)
            val found = detector.detect(bordered, goOn)
            val isRightToLeft = recognizer.settings.isRightToLeft
            bordered to if (isRightToLeft) sortReadingOrder(found, settings.geometry, rightToLeft = true) else found
        }
        goOn()
        val crops = timings.time("crop") {
            boxes.map { cropPolygon(framed, it.polygon, settings.geometry) }.toMutableList()
        }
        // Without a classifier, only vertical lines were turned.
        var turned = boxes.indices.filter { isVertical(measureSides(boxes[it].polygon), settings.geometry) }
        var unsure = emptyList<Int>()
        if (classifier != null) {
            timings.time("orientation") {
                val found = classifier.findTurned(crops, recognizer.settings.batchSize, goOn)
                for (i in found.turned) crops[i] = crops[i].turnAround()
                turned = found.turned
                unsure = found.unsure
            }
        }
        val readings = timings.time("recognition") {
            val read = recognizer.recognize(crops, goOn).toMutableList()
            val again = unsure + turned.filter { read[it].score < settings.orientation.unsureScore }
            again.zip(recognizer.recognize(again.map { crops[it].turnAround() }, goOn)) { i, other ->
                if (other.score > read[i].score + settings.orientation.turnedScoreMargin) read[i] = other
            }
            read
        }
        return boxes.zip(readings) { box, reading ->
            val polygon = roundCorners(imageSize) { box.polygon[it].toDouble() - border }
            TextLine(polygon, box.detScore, reading.text, reading.score)
        }
    }
}

private inline fun <T> MutableMap<String, Double>.time(stage: String, work: () -> T): T {
    val start = System.nanoTime()
    return work().also { put(stage, (System.nanoTime() - start) / 1e6) }
}
