"""The host's pipeline with the real default models, on the pictures of `examples/images`."""

from __future__ import annotations

import concurrent.futures
import io
import itertools
import json
import shutil
import threading
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import edge_ocr.pipeline as pipeline_module
from edge_ocr import create_pipeline
from edge_ocr.config import load_config
from edge_ocr.core.charset import Charset
from edge_ocr.core.detection import TextDetector
from edge_ocr.core.geometry import crop_polygon
from edge_ocr.core.pipeline import TextReader
from edge_ocr.core.recognition import TextRecognizer
from edge_ocr.engines import create_engine, is_installed
from edge_ocr.errors import ConfigError, InputError, ModelError, ToolchainError, UsageError
from edge_ocr.inputs import list_sources
from edge_ocr.models.resolve import resolve_model
from edge_ocr.pipeline import PipelineSpec

ENGINES = ["openvino", "paddle"]
PICTURES = ["receipt.jpg", "sign.png", "label.png"]
BOXES = {"receipt.jpg": 46, "sign.png": 4, "label.png": 15}


def read_one(pipeline, value):
    (result,) = pipeline.predict(value)
    return result


# Readings


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("picture", PICTURES)
def test_every_line_of_the_examples_is_found_and_read(read_example, example_labels, judge, engine, picture):
    result = read_example(picture, engine)
    match = judge.match(example_labels[picture]["words"], result)
    # Measured: all of 46, 4 and 15, exactly, with no box too many, on both engines.
    assert (match.found, match.exact, match.spurious) == (BOXES[picture], BOXES[picture], 0)
    assert match.wanted == BOXES[picture]


@pytest.mark.parametrize("engine", ENGINES)
def test_text_upside_down_needs_the_classifier(read_example, example_labels, judge, engine):
    words = example_labels["upside_down.png"]["words"]
    assert judge.match(words, read_example("upside_down.png", engine)).exact == 0
    turned = read_example("upside_down.png", engine, Pipeline__use_text_line_orientation=True)
    assert judge.match(words, turned).exact == len(words)
    assert "orientation" in turned.timings_ms


@pytest.mark.parametrize(
    ("scores", "height", "text"),
    [((0.7, 0.9), 160, "b"), ((0.7, 0.75), 160, "a"), ((0.86,), 160, "a"), ((0.7,), 12, "a")],
    ids=["better turned", "not much better", "sure", "level"],
)
def test_only_unsure_vertical_lines_are_read_both_ways(scores, height, text):
    config = load_config("OCR")
    prob_map = np.zeros((1, 1, 192, 192), np.float32)
    prob_map[0, 0, 16 : 16 + height, 90 : 90 + (12 if height > 12 else 90)] = 1

    class Fixed:
        name = "fixed"

        def __init__(self, *outputs):
            self.outputs = list(outputs)

        def run(self, array):
            return self.outputs.pop(0)

    readings = [np.float32([[[0, score if i == 0 else 0, score if i else 0]]]) for i, score in enumerate(scores)]
    recognizer = TextRecognizer(Fixed(*readings), Charset(("", "a", "b")), config.recognition)
    reader = TextReader(TextDetector(Fixed(prob_map), config.detection), recognizer)
    (line,) = reader.read(np.zeros((192, 192, 3), np.uint8)).lines
    assert line.text == text
    assert recognizer.engine.outputs == []


@pytest.mark.parametrize("picture", PICTURES)
def test_classifier_leaves_upright_lines_alone(read_example, judge, picture):
    with_classifier = read_example(picture, Pipeline__use_text_line_orientation=True)
    assert judge.compare(read_example(picture), with_classifier) == 0


