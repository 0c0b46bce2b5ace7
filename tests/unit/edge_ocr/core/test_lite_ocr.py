"""The Python API of boards: a real bundle on ONNX Runtime reads what the host's pipeline reads with its graphs."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.lite.graph_engines import open_graph_engines
from converters.lite.nb.read import parse_nb
from edge_ocr.core import LiteOCR
from edge_ocr.core.pictures import read_picture
from edge_ocr.core.pipeline import TextReader
from edge_ocr.core.selftest import compare_golden
from edge_ocr.core.types import Reading, TextLine
from edge_ocr.errors import InputError, ModelError, ParityError, ToolchainError, UsageError

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


@pytest.fixture(scope="module")
def reader(board_bundle) -> LiteOCR:
    return LiteOCR(board_bundle)


def list_texts(reading: Reading) -> list[str]:
    return [line.text for line in reading.lines]


def test_a_bundle_is_loaded(reader):
    assert (reader.engine, reader.power_mode, reader.bundle.kinds) == ("onnxruntime", "no-bind", ("det", "rec", "cls"))
    assert reader.threads >= 1
    assert reader.load_ms > 0


def test_a_board_reads_as_the_host_does(reader, board_bundle, examples, judge):
    models = {
        kind: parse_nb((board_bundle / "models" / f"{kind}.nb").read_bytes(), kind) for kind in reader.bundle.kinds
    }
    with open_graph_engines(models, 2) as opened:
        host = TextReader.build(opened.engines, reader.bundle.read_charset(), reader.bundle)
    for picture, least in {"sign.png": 4, "receipt.jpg": 10, "upside_down.png": 1}.items():
        expected = host.read(read_picture(examples / picture))
        found = reader.predict(examples / picture)
        assert len(found.lines) >= least
        assert judge.compare(found.describe(picture), expected.describe(picture)) <= 1
        scores = [[(line.det_score, line.rec_score) for line in one.lines] for one in (found, expected)]
        np.testing.assert_allclose(*scores, atol=1e-3)
        assert list(found.timings_ms) == ["decode", "detection", "crop", "orientation", "recognition"]


def test_a_picture_may_come_in_many_forms(reader, examples):
    path = examples / "upside_down.png"
    image = read_picture(path)
    expected = list_texts(reader.predict(path))
    assert expected != []
    opaque = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    deep = image.astype(np.uint16) << 4
    (entry,) = (entry for entry in os.scandir(path.parent) if entry.name == path.name)
    in_memory = io.BytesIO(b"head" + path.read_bytes())
    in_memory.seek(4)
    for form in (str(path), path.read_bytes(), bytearray(path.read_bytes()), entry, in_memory, image, opaque, deep):
        assert list_texts(reader.predict(form)) == expected
    assert not in_memory.closed
    with path.open("rb") as file:
        assert list_texts(reader.predict(file)) == expected
        assert not file.closed
        with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: nothing"):
            reader.predict(file)
    assert reader.predict(np.full((40, 50), 255, np.uint8)).lines == []
    assert reader.predict(np.zeros((1, 1, 3), np.uint8)).lines == []


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("none.png", "none.png"),
        ("", "is not a regular file"),
        (b"", r"picture is empty \(0 bytes\)"),
        (b"no picture", "^picture is .*not a "),
        (np.zeros((4, 4, 3)), "float64 array of shape 4×4×3"),
        (np.zeros((0, 4, 3), np.uint8), "the array is empty"),
        (None, "NoneType"),
        (io.StringIO("text"), "^picture .*text, expected a binary file"),
        (io.BytesIO(), r"picture is empty \(0 bytes\)"),
        (io.BytesIO(b"no picture"), "^picture is .*not a "),
    ],
)
def test_invalid_pictures_are_refused(reader, image, words):
    with pytest.raises(InputError, match=words):
        reader.predict(image)


def test_threads_take_turns(reader, examples):
    sign = read_picture(examples / "sign.png")
    images = {"upper half": sign[:280], "lower half": sign[250:]}
    expected = {name: list_texts(reader.predict(image)) for name, image in images.items()}
    assert expected["upper half"] != expected["lower half"]
    failures: list[object] = []

    def read(name: str) -> None:
        for _ in range(3):
            try:
                found = list_texts(reader.predict(images[name]))
            except Exception as error:
                failures.append(error)
            else:
                failures.extend([] if found == expected[name] else [found])

    threads = [threading.Thread(target=read, args=(name,)) for name in images]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "openvino"}, "engine 'openvino', expected auto, paddle_lite or onnxruntime"),
        ({"threads": 0}, "0 threads, expected 1 to 256"),
        ({"threads": 257}, "257 threads, expected 1 to 256"),
        ({"power_mode": "high"}, "power mode 'high': .*onnxruntime"),
        ({"power_mode": "turbo"}, "power mode 'turbo', expected one of high, low, full, no-bind"),
    ],
)
def test_invalid_options_are_refused(board_bundle, options, words):
    with pytest.raises(UsageError, match=words):
        LiteOCR(board_bundle, **options)


@pytest.mark.parametrize(
    ("words", "expected"),
    [(None, "none"), (False, "none"), (np.False_, "none"), ("none", "none"), (True, "words"), ("chars", "chars")],
)
def test_words_come_when_requested(reader, words, expected):
    assert reader.read(np.full((40, 50, 3), 255, np.uint8), words=words).return_words == expected


@pytest.mark.parametrize("words", [0, 1, "lines", ["words"], np.array([1, 2])], ids=repr)
def test_other_values_of_words_are_refused(reader, words):
    with pytest.raises(UsageError, match=re.escape(f"words={words!r}")):
        reader.predict(np.full((40, 50, 3), 255, np.uint8), words=words)


def test_an_engine_that_cannot_be_used_is_reported(board_bundle):
    with pytest.raises(ToolchainError, match=": paddle_lite: ") as caught:
        LiteOCR(board_bundle, engine="paddle_lite")
    assert "onnxruntime" not in caught.value.message


def edit_constant(manifest: Any) -> None:
    manifest["constants"]["geometry"]["row_tolerance"] += 0.1


@pytest.mark.parametrize("edit", [edit_constant, lambda manifest: manifest.pop("constants")])
def test_a_bundle_for_other_code_is_refused(edit_bundle, edit):
    with pytest.raises(ModelError, match="constants") as caught:
        LiteOCR(edit_bundle(edit))
    assert "runtime" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "words"),
    [("onnx/rec.onnx", r"rec\.onnx is damaged"), ("dict.txt", r"dict\.txt is damaged"), ("models/det.nb", None)],
)
def test_only_what_is_used_is_checked(edit_bundle, name, words):
    folder = edit_bundle(lambda manifest: None)
    data = bytearray((folder / name).read_bytes())
    data[-2] ^= 1
    (folder / name).unlink()
    (folder / name).write_bytes(data)
    if words is None:
        assert LiteOCR(folder).engine == "onnxruntime"
    else:
        with pytest.raises(ModelError, match=words):
            LiteOCR(folder)


def test_a_model_that_the_engine_does_not_read_is_reported(edit_bundle):
    data = b"no graph at all"

    def edit(manifest: Any) -> None:
        entry = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
        manifest["files"]["onnx/det.onnx"] = entry

    folder = edit_bundle(edit)
    (folder / "onnx" / "det.onnx").unlink()
    (folder / "onnx" / "det.onnx").write_bytes(data)
    with pytest.raises(ModelError, match=r"ONNX Runtime .*det\.onnx: "):
        LiteOCR(folder)


USE = """
import json, sys
from edge_ocr_lite import LiteOCR
reader = LiteOCR()
print(json.dumps([str(reader.bundle.folder), [line.text for line in reader.predict(sys.argv[1]).lines]]))
assert "edge_ocr" not in sys.modules and "openvino" not in sys.modules
"""


def test_the_code_of_a_bundle_finds_its_bundle(reader, board_bundle, examples, tmp_path):
    picture = examples / "upside_down.png"
    env = {**os.environ, "PYTHONPATH": str(board_bundle / "runtime"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-W", "error", "-c", USE, picture]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert json.loads(done.stdout) == [str(board_bundle), list_texts(reader.predict(picture))]


# --- the golden result


def make_line(text: str, *, left: float = 10, det_score: float = 0.9, rec_score: float = 0.8) -> TextLine:
    polygon = np.array([[left, 5], [90, 5], [90, 25], [left, 25]], np.float32)
    return TextLine(polygon, det_score, text, rec_score)


GOLDEN = {
    "image": "golden.png",
    "lines": [
        {"polygon": [[10, 5], [90, 5], [90, 25], [10, 25]], "det_score": 0.9, "text": text, "rec_score": 0.8}
        for text in ("one", "two")
    ],
}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([make_line("one")], "golden.png: line 2 of 2 reads 'nothing', expected 'two'"),
        ([], "line 1 of 2 reads 'nothing', expected 'one'"),
        ([make_line("two"), make_line("one")], "line 1 of 2 reads 'two', expected 'one'"),
        ([make_line("one"), make_line("two"), make_line("more")], "line 3 of 2 reads 'more', expected 'nothing'"),
        ([make_line("one"), make_line("two", left=13.5)], r"corners .*3\.5 px, expected at most 3"),
        ([make_line("one"), make_line("two", rec_score=0.77)], r"scores .*0\.0300, expected at most 0\.02"),
        ([make_line("one", det_score=0.93), make_line("two")], r"scores .*0\.0300, expected at most 0\.02"),
    ],
)
def test_a_reading_that_differs_is_reported(lines, words):
    with pytest.raises(ParityError, match=words) as caught:
        compare_golden(Reading(lines, {}), GOLDEN)
    assert "export the bundle again" in (caught.value.hint or "")


@pytest.mark.parametrize("key", ["det_score", "rec_score", "polygon"])
def test_nan_is_never_near_enough(key):
    golden = json.loads(json.dumps(GOLDEN))
    golden["lines"][0][key] = [[float("nan")] * 2] * 4 if key == "polygon" else float("nan")
    with pytest.raises(ParityError):
        compare_golden(Reading([make_line("one"), make_line("two")], {}), golden)


@pytest.mark.parametrize("polygon", [[], [[1, 2]], [[1, 2]] * 3, [[1]] * 4, [[1, 2, 3]] * 4])
def test_a_golden_line_without_four_corners_is_refused(polygon):
    golden = {**GOLDEN, "lines": [{**GOLDEN["lines"][0], "polygon": polygon}]}
    with pytest.raises(ModelError, match=r"golden.png: .*'one'"):
        compare_golden(Reading([make_line("one")], {}), golden)


def test_a_reading_that_is_near_enough_passes():
    near = Reading([make_line("one", left=12), make_line("two", rec_score=0.81)], {})
    assert compare_golden(near, GOLDEN) == ("2 lines read as expected, corners within 2.0 px, scores within 0.0100")
    assert compare_golden(Reading([], {}), {"image": "golden.png", "lines": []}).startswith("0 lines read as expected")


def test_the_shipped_golden_result_is_not_empty(board_bundle):
    golden = json.loads((board_bundle / "manifest.json").read_bytes())["golden"]
    assert golden["lines"][0]["text"] == "山茶书店"
    assert Path(board_bundle / golden["image"]).is_file()
