"""edge_ocr.core against tests/golden, which Kotlin is compared with, too."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from converters.bundle.manifest import describe_settings, read_schema
from edge_ocr.config import load_config
from edge_ocr.core import geometry, windows
from edge_ocr.core.constants import list_constants

FOLDER = Path(__file__).parents[1] / "golden"

sys.path.insert(0, str(FOLDER))
# E402: they are found in that folder only.
import golden_expected  # noqa: E402
import golden_windows  # noqa: E402
import make_golden  # noqa: E402

# Differences that other versions of the libraries may cause: scores and corners, mean of pixels, and of inputs (where
# one level of 255 is up to 0.02).
MAX_NUMBER_DIFF = 0.01
MAX_PIXEL_DIFF = 0.5
MAX_INPUT_DIFF = 0.02


@pytest.fixture(scope="module")
def index():
    return json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def recorded():
    return make_golden.read_recorded(FOLDER)


@pytest.fixture(scope="module")
def expected():
    return json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def derived(recorded):
    return golden_expected.expect(*recorded)


def _differ(found, wanted, place=""):
    """Yield where two JSON values differ; numbers may differ by MAX_NUMBER_DIFF."""
    if isinstance(wanted, dict) and isinstance(found, dict) and found.keys() == wanted.keys():
        for key in wanted:
            yield from _differ(found[key], wanted[key], f"{place}.{key}")
    elif isinstance(wanted, list) and isinstance(found, list) and len(found) == len(wanted):
        for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
            yield from _differ(a, b, f"{place}[{i}]")
    elif isinstance(wanted, float) and isinstance(found, int | float):
        if not abs(found - wanted) <= MAX_NUMBER_DIFF:
            yield f"{place} is {found}, expected {wanted}"
    elif found != wanted:
        yield f"{place} is {found}, expected {wanted}"


def test_files_are_those_of_the_index(index):
    names = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.suffix in (".bin", ".png")}
    assert names | {"recorded.json", "expected.json", "manifest.json"} == set(index["files"])
    for name, entry in index["files"].items():
        content = (FOLDER / name).read_bytes()
        content = zlib.decompress(content) if name.endswith(".bin") else content
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], name


def test_it_is_small():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 1_500_000


@pytest.mark.parametrize(
    "section",
    [
        "cases",
        "maps",
        "detection_sizes",
        "widths",
        "batches",
        "line_widths",
        "borders",
        "spans",
        "large_spans",
        "large_maps",
        "fine_prints",
        "merges",
        "cuts",
        "joins",
        "directions",
        "quads",
        "unclipped",
        "corner_orders",
        "reading_orders",
        "detection_inputs",
        "line_inputs",
        "ctc",
        "arabic",
        "word_spans",
        "joined_spans",
        "words",
        "orientations",
        "page_inputs",
        "page_turns",
        "page_polygons",
        "page_choices",
        "signatures",
    ],
)
def test_core_gives_what_is_expected(derived, expected, section):
    assert expected[section]
    assert list(_differ(derived[0][section], expected[section], section)) == []


def test_every_section_is_compared(expected):
    sections = test_core_gives_what_is_expected.pytestmark[0].args[1]
    assert {*sections, "crop_stride"} == set(expected)


def test_core_gives_the_arrays(derived):
    for name, array in derived[1].items():
        wanted = make_golden.read_array(FOLDER, name)
        assert array.shape == wanted.shape, name
        if array.dtype == np.uint8 and array.size:
            assert np.abs(array.astype(int) - wanted).mean() <= MAX_PIXEL_DIFF, name
        elif array.size:
            assert np.abs(array - wanted).max() <= MAX_INPUT_DIFF, name


def test_enough_is_read(expected):
    with_text = [case for case in expected["cases"] if case["read"]]
    assert len(with_text) >= 12
    assert sum(len(case["read"]) for case in with_text) >= 100
    assert any(not case["boxes"] for case in expected["cases"])


def test_it_is_reproducible_to_the_byte(recorded, index, tmp_path):
    if index["made_with"] != make_golden.find_versions():
        pytest.skip(f"no libraries as those that made the golden files: {index['made_with']}")
    for name in ("pictures", "manifest.json"):
        copy = shutil.copytree if (FOLDER / name).is_dir() else shutil.copy
        copy(FOLDER / name, tmp_path / name)
    make_golden.make_golden(*recorded, tmp_path)
    for name in ("index.json", *index["files"]):
        found, wanted = (tmp_path / name).read_bytes(), (FOLDER / name).read_bytes()
        if name.endswith(".bin"):
            # zlib's output may differ between versions.
            found, wanted = zlib.decompress(found), zlib.decompress(wanted)
        assert found == wanted, name


def test_the_models_still_give_what_was_recorded(default_models, recorded, monkeypatch, tmp_path):
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path))
    # A few cases: small, turned, batched.
    names = ("label_head", "label_left_turn", "sign_turned", "card_enlarged", "receipt")
    again, arrays = make_golden.record([case for case in make_golden.CASES if case[0] in names])
    before = {case["name"]: case for case in recorded[0]["cases"]}
    for case in again["cases"]:
        name = case["name"]
        assert [run["input"] for run in case["runs"]] == [run["input"] for run in before[name]["runs"]]
        maps = arrays[f"{name}.det"].astype(int) - recorded[1][f"{name}.det"]
        assert np.abs(maps).max() <= 2
        texts = [line.text for line in _read(case, again, arrays)]
        assert texts == [line.text for line in _read(before[name], *recorded)]


def _read(case, recorded, arrays):
    reader = golden_expected.open_reader(case, recorded["classes"], arrays)
    return reader.read(golden_expected.read_view(case)).lines


def test_the_manifest_is_current():
    manifest = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["target"] == "android"
    assert manifest["constants"] == json.loads(json.dumps(list_constants()))
    # Bundles read one line at a time.
    assert manifest["settings"] == describe_settings(load_config("OCR", {"Pipeline.text_rec_batch_size": 1}))
    assert not list(Draft202012Validator(read_schema()).iter_errors(manifest))
    # The assets of a project, and nothing around them.
    models = [f"models/{kind}.nb" for kind in ("cls", "det", "rec")]
    assert list(manifest["files"]) == ["LICENSES", "bom.cdx.json", "dict.txt", "golden.png", *models, "pipeline.yaml"]


# --- Changes are noticed ---


def test_a_damaged_array_is_refused(tmp_path):
    folder = tmp_path / "golden"
    shutil.copytree(FOLDER, folder)
    path = folder / "arrays" / "label.det.bin"
    content = bytearray(zlib.decompress(path.read_bytes()))
    content[1000] ^= 1
    path.write_bytes(zlib.compress(bytes(content)))
    with pytest.raises(ValueError, match=r"label\.det"):
        make_golden.read_array(folder, "label.det")


@pytest.mark.parametrize(
    ("constant", "value"),
    [
        ("ROW_TOLERANCE", 0.0),
        ("VERTICAL_RATIO", 4.0),
        ("MAX_TILT", 0.0),
        ("BREAKING_SLANT", (5.0, 5.0)),
        ("PIECE_GAP", -0.5),
        ("PIECE_HEIGHT", 1.0),
    ],
)
def test_another_constant_is_seen(recorded, expected, monkeypatch, constant, value):
    monkeypatch.setattr(geometry, constant, value)
    sections = ("cases", "maps", "reading_orders")
    # Other crops need outputs that were not recorded.
    with contextlib.suppress(ValueError):
        found = golden_expected.expect(*recorded)[0]
        assert [key for key in sections if list(_differ(found[key], expected[key]))]


@pytest.mark.parametrize(("constant", "value"), [("LARGE_WINDOW_SIDE", 960), ("LARGE_WINDOW_OVERLAP", 256)])
def test_another_constant_of_large_windows_is_seen(monkeypatch, constant, value):
    monkeypatch.setattr(windows, constant, value)
    made: dict[str, np.ndarray] = {}
    list(golden_windows.expect_large_maps(made))
    assert any((array != make_golden.read_array(FOLDER, name)).mean() > 0.01 for name, array in made.items())


def test_another_map_is_seen(recorded, expected):
    content, arrays = recorded
    name = "label_head"
    changed = {**arrays, f"{name}.det": np.where(arrays[f"{name}.det"] > 200, 0, arrays[f"{name}.det"])}
    case = next(case for case in content["cases"] if case["name"] == name)
    wanted = next(case for case in expected["cases"] if case["name"] == name)
    reader = golden_expected.open_reader(case, content["classes"], changed)
    assert len(reader.detector.detect(golden_expected.read_view(case))) != len(wanted["boxes"])


def test_another_class_is_seen(recorded, expected):
    content, arrays = recorded
    case, wanted = content["cases"][0], expected["cases"][0]
    classes = list(content["classes"])
    places = classes.index("A"), classes.index("B")
    classes[places[0]], classes[places[1]] = "B", "A"
    lines = golden_expected.open_reader(case, classes, arrays).read(golden_expected.read_view(case)).lines
    assert [line.text for line in lines] != wanted["read"]