@pytest.mark.parametrize("picture", [*PICTURES, "upside_down.png"])
def test_engines_agree(read_example, judge, picture):
    options = {"Pipeline__use_text_line_orientation": True} if picture == "upside_down.png" else {}
    a, b = (read_example(picture, engine, **options) for engine in ENGINES)
    assert a["rec_text"]
    assert judge.compare(a, b) <= 1
    np.testing.assert_allclose(a["rec_score"], b["rec_score"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(a["dt_scores"], b["dt_scores"], rtol=0, atol=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (200, 300)], ids=str)
@pytest.mark.parametrize("brightness", [0, 255])
def test_blank_pictures_have_no_lines(open_pipeline, engine, size, brightness):
    result = read_one(open_pipeline(engine), np.full((*size, 3), brightness, np.uint8))
    assert (result["dt_polys"], result["rec_text"], result["rec_score"]) == ([], [], [])
    assert result["input_path"] is None


def test_lines_are_sorted_and_scores_in_range(read_example):
    result = read_example("label.png")
    height, width = result.image.shape[:2]
    polygons = np.array(result["dt_polys"])
    assert polygons.shape == (15, 4, 2)
    assert polygons.min() >= 0
    assert (polygons[..., 0] <= width).all()
    assert (polygons[..., 1] <= height).all()
    # The label leans to the left by 2.4°.
    tops = polygons[:, 0, 1] + np.tan(np.radians(2.4)) * polygons[:, 0, 0]
    for i, (above, below) in enumerate(itertools.pairwise(tops)):
        assert below - above > -10, f"lines {i} and {i + 1}"
    assert result["rec_text"][0].startswith("KESTREL")
    assert all(0.5 <= score <= 1 for score in result["rec_score"])
    assert all(0.6 <= score <= 1 for score in result["dt_scores"])
    assert json.loads(result.to_json()) == dict(result)


def test_batch_size_changes_nothing(read_example):
    """OpenVINO has no batches."""
    one = read_example("label.png", "paddle", Pipeline__text_rec_batch_size=1)
    many = read_example("label.png", "paddle", Pipeline__text_rec_batch_size=6)
    assert many["rec_text"] == one["rec_text"]
    np.testing.assert_allclose(many["rec_score"], one["rec_score"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_line_reads_the_same_whatever_else_is_in_the_picture(open_pipeline, examples, engine):
    pipeline = open_pipeline(engine, Pipeline__text_rec_batch_size=6)
    image = cv2.imread(str(examples / "label.png"))
    (reader,) = pipeline._readers
    crops = [crop_polygon(image, box.polygon) for box in reader.detector.detect(image)]
    together = reader.recognizer.recognize(crops)
    for crop, line in zip(crops, together, strict=True):
        (alone,) = reader.recognizer.recognize([crop])
        assert alone.text == line.text
        assert alone.score == pytest.approx(line.score, abs=1e-5)


def test_reading_twice_gives_the_same(open_pipeline, examples):
    pipeline = open_pipeline()
    first, _, second = (read_one(pipeline, examples / name) for name in ("sign.png", "label.png", "sign.png"))
    assert dict(first) == dict(second)


def test_text_score_leaves_lines_out(read_example):
    every = read_example("label.png")
    limit = sorted(every["rec_score"])[5]
    some = read_example("label.png", Recognition__text_score=limit)
    expected = [t for t, s in zip(every["rec_text"], every["rec_score"], strict=True) if s >= limit]
    assert some["rec_text"] == expected
    assert len(some["dt_polys"]) == len(expected) == 10


# Inputs and results


def test_every_way_to_give_a_picture_reads_the_same(open_pipeline, examples):
    pipeline, path = open_pipeline(), examples / "sign.png"
    array = np.asarray(Image.open(path).convert("RGB"))[:, :, ::-1]
    given = [path, str(path), path.read_bytes(), array, {"img": array}, {"img": str(path)}]
    given += [Image.open(path), io.BytesIO(path.read_bytes())]
    with path.open("rb") as file:
        results = list(pipeline.predict([*given, file]))
        assert not file.closed
        given.append(file)
    assert len(results) == len(given)
    assert {tuple(result["rec_text"]) for result in results} == {tuple(results[0]["rec_text"])}
    named, unnamed = str(path), None
    paths = [named, named, unnamed, unnamed, unnamed, named, unnamed, unnamed, named]
    assert [result["input_path"] for result in results] == paths
    # Results saved into one folder do not overwrite each other.
    names = [result.name for result in results]
    assert [name for name in names if name.startswith("sign")] == ["sign", "sign_2", "sign_3", "sign_4"]
    numbers = [int(name.removeprefix("image_")) for name in names if name.startswith("image_")]
    # The pipeline counts arrays over all calls.
    assert numbers == list(range(numbers[0], numbers[0] + 5))
    assert read_one(pipeline, array).name == f"image_{numbers[0] + 5}"
    assert read_one(pipeline, path).name == "sign"


def test_arrays_of_a_new_pipeline_are_counted_from_one(default_models):
    pipeline, blank = create_pipeline(engine="openvino"), np.zeros((8, 8, 3), np.uint8)
    assert [result.name for result in pipeline.predict([blank, blank])] == ["image_1", "image_2"]
    assert read_one(pipeline, {"img": blank}).name == "image_3"


def test_names_in_use_are_skipped(open_pipeline, tmp_path):
    for name in ("a.png", "a.bmp", "a_2.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    found = [tmp_path / name for name in ("a.png", "a_2.png", "a.bmp")]
    assert [result.name for result in open_pipeline().predict(found)] == ["a", "a_2", "a_3"]


def test_array_may_change_once_it_is_read(open_pipeline, examples):
    array = cv2.imread(str(examples / "sign.png"))
    before = array.copy()
    result = read_one(open_pipeline(), array)
    array[:] = 0
    np.testing.assert_array_equal(result.image, before)


def test_folder_is_read_by_name(open_pipeline, examples, tmp_path):
    shutil.copy(examples / "sign.png", tmp_path / "b.png")
    shutil.copy(examples / "label.png", tmp_path / "a.png")
    assert [result.name for result in open_pipeline().predict(tmp_path)] == ["a", "b"]


def test_predict_reads_only_when_asked(open_pipeline, examples):
    walk = open_pipeline().predict([examples / "sign.png", "missing.png"])
    assert len(next(walk)["rec_text"]) == 4
    with pytest.raises(InputError, match=r"missing\.png"):
        next(walk)


@pytest.mark.parametrize("file_format", ["tiff", "pdf"])
def test_pages_are_separate_results(open_pipeline, examples, tmp_path, file_format):
    if file_format == "pdf":
        pytest.importorskip("pypdfium2")
    pages = [Image.open(examples / name).convert("RGB") for name in ("sign.png", "label.png")]
    path = tmp_path / f"both.{file_format}"
    pages[0].save(path, save_all=True, append_images=pages[1:], resolution=200)
    results = list(open_pipeline().predict(path))
    assert [len(result["rec_text"]) for result in results] == [4, 15]
    assert [result.page_index for result in results] == [0, 1]
    assert [result["page_index"] for result in results] == [0, 1]
    assert [result.name for result in results] == ["both_p1", "both_p2"]
    assert [result["input_path"] for result in results] == [str(path)] * 2


def test_good_pages_come_before_the_error_of_a_bad_one(open_pipeline, examples, make_mixed_pdf, tmp_path):
    mixed = make_mixed_pdf(tmp_path / "mixed.pdf", examples / "sign.png")
    reading = open_pipeline().predict([mixed, "missing.png"])
    for index in (0, 2):
        result = next(reading)
        assert (result.page_index, result.name, len(result["rec_text"])) == (index, f"mixed_p{index + 1}", 4)
    with pytest.raises(InputError, match=r"^page 2 of .*mixed\.pdf has more than 178,956,970 pixels at 200 dpi$"):
        next(reading)


def test_page_that_cannot_be_processed_does_not_cost_the_others(open_pipeline, tmp_path, monkeypatch):
    pages = [Image.new("RGB", (90 + index, 70), "white") for index in range(4)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    pipeline = open_pipeline()
    (reader,) = pipeline._readers
    detect = reader.detector.detect

    def fail(image: np.ndarray) -> list:
        if image.shape[1] in (91, 92):
            raise MemoryError
        return detect(image)

    monkeypatch.setattr(reader.detector, "detect", fail)
    (source,) = list_sources(tmp_path / "a.tif")
    failures: dict[int, InputError] = {}
    assert [result.page_index for result in pipeline.predict_source(source, set(), failures)] == [0, 3]
    expected = [
        f"page {index + 1} of {source.input_path} (9{index}×70) cannot be processed: out of memory" for index in (1, 2)
    ]
    assert [failures[index].message for index in (1, 2)] == expected
    reading = pipeline.predict(tmp_path / "a.tif")
    assert [next(reading).page_index for _ in range(2)] == [0, 3]
    with pytest.raises(InputError, match=r"^pages 2 and 3 of .*a\.tif cannot be read; the first: page 2 "):
        next(reading)


def test_scores_of_lines_that_are_left_out_are_kept(read_example):
    every = read_example("label.png")
    assert every.reading.left_out == ()
    limit = sorted(every["rec_score"])[5]
    some = read_example("label.png", Recognition__text_score=limit)
    assert sorted(some.reading.left_out) == sorted(every["rec_score"])[:5]


def test_deep_colour_array_reads_as_the_picture_does(open_pipeline, read_example, examples):
    image = cv2.imread(str(examples / "sign.png"))
    for array in (image.astype(np.uint16) << 4, cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.uint16) << 2):
        assert read_one(open_pipeline(), array)["rec_text"] == read_example("sign.png")["rec_text"]


def test_stages_are_timed(read_example):
    timings = read_example("sign.png").timings_ms
    assert list(timings) == ["decode", "detection", "crop", "recognition"]
    assert all(ms > 0 for ms in timings.values())


@pytest.mark.parametrize("engine", ENGINES)
def test_one_pipeline_serves_several_threads(open_pipeline, read_example, examples, engine):
    pipeline = open_pipeline(engine)
    names = ["sign.png", "upside_down.png"] * 3
    expected = [dict(read_example(name, engine)) for name in names]
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda name: dict(read_one(pipeline, examples / name)), names))
    assert found == expected


def test_sources_of_one_pipeline_may_be_read_alternately(open_pipeline, examples):
    pipeline = open_pipeline()
    first, second = (
        pipeline.predict_source(*list_sources(examples / f"{name}.png"), set()) for name in ("sign", "label")
    )
    assert len(next(second)["rec_text"]) == 15
    assert len(next(first)["rec_text"]) == 4


# Building a pipeline


def test_arguments_override_the_file(default_models, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("Pipeline: {device: 'gpu:3'}\nRuntime: {engine: paddle, threads: 7}\nDetection: {thresh: 0.2}\n")
    pipeline = create_pipeline(
        path, device="cpu", engine="openvino", threads=1, overrides={"Detection.box_thresh": 0.7, "Runtime.threads": 5}
    )
    config = pipeline.config
    assert (config.device, config.engine, config.threads) == ("cpu", "openvino", 1)
    assert (config.detection.bin_threshold, config.detection.box_threshold) == (0.2, 0.7)
    assert config.origins["Runtime.threads"] == "argument threads"
    assert config.origins["Detection.box_thresh"] == "argument overrides"
    assert pipeline.engines == {"det": "openvino", "rec": "openvino"}


@pytest.mark.parametrize(("use_hpip", "engine"), [(None, "openvino"), (True, "openvino"), (False, "paddle")])
def test_use_hpip_chooses_the_engine(default_models, use_hpip, engine):
    pipeline = create_pipeline(use_hpip=use_hpip)
    assert set(pipeline.engines.values()) == {engine}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"pipeline": "nix"}, ConfigError),
        ({"device": "tpu"}, UsageError),
        ({"device": "gpu:0"}, ToolchainError),
        ({"engine": "paddle", "use_hpip": True}, UsageError),
        ({"device": "gpu:0", "use_hpip": True}, ToolchainError),
        ({"engine": "nix"}, UsageError),
        ({"threads": 0}, UsageError),
        ({"overrides": {"Pipeline.text_det_model": "nix"}}, ModelError),
        ({"overrides": {"Pipeline.text_det_model": "PP-OCRv4_mobile_rec"}}, ModelError),
        ({"overrides": {"Nix.nix": 1}}, UsageError),
    ],
    ids=str,
)
def test_invalid_pipelines_are_refused(default_models, arguments, error):
    with pytest.raises(error) as raised:
        create_pipeline(**arguments)
    assert "\n" not in raised.value.message


