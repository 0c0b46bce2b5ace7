package io.github.edgeocr.core

import java.util.concurrent.CancellationException

/** Reads every text line of a picture: page orientation, detection, crops, orientation, recognition. */
public class TextReader @JvmOverloads constructor(
    private val detector: TextDetector,
    private val recognizer: TextRecognizer,
    private val classifier: OrientationClassifier?,
    private val settings: Settings,
    private val pageClassifier: PageClassifier? = null,
) {
    /**
     * Detects and reads lines; leaves out those that score below `textScore`. A picture without text gives none.
     * [returnWords] says whether lines have words and characters; the default is the bundle's setting.
     *
     * Throws [CancellationException] soon after [cancellation] asks for it, [BundleException] if a network does not
     * match the manifest.
     */
    @JvmOverloads
    public fun read(
        image: BgrImage,
        cancellation: Cancellation = Cancellation { false },
        returnWords: ReturnWords = recognizer.settings.returnWords,
    ): Reading {
        val timings = LinkedHashMap<String, Double>()
        val least = recognizer.settings.textScore
        val (turns, all) = readPage(image, timings, cancellation, returnWords)
        val lines = all.filter { it.text.isNotEmpty() && it.recScore >= least }
        return Reading(lines, timings, if (pageClassifier == null) null else QUARTER * turns)
    }

    /** Returns a line for each box, whatever its score, "" if nothing was read; adds times in ms to [timings]. */
    internal fun readAll(
        image: BgrImage,
        timings: MutableMap<String, Double>,
        cancellation: Cancellation,
    ): List<TextLine> = readPage(image, timings, cancellation, ReturnWords.NONE).second

    private fun readPage(
        image: BgrImage,
        timings: MutableMap<String, Double>,
        cancellation: Cancellation,
        returnWords: ReturnWords,
    ): Pair<Int, List<TextLine>> {
        val goOn = { if (cancellation.isCancelled()) throw CancellationException("the reading was cancelled") }
        goOn()
        val page = findPage(image, timings, goOn)
        goOn()
        return page.turns to readLines(page, Size(image.height, image.width), timings, goOn, returnWords)
    }

    /** A picture with its page upright and a border ([framed]), the quarter turns that took, and its boxes. */
    private class Page(val framed: BgrImage, val turns: Int, val boxes: List<TextBox>)

    private fun findPage(image: BgrImage, timings: MutableMap<String, Double>, goOn: () -> Unit): Page {
        val guess = pageClassifier?.let { timings.time("page_orientation") { it.findTurns(image) } }
        goOn()
        val page = detect(image, guess?.turns ?: 0, timings, goOn)
        if (guess == null || (guess.turns == 0 && guess.isCertain)) return page
        goOn()
        val more = timings.time("page_orientation") { probeTurns(page, goOn) }
        // Without a legible line, the picture stays as it is.
        val found = if (more == null) 0 else (page.turns + more) % 4
        return if (found == page.turns) page else detect(image, found, timings, goOn)
    }

    private fun detect(image: BgrImage, turns: Int, timings: MutableMap<String, Double>, goOn: () -> Unit) =
        timings.time("detection") {
            val upright = turnUpright(image, turns)
            val framed = addBorder(upright, planBorder(upright.height, upright.width, settings.border))
            val found = detector.detect(framed, goOn)
            val isRightToLeft = recognizer.settings.isRightToLeft
            val boxes = if (isRightToLeft) sortReadingOrder(found, settings.geometry, rightToLeft = true) else found
            Page(framed, turns, boxes)
        }

    /** By how many more quarters clockwise the page is turned, according to its longest lines; null if unknown. */
    private fun probeTurns(page: Page, goOn: () -> Unit): Int? {
        val polygons = page.boxes.map { it.polygon }.sortedByDescending { measureLine(it).length }
            .take(settings.pageOrientation.probeLines)
        val crops = polygons.map { cropPolygon(page.framed, it, settings.geometry) }
        val readings = recognizer.recognize(crops + crops.map { it.turnAround() }, beforeBatch = goOn)
        val lines = polygons.indices.map { BothWays(polygons[it], readings[it].score, readings[it + crops.size].score) }
        return chooseTurns(lines, recognizer.settings.textScore, settings)
    }

    private fun readLines(
        page: Page,
        imageSize: Size,
        timings: MutableMap<String, Double>,
        goOn: () -> Unit,
        returnWords: ReturnWords,
    ): List<TextLine> {
        val locate = returnWords != ReturnWords.NONE
        val framed = page.framed
        val boxes = page.boxes
        val crops = timings.time("crop") {
            boxes.map { cropPolygon(framed, it.polygon, settings.geometry) }.toMutableList()
        }
        val isTurned = BooleanArray(boxes.size)
        // Without a classifier, only vertical lines were turned.
        var turned = boxes.indices.filter { isVertical(measureSides(boxes[it].polygon), settings.geometry) }
        var unsure = emptyList<Int>()
        if (classifier != null) {
            timings.time("orientation") {
                val found = classifier.findTurned(crops, recognizer.settings.batchSize, goOn)
                for (i in found.turned) {
                    crops[i] = crops[i].turnAround()
                    isTurned[i] = true
                }
                turned = found.turned
                unsure = found.unsure
            }
        }
        val readings = timings.time("recognition") {
            val read = recognizer.recognize(crops, locate, goOn).toMutableList()
            val again = unsure + turned.filter { read[it].score < settings.orientation.unsureScore }
            again.zip(recognizer.recognize(again.map { crops[it].turnAround() }, locate, goOn)) { i, other ->
                if (other.score > read[i].score + settings.orientation.turnedScoreMargin) {
                    read[i] = other
                    isTurned[i] = !isTurned[i]
                }
            }
            read
        }
        val border = planBorder(imageSize.height, imageSize.width, settings.border)
        val uprightSize = if (page.turns % 2 == 0) imageSize else Size(imageSize.width, imageSize.height)
        val move = { polygon: FloatArray ->
            val moved = FloatArray(8) {
                val side = if (it % 2 == 0) uprightSize.width else uprightSize.height
                (polygon[it] - border).coerceIn(0f, side.toFloat())
            }
            turnBack(moved, page.turns, imageSize)
        }
        return boxes.indices.map { i ->
            val (box, reading) = boxes[i] to readings[i]
            val words = if (locate) {
                val isVertical = isVertical(measureSides(box.polygon), settings.geometry)
                val crop = PlacedCrop(box.polygon, isVertical, isTurned[i])
                placeWords(reading, recognizer.settings, crop, move, returnWords == ReturnWords.CHARS)
            } else {
                null
            }
            val polygon = roundCorners(uprightSize) { box.polygon[it].toDouble() - border }
            TextLine(turnBack(polygon, page.turns, imageSize), box.detScore, reading.text, reading.score, words)
        }
    }

    private companion object {
        const val QUARTER = 90
    }
}

private inline fun <T> MutableMap<String, Double>.time(stage: String, work: () -> T): T {
    val start = System.nanoTime()
    return work().also { put(stage, (get(stage) ?: 0.0) + (System.nanoTime() - start) / 1e6) }
}
