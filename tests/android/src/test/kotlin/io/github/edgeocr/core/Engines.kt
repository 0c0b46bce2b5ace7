package io.github.edgeocr.core

import org.json.JSONObject

/** Returns the requested number of rows of a table. */
class TableEngine(private val rows: Tensor) : Engine {
    private var start = 0

    override fun run(input: Tensor): Tensor {
        val (count, width) = input.shape[0] to rows.shape[1]
        start += count
        return Tensor(intArrayOf(count, width), rows.data.copyOfRange((start - count) * width, start * width))
    }
}

/** A reader whose networks replay the recording of a case. [det]: the prob maps. [settings]: those of the case. */
internal fun openReader(
    case: JSONObject,
    classes: List<String> = GoldenFiles.classes,
    settings: Settings = GoldenFiles.readSettings(case),
    det: Engine = ReplayEngine(case, "det", GoldenFiles.readMap("${case.getString("name")}.det")),
    pageClassifier: PageClassifier? = null,
): TextReader {
    val name = case.getString("name")
    return TextReader(
        TextDetector(det, settings),
        TextRecognizer(
            ReplayEngine(case, "rec", GoldenFiles.readTensor("$name.rec")),
            Charset(classes, 0),
            settings.recognition,
        ),
        // The batches differ from the host's, which does not change results.
        OrientationClassifier(TableEngine(GoldenFiles.readTensor("$name.cls")), settings.orientation),
        settings,
        pageClassifier,
    )
}

/** Replays a network's outputs for a case of tests/golden, run by run; fails if the input differs. */
class ReplayEngine(case: JSONObject, model: String, private val recorded: Tensor) : Engine {
    private val runs = case.items("runs").filter { it.getString("model") == model }.iterator()
    private var start = 0

    override fun run(input: Tensor): Tensor {
        val run = runs.next()
        val shape = run.getJSONArray("input").elements().map { it as Int }
        check(shape == input.shape.toList()) { "the input is ${input.shape.toList()}, recorded was $shape" }
        val output = run.getJSONArray("output").elements().map { it as Int }.toIntArray()
        val size = output.fold(1, Int::times)
        start += size
        return Tensor(output, recorded.data.copyOfRange(start - size, start))
    }
}
