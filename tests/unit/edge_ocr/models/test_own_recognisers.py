"""A user's own recognisers: unusual dictionaries, other input heights, without inference.yml."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import helper, numpy_helper

from converters.export import export_bundle
from converters.plan import ExportOptions
from converters.sources.onnx import import_onnx
from converters.verify.verify import verify_bundle
from edge_ocr import create_pipeline
from edge_ocr.config import load_config
from edge_ocr.core.lite_ocr import LiteOCR
from edge_ocr.errors import ModelError
from edge_ocr.models.input_size import read_input_size
from edge_ocr.models.resolve import apply_model, resolve_model

# An empty class, a repeated character, and empty lines at the end that are not classes: 96 classes with the space.
CHARACTERS = "".join(map(chr, range(33, 125)))
DICTIONARY = "".join(f"{text}\n" for text in ("é", *CHARACTERS, "", "A", "", ""))
CLASSES = 97
TWICE = CLASSES - 2
SHAPE = "Recognition.image_shape"


def configure(folder: Path, **overrides: object):
    values = {name.replace("__", "."): value for name, value in overrides.items()}
    return load_config("OCR", {"Pipeline.text_rec_model": str(folder), **values})


def read_sign(pipeline, examples: Path) -> list[str]:
    (result,) = pipeline.predict(examples / "sign.png")
    return result["rec_text"]


def to_pdmodel(folder: Path) -> Path:
    """Turn a folder with ONNX into one with a Paddle program."""
    import_onnx(folder / "inference.onnx").write(folder / "inference.pdmodel", folder / "inference.pdiparams")
    (folder / "inference.onnx").unlink()
    return folder


@pytest.fixture(scope="module")
def pir_folder(tmp_path_factory) -> Path:
    """A recogniser of 32 rows as Paddle 3 exports it."""
    folder = tmp_path_factory.mktemp("pir_rec")
    script = folder / "export.py"
    script.write_text(
        "import sys, paddle\n"
        "class Recognizer(paddle.nn.Layer):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.fc = paddle.nn.Linear(32, 4)\n"
        "    def forward(self, x):\n"
        "        return paddle.nn.functional.softmax(self.fc(paddle.transpose(x.mean(axis=1), [0, 2, 1])))\n"
        "spec = paddle.static.InputSpec([None, 3, 32, None], 'float32', name='x')\n"
        "paddle.jit.save(Recognizer(), sys.argv[1], input_spec=[spec])\n"
    )
    # In a separate process: exporting leaves Paddle in another mode.
    command = [sys.executable, "-W", "ignore", str(script), str(folder / "inference")]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "dict.txt").write_text("a\nb\n")
    return folder


# --- the size of an input


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(32, "W", (32, None)), ("H", "W", (None, None)), (48, 320, (48, 320))],
)
def test_size_of_an_input_is_read_from_the_file(write_recognizer, tmp_path, height, width, expected):
    folder = write_recognizer(tmp_path / "rec", classes=4, height=height, width=width, dictionary="a\nb\n")
    assert resolve_model(folder, "rec").input_size == expected
    assert resolve_model(to_pdmodel(folder), "rec").input_size == expected


def test_size_of_a_pir_input_is_read_from_the_file(pir_folder):
    assert resolve_model(pir_folder, "rec").input_size == (32, None)


def test_size_of_an_input_where_weights_are_inputs_too(write_recognizer, tmp_path):
    path = write_recognizer(tmp_path / "rec", classes=4) / "inference.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        shape = numpy_helper.to_array(tensor).shape
        model.graph.input.insert(0, helper.make_tensor_value_info(tensor.name, tensor.data_type, shape))
    onnx.save(model, path)
    assert read_input_size(path, "onnx") == (32, None)


@pytest.mark.parametrize("model_format", ["onnx", "pdmodel", "json"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"{}", b'{"program": {"regions": [{"blocks": []}]}}'])
def test_size_of_an_unreadable_file_is_unknown(tmp_path, model_format, content):
    path = tmp_path / "inference"
    path.write_bytes(content)
    assert read_input_size(path, model_format) == (None, None)


def test_size_of_the_default_recogniser_is_read_from_its_file(default_models):
    model = default_models["PP-OCRv4_mobile_rec"]
    assert model.input_size == read_input_size(model.program, "pdmodel") == (48, None)
    assert default_models["PP-OCRv4_mobile_det"].input_size == (None, None)


# --- another height


@pytest.mark.parametrize("height", [32, 64])
def test_height_of_the_model_replaces_the_default(write_recognizer, tmp_path, height):
    folder = write_recognizer(tmp_path / "my_rec", classes=4, height=height, dictionary="a\nb\n")
    config = apply_model(configure(folder), resolve_model(folder, "rec"))
    assert config.values[SHAPE] == (3, height, 320)
    assert config.origins[SHAPE] == "input of my_rec"


def test_free_height_leaves_the_default(write_recognizer, tmp_path):
    folder = write_recognizer(tmp_path / "my_rec", classes=4, height="H", dictionary="a\nb\n")
    config = apply_model(configure(folder), resolve_model(folder, "rec"))
    assert (config.values[SHAPE], config.origins[SHAPE]) == ((3, 48, 320), "default")


def test_pipeline_takes_the_height_of_an_onnx_model(write_recognizer, default_models, examples, tmp_path):
    folder = write_recognizer(tmp_path / "my_rec", classes=4, dictionary="a\nb\n")
    pipeline = create_pipeline(overrides={"Pipeline.text_rec_model": str(folder)})
    assert pipeline.config.recognition.image_height == 32
    texts = read_sign(pipeline, examples)
    assert len(texts) == 4
    assert set("".join(texts)) == {"a"}


@pytest.mark.parametrize("engine", ["openvino", "paddle"])
def test_pipeline_takes_the_height_of_a_pdmodel(write_recognizer, default_models, examples, tmp_path, engine):
    folder = to_pdmodel(write_recognizer(tmp_path / "my_rec", classes=4, dictionary="a\nb\n"))
    pipeline = create_pipeline(overrides={"Pipeline.text_rec_model": str(folder)}, engine=engine)
    assert pipeline.config.recognition.image_height == 32
    assert set("".join(read_sign(pipeline, examples))) == {"a"}


def test_pipeline_takes_the_height_of_a_pir_program(pir_folder, default_models, examples):
    pipeline = create_pipeline(
        overrides={"Pipeline.text_rec_model": str(pir_folder), "Recognition.text_score": 0}, use_hpip=False
    )
    assert pipeline.config.recognition.image_height == 32
    assert list(pipeline.predict(examples / "sign.png"))


def test_a_height_that_is_not_the_models_is_refused_with_both(write_recognizer, default_models, tmp_path):
    folder = write_recognizer(tmp_path / "my_rec", classes=4, dictionary="a\nb\n")
    file = tmp_path / "mine.yaml"
    file.write_text("Recognition: {image_shape: [3, 48, 320]}\n")
    rec = {"Pipeline.text_rec_model": str(folder)}
    for pipeline, overrides, origin in [
        ("OCR", {SHAPE: [3, 48, 320]}, "argument overrides"),
        (file, {}, str(file)),
    ]:
        with pytest.raises(ModelError) as caught:
            create_pipeline(pipeline, overrides={**rec, **overrides})
        assert re.search(rf"my_rec: .*32.* {SHAPE} .*48 \({re.escape(origin)}\)$", caught.value.message)
        assert "[3, 32, 320]" in caught.value.hint
    (folder / "inference.yml").write_text("PreProcess: {transform_ops: [{RecResizeImg: {image_shape: [3, 48, 320]}}]}")
    with pytest.raises(ModelError, match=r" 32, .* 48 \(inference\.yml of my_rec\)$"):
        create_pipeline(overrides=rec)


def test_a_width_may_be_set_at_the_models_height(write_recognizer, tmp_path):
    folder = write_recognizer(tmp_path / "my_rec", classes=4, dictionary="a\nb\n")
    config = apply_model(configure(folder, Recognition__image_shape=[3, 32, 640]), resolve_model(folder, "rec"))
    assert config.values[SHAPE] == (3, 32, 640)


def test_a_fixed_width_is_refused(write_recognizer, default_models, tmp_path):
    folder = write_recognizer(tmp_path / "my_rec", classes=4, height=48, width=320, dictionary="a\nb\n")
    with pytest.raises(ModelError, match=r"^my_rec: .*width .*320") as caught:
        create_pipeline(overrides={"Pipeline.text_rec_model": str(folder)})
    assert caught.value.hint.endswith("N × 3 × 48 × -1")
    with pytest.raises(ModelError, match=r"width .*320"):
        export_bundle("arm", tmp_path / "bundle", configure(folder))


def test_paddle_does_not_enforce_the_width_of_a_program(write_recognizer, default_models, examples, tmp_path):
    folder = to_pdmodel(write_recognizer(tmp_path / "my_rec", classes=4, width=320, dictionary="a\nb\n"))
    rec = {"Pipeline.text_rec_model": str(folder)}
    with pytest.raises(ModelError, match=r"width .*320") as caught:
        create_pipeline(overrides=rec)
    assert caught.value.hint.endswith("; or give --engine paddle")
    assert set("".join(read_sign(create_pipeline(overrides=rec, engine="paddle"), examples))) == {"a"}


# --- dictionaries


@pytest.mark.parametrize(
    ("dictionary", "classes", "dark_class", "text"),
    [
        ("a\n\nb\n", 4, 3, "b"),
        ("a\n\nb\n", 5, 3, "b"),
        ("a\nb\na\n", 4, 3, "a"),
        ("a\nb\n\n\n", 3, 2, "b"),
        ("a\nb\n\n\n", 5, 2, "b"),
    ],
)
def test_dictionary_is_read_as_its_classes(
    write_recognizer, default_models, examples, tmp_path, dictionary, classes, dark_class, text
):
    folder = write_recognizer(tmp_path / "my_rec", classes=classes, dark_class=dark_class, dictionary=dictionary)
    pipeline = create_pipeline(overrides={"Pipeline.text_rec_model": str(folder)})
    assert set("".join(read_sign(pipeline, examples))) == {text}


def test_dict_txt_is_read_like_the_list_in_inference_yml(write_recognizer, default_models, examples, tmp_path):
    characters = ["a", "", "b", "a"]
    folder = write_recognizer(tmp_path / "my_rec", classes=6, dark_class=4)
    (folder / "dict.txt").write_text("".join(f"{text}\n" for text in characters))
    rec = {"Pipeline.text_rec_model": str(folder)}
    charsets = [create_pipeline(overrides=rec)._readers[0].recognizer.charset]
    (folder / "dict.txt").unlink()
    content = {"PostProcess": {"name": "CTCLabelDecode", "character_dict": characters}}
    (folder / "inference.yml").write_text(json.dumps(content))
    charsets.append(create_pipeline(overrides=rec)._readers[0].recognizer.charset)
    assert charsets[0] == charsets[1]
    assert charsets[0].classes == ("", *characters, " ")


def test_dictionary_of_another_model_is_refused_with_every_number(write_recognizer, default_models, tmp_path):
    folder = write_recognizer(tmp_path / "my_rec", classes=9, dictionary="a\n\na\n\n\n")
    with pytest.raises(ModelError, match=r"5 characters .* 6 classes .* 4 .* 9$"):
        create_pipeline(overrides={"Pipeline.text_rec_model": str(folder)})


def test_dictionary_with_arabic_letters_means_text_from_right_to_left(write_recognizer, tmp_path):
    folder = write_recognizer(tmp_path / "my_rec", classes=4, dictionary="\u0627\nb\n")
    config, model = configure(folder), resolve_model(folder, "rec")
    applied = apply_model(config, model)
    assert applied.recognition.direction == "rtl"
    assert applied.origins["Recognition.direction"] == "dictionary of my_rec"
    chosen = config.with_values({"Recognition.direction": "ltr"}, "--set")
    assert apply_model(chosen, model).recognition.direction == "ltr"


# --- to a device


@pytest.fixture(scope="module", params=["onnx", "pdmodel"])
def own_bundle(request, opt, default_models, write_recognizer, tmp_path_factory):
    """A model of 32 rows with an odd dictionary, and its bundle, verified on the way."""
    root = tmp_path_factory.mktemp("own")
    folder = write_recognizer(root / "my_rec", classes=CLASSES, dark_class=TWICE, dictionary=DICTIONARY)
    if request.param == "pdmodel":
        to_pdmodel(folder)
    export_bundle("arm", root / "bundle", configure(folder), ExportOptions(with_onnx=True))
    return folder, root / "bundle"


def test_height_and_dictionary_reach_the_board(own_bundle, examples):
    _, bundle = own_bundle
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    assert manifest["settings"]["recognition"]["image_height"] == 32
    assert manifest["charset"]["classes"] == CLASSES
    lines = (bundle / "dict.txt").read_text(encoding="utf-8").split("\n")
    assert lines == ["é", *CHARACTERS, "", "A", " ", ""]
    pytest.importorskip("onnxruntime")
    texts = [line.text for line in LiteOCR(bundle, engine="onnxruntime").predict(examples / "sign.png").lines]
    assert len(texts) == 4
    assert set("".join(texts)) == {"A"}


def test_dictionary_is_verified_line_by_line(own_bundle):
    folder, bundle = own_bundle
    from converters.verify.verify import VerifyOptions

    options = VerifyOptions(models={"rec": str(folder)})
    report = verify_bundle(bundle, options)
    assert report.passed, report.failures
    detail = next(check.detail for check in report.checks if check.layer == "dictionary" and check.name == "reference")
    assert detail.startswith(f"{CLASSES - 1} of the {CLASSES - 1} characters of my_rec")
    # Its empty line and its second A are swapped.
    (folder / "dict.txt").write_text(DICTIONARY.replace("\n\nA\n", "\nA\n\n"), encoding="utf-8")
    try:
        failures = verify_bundle(bundle, options).failures
    finally:
        (folder / "dict.txt").write_text(DICTIONARY, encoding="utf-8")
    assert [check.name for check in failures] == ["reference"]


def test_right_to_left_text_is_verified_and_read_alike(opt, default_models, write_recognizer, examples, tmp_path):
    pytest.importorskip("onnxruntime")
    folder = write_recognizer(tmp_path / "my_rec", classes=5, dark_class=2, dictionary="b\n\u0627\n(\n\n")
    done = export_bundle("arm", tmp_path / "bundle", configure(folder), ExportOptions(with_onnx=True))
    assert done.parity is not None
    assert done.parity.passed
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_bytes())
    assert manifest["settings"]["recognition"]["direction"] == "rtl"
    pipeline = create_pipeline(overrides={"Pipeline.text_rec_model": str(folder)})
    texts = read_sign(pipeline, examples)
    assert set("".join(texts)) == {"\u0627"}
    board = LiteOCR(tmp_path / "bundle", engine="onnxruntime").predict(examples / "sign.png")
    assert [line.text for line in board.lines] == texts


def test_ascii_keeps_both_classes_of_a_character(opt, default_models, write_recognizer, examples, tmp_path):
    folder = write_recognizer(tmp_path / "my_rec", classes=CLASSES, dark_class=TWICE, dictionary=DICTIONARY)
    options = ExportOptions(charset="ascii", with_onnx=True)
    done = export_bundle("arm", tmp_path / "bundle", configure(folder), options)
    assert done.parity is not None
    assert done.parity.passed
    assert (tmp_path / "bundle" / "dict.txt").read_text() == "".join(f"{text}\n" for text in (*CHARACTERS, "A", " "))
    pytest.importorskip("onnxruntime")
    reading = LiteOCR(tmp_path / "bundle", engine="onnxruntime").predict(examples / "sign.png")
    assert set("".join(line.text for line in reading.lines)) == {"A"}


def test_a_height_that_is_not_the_models_stops_the_export(write_recognizer, default_models, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_OCR_OPT_PYTHON", str(tmp_path / "no-such-python"))
    folder = write_recognizer(tmp_path / "my_rec", classes=4, dictionary="a\nb\n")
    with pytest.raises(ModelError, match=r" 32, .* 48 \(option\)$"):
        export_bundle("arm", tmp_path / "bundle", configure(folder, Recognition__image_shape=[3, 48, 320]))