@pytest.fixture
def devices(monkeypatch) -> Counter[tuple[str, str, int]]:
    """Devices that this machine does not have; counts kind of network and device of every run."""
    runs: Counter[tuple[str, str, int]] = Counter()
    create_engine = pipeline_module.create_engine

    def create(name, model, device_kind, device_id, threads, precision, streaming):
        engine = create_engine("openvino", model, "cpu", 0, threads, precision)

        class Counted:
            def run(self, array):
                runs[model.kind, device_kind, device_id] += 1
                return engine.run(array)

        return Counted()

    monkeypatch.setattr(pipeline_module, "create_engine", create)
    return runs


@pytest.mark.parametrize("way", ["refuses", "mixes"])
def test_a_recogniser_of_one_line_at_a_time(monkeypatch, default_models, examples, read_example, way):
    """Exported with a fixed batch, or with one fixed inside; not an error unless more is requested."""
    create_engine = pipeline_module.create_engine

    def create(name, model, *rest):
        engine = create_engine(name, model, *rest)
        run = engine.run

        def run_one(array):
            if model.kind == "rec" and len(array) > 1 and way == "refuses":
                raise ModelError("one line at a time")
            return run(array)[:1]

        engine.run = run_one
        return engine

    monkeypatch.setattr(pipeline_module, "create_engine", create)
    pipeline = create_pipeline(engine="paddle")
    assert pipeline.config.origins["Pipeline.text_rec_batch_size"].endswith("which takes one line at a time")
    assert read_one(pipeline, examples / "sign.png")["rec_text"] == read_example("sign.png")["rec_text"]
    with pytest.raises(ModelError):
        read_one(create_pipeline(engine="paddle", overrides={"Pipeline.text_rec_batch_size": 4}), examples / "sign.png")
    # OpenVINO gets no batches.
    pipeline = create_pipeline(overrides={"Pipeline.text_rec_batch_size": 4})
    assert read_one(pipeline, examples / "sign.png")["rec_text"] == read_example("sign.png")["rec_text"]


def test_pictures_are_spread_over_devices(devices, default_models, examples, read_example):
    expected = read_example("sign.png")["rec_text"]
    pipeline = create_pipeline(device="gpu:0,2")
    devices.clear()
    for _ in range(4):
        assert read_one(pipeline, examples / "sign.png")["rec_text"] == expected
    assert devices["det", "gpu", 0] == devices["det", "gpu", 2] == 2
    assert devices["rec", "gpu", 0] == devices["rec", "gpu", 2] > 0
    assert {device[1:] for device in devices} == {("gpu", 0), ("gpu", 2)}


def test_devices_read_at_the_same_time(devices, default_models, examples, monkeypatch):
    pipeline = create_pipeline(device="npu:0,1")
    both = threading.Barrier(2, timeout=30)
    for reader in pipeline._readers:
        run = reader.detector.engine.run
        # Each waits for the other: if they took turns, both would hang.
        monkeypatch.setattr(reader.detector.engine, "run", lambda array, run=run: (both.wait(), run(array))[1])
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: read_one(pipeline, examples / "sign.png"), range(2)))
    assert [len(result["rec_text"]) for result in found] == [4, 4]


def test_the_first_device_to_be_free_takes_the_next_picture(devices, default_models, examples, monkeypatch):
    pipeline = create_pipeline(device="npu:0,1")
    held, begun = threading.Event(), threading.Event()
    run = pipeline._readers[0].detector.engine.run

    def wait(array):
        begun.set()
        assert held.wait(60)
        return run(array)

    monkeypatch.setattr(pipeline._readers[0].detector.engine, "run", wait)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        slow = pool.submit(read_one, pipeline, examples / "sign.png")
        try:
            assert begun.wait(30)
            # While one device is busy, the other reads all; a derived pipeline shares the devices.
            readings = [pool.submit(read_one, pipeline.derive({}), examples / "sign.png") for _ in range(3)]
            done, waiting = concurrent.futures.wait(readings, 20)
        finally:
            held.set()
        assert (len(done), len(waiting)) == (3, 0)
        assert len(slow.result()["rec_text"]) == 4
    # And it is free again after a picture that cannot be read.
    monkeypatch.setattr(pipeline._readers[0], "read", None)
    monkeypatch.setattr(pipeline._readers[1], "read", None)
    for _ in range(3):
        with pytest.raises(TypeError):
            read_one(pipeline, examples / "sign.png")


def test_spec_is_complete_in_another_process(default_models):
    config = load_config("OCR", {"Detection.thresh": 0.2, "Recognition.image_shape": [3, 48, 320]}, {})
    spec = PipelineSpec(config, use_hpip=True)
    restored = PipelineSpec.from_json(spec.to_json())
    assert restored == spec
    assert restored.config.origins["Detection.thresh"] == "option"
    assert restored.config.origins["Detection.box_thresh"] == "default"
    assert restored.build().engines["det"] == "openvino"
    with pytest.raises(ConfigError, match="missing"):
        PipelineSpec.from_json('{"config": {"values": {}, "origins": {}}, "use_hpip": null}')


def test_processes_share_the_cores_unless_threads_are_set(monkeypatch):
    monkeypatch.setattr(pipeline_module, "count_cores", lambda: 8)
    spec = PipelineSpec(load_config("OCR"))
    assert spec.share_cores(1, "--jobs") is spec
    assert [spec.share_cores(count, "--jobs").config.threads for count in (2, 3, 20)] == [4, 2, 1]
    assert spec.share_cores(2, "--jobs").config.origins["Runtime.threads"] == "--jobs"
    fixed = PipelineSpec(load_config("OCR", {"Runtime.threads": 5}))
    assert fixed.share_cores(2, "--jobs").config.threads == 5


def test_derived_pipeline_has_other_settings_and_the_same_models(open_pipeline, examples):
    pipeline = open_pipeline()
    before = dict(read_one(pipeline, examples / "sign.png"))
    derived = pipeline.derive({"Detection.limit_side_len": 96, "Recognition.text_score": 0.99})
    small = read_one(derived, examples / "sign.png")
    assert derived.config.detection.limit_side_len == 96
    assert derived._idle is pipeline._idle
    assert small["dt_polys"] != before["dt_polys"]
    assert all(score >= 0.99 for score in small["rec_score"])
    assert dict(read_one(pipeline, examples / "sign.png")) == before
    again = derived.derive({"Recognition.text_score": 0})
    assert (again.config.detection.limit_side_len, again.config.recognition.text_score) == (96, 0)


@pytest.mark.parametrize(
    "overrides",
    [
        {"Pipeline.text_rec_model": "x"},
        {"Recognition.character_dict_path": "x"},
        {"Runtime.threads": 1},
        {"Detection.limit_side_len": 0},
        {"Detection.nix": 0},
    ],
    ids=str,
)
def test_settings_that_a_loaded_pipeline_cannot_change_are_refused(open_pipeline, overrides):
    with pytest.raises(UsageError):
        open_pipeline().derive(overrides)


@pytest.fixture(scope="module")
def folders(default_models, tmp_path_factory) -> dict[str, Path]:
    """The default models as a user's folders, without any description."""
    found = {}
    for name, model in default_models.items():
        folder = found[model.kind] = tmp_path_factory.mktemp(model.kind)
        shutil.copy(model.program, folder / "inference.pdmodel")
        shutil.copy(model.params, folder / "inference.pdiparams")
        if model.dictionary:
            (folder / "dict.txt").write_text("\n".join(model.dictionary) + "\n", encoding="utf-8")
        assert name
    return found


def override(det: Path | None = None, rec: Path | None = None, cls: Path | None = None) -> dict[str, object]:
    named = {
        "Pipeline.text_det_model": det,
        "Pipeline.text_rec_model": rec,
        "Pipeline.text_line_orientation_model": cls,
        "Pipeline.use_text_line_orientation": True if cls else None,
    }
    return {key: str(value) if isinstance(value, Path) else value for key, value in named.items() if value}


def test_folders_read_as_the_named_models_do(open_pipeline, folders, examples, judge):
    mine = create_pipeline(engine="openvino", overrides=override(**folders))
    named = open_pipeline(Pipeline__use_text_line_orientation=True)
    for picture in ("sign.png", "upside_down.png"):
        assert judge.compare(read_one(mine, examples / picture), read_one(named, examples / picture)) == 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("exchanged", "kind"),
    [(("rec", "det"), "det"), (("det", "det"), "rec"), (("cls", "rec"), "det"), (("det", "cls"), "rec")],
    ids=str,
)
def test_exchanged_models_are_refused(folders, engine, exchanged, kind):
    det, rec = exchanged
    with pytest.raises(ModelError) as error:
        create_pipeline(engine=engine, overrides=override(folders[det], folders[rec]))
    # Some do not even run on inputs of the other kind.
    message = error.value.message
    assert f" is not a {kind} model: its output is" in message or " does not run on an input of 1×3×" in message
    assert "\n" not in message
    assert error.value.hint


def test_detector_in_the_classifiers_place_is_refused(folders):
    with pytest.raises(ModelError, match="does not run on an input of 1×3×48×192"):
        create_pipeline(engine="openvino", overrides=override(cls=folders["det"]))


def test_inference_yml_of_a_folder_counts_unless_overridden(folders, tmp_path):
    folder = tmp_path / "det"
    shutil.copytree(folders["det"], folder)
    (folder / "inference.yml").write_text(
        "Global: {model_name: mine}\nPostProcess: {name: DBPostProcess, thresh: 0.25, box_thresh: 0.55}\n"
    )
    config = create_pipeline(overrides={**override(folder), "Detection.box_thresh": 0.7}).config
    assert (config.detection.bin_threshold, config.detection.box_threshold) == (0.25, 0.7)
    assert config.origins["Detection.thresh"] == "inference.yml of mine"


@pytest.mark.parametrize("lines", [10, 6622, 6624])
def test_dictionary_that_does_not_fit_is_refused_with_both_numbers(default_models, tmp_path, lines):
    characters = [*default_models["PP-OCRv4_mobile_rec"].dictionary, "\U0001f600"][:lines]
    path = tmp_path / "keys.txt"
    path.write_text("\n".join(characters) + "\n", encoding="utf-8")
    if lines == 6624:
        # 6624 + blank fits: the space must then be in the dictionary.
        create_pipeline(engine="openvino", overrides={"Recognition.character_dict_path": str(path)})
        return
    with pytest.raises(ModelError) as error:
        create_pipeline(engine="openvino", overrides={"Recognition.character_dict_path": str(path)})
    assert f"{lines} characters" in error.value.message
    assert "6625" in error.value.message


def test_cut_weights_are_refused(folders, tmp_path):
    folder = tmp_path / "det"
    shutil.copytree(folders["det"], folder)
    weights = folder / "inference.pdiparams"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="cannot read"):
        create_pipeline(engine="openvino", overrides=override(folder))


# ONNX, with a synthetic detector: dark pixels are text


def encode_varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + encode_varint(number >> 7)


def encode_message(*fields: tuple[int, int | str | bytes]) -> bytes:
    """Write protobuf fields: number and value."""
    content = b""
    for number, value in fields:
        if isinstance(value, int):
            content += encode_varint(number << 3) + encode_varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            content += encode_varint(number << 3 | 2) + encode_varint(len(data)) + data
    return content


def encode_onnx() -> bytes:
    """Sigmoid of minus the mean over channels, as an ONNX file; field numbers are those of onnx.proto."""

    def node(op: str, source: str, target: str, *attributes: bytes) -> bytes:
        return encode_message((1, source), (2, target), (4, op), *((5, attribute) for attribute in attributes))

    def value(name: str, channels: int) -> bytes:
        dims = [
            encode_message((2, "n")),
            encode_message((1, channels)),
            encode_message((2, "h")),
            encode_message((2, "w")),
        ]
        tensor = encode_message((1, 1), (2, encode_message(*((1, dim) for dim in dims))))
        return encode_message((1, name), (2, encode_message((1, tensor))))

    axes = encode_message((1, "axes"), (8, 1), (20, 7))
    keep = encode_message((1, "keepdims"), (3, 1), (20, 2))
    nodes = [node("ReduceMean", "x", "mean", axes, keep), node("Neg", "mean", "dark"), node("Sigmoid", "dark", "y")]
    graph = encode_message(*((1, item) for item in nodes), (2, "dark"), (11, value("x", 3)), (12, value("y", 1)))
    return encode_message((1, 8), (7, graph), (8, encode_message((1, ""), (2, 13))))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_onnx_folder_runs(tmp_path, engine):
    if not is_installed(engine):
        pytest.skip(f"{engine} is not installed")
    (tmp_path / "inference.onnx").write_bytes(encode_onnx())
    model = resolve_model(tmp_path, "det")
    created = create_engine(engine, model, "cpu", 0, 1)
    assert (model.format, created.name) == ("onnx", engine)
    image = np.full((64, 128, 3), 255, np.uint8)
    image[20:40, 30:90] = 0
    (box,) = TextDetector(created, load_config().detection).detect(image)
    assert box.det_score > 0.8
    np.testing.assert_allclose(box.polygon[[0, 2]], [[19, 9], [101, 51]], atol=4)


def test_onnx_folder_is_part_of_a_pipeline(default_models, tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    (tmp_path / "inference.onnx").write_bytes(encode_onnx())
    pipeline = create_pipeline(overrides=override(tmp_path), use_hpip=True)
    assert pipeline.engines == {"det": "openvino", "rec": "openvino"}
    with pytest.raises(ToolchainError, match=r"onnxruntime does not read \.pdmodel"):
        create_pipeline(overrides=override(tmp_path), engine="onnxruntime")
