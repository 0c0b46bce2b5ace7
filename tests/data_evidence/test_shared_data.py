"""The pipeline on real photos and scans that are next to the project, not in it.

The folder is `EDGE_OCR_TEST_DATA`, or `../shared/data` of the repository. Shares of lines are what was measured with
the default models on OpenVINO, less one line, unless said otherwise.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edge_ocr.errors import InputError

VARIABLE = "EDGE_OCR_TEST_DATA"
DATA = Path(os.environ.get(VARIABLE) or Path(__file__).parents[3] / "shared" / "data")

pytestmark = [
    pytest.mark.skipif(not (DATA / "README.md").is_file(), reason=f"no shared test data ({VARIABLE})"),
    pytest.mark.slow,
]

# RapidOCR's settings, for which its tests were written.
RAPIDOCR = {
    "Detection__limit_type": "min",
    "Detection__limit_side_len": 736,
    "Detection__box_thresh": 0.5,
    "Detection__unclip_ratio": 1.6,
    "Detection__mean": [0.5, 0.5, 0.5],
    "Detection__std": [0.5, 0.5, 0.5],
    "Recognition__image_shape": [3, 48, 320],
}
ORIENTATION = {"Pipeline__use_text_line_orientation": True}


def read_labels(folder: str) -> dict[str, dict]:
    try:
        lines = (DATA / folder / "gt.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:  # the module is skipped then
        return {}
    return {row["image"]: row for row in map(json.loads, lines)}


@pytest.fixture(scope="module")
def read(open_pipeline):
    """Read a file of the data with an engine and settings, once."""
    results: dict[str, list] = {}

    def read_file(name: str, engine: str = "openvino", **settings: object) -> list:
        key = json.dumps([name, engine, settings], sort_keys=True)
        if key not in results:
            results[key] = list(open_pipeline(engine, **settings).predict(DATA / name))
        return results[key]

    return read_file


# The tutorial's boarding pass


@pytest.mark.parametrize("engine", ["openvino", "paddle"])
def test_boarding_pass_is_read(read, judge, engine):
    (result,) = read("general_ocr/general_ocr_002.png", engine)
    match = judge.match(read_labels("general_ocr")["general_ocr_002.png"]["words"], result)
    assert match.wanted == 30
    assert match.found >= 27
    assert match.exact >= 25


def test_engines_agree_on_the_boarding_pass(read, judge):
    (a,), (b,) = (read("general_ocr/general_ocr_002.png", engine) for engine in ("openvino", "paddle"))
    assert len(a["rec_text"]) == 31
    assert judge.compare(a, b) <= 1


# Odd files: each behaves as its `expect` says


@dataclass(frozen=True)
class Share:
    """How many of the 30 lines must be found and read."""

    found: int
    exact: int
    settings: dict | None = None


SAME = Share(26, 23)

PASSES = {
    "bp.bmp": SAME,
    "bp_16bit_gray.png": SAME,
    "bp_animated.gif": SAME,
    "bp_cmyk.jpg": SAME,
    "bp_exif3.jpg": SAME,
    "bp_exif8.jpg": SAME,
    "bp_gray8.png": SAME,
    "bp_la.png": SAME,
    "bp_lossless.webp": SAME,
    "bp_progressive.jpg": SAME,
    "bp_rgba.png": SAME,
    "bp_skew5.jpg": SAME,
    # Turned pages, with the classifier: 27 found and 22 exact; 24 and 21.
    "bp_rot180.png": Share(26, 21, ORIENTATION),
    "bp_rot90cw.png": Share(23, 20, ORIENTATION),
    # Its letters are too small for the default limit of 960 (19 found, 9 exact); 25 and 23 at this one.
    "bp_skew30.jpg": Share(24, 22, {"Detection__limit_type": "long", "Detection__limit_side_len": 1600}),
    # Degraded pictures: 9 and 3; 14 and 8.
    "bp_1bit.png": Share(8, 2),
    "bp_tiny_text.png": Share(13, 7),
}


@pytest.mark.parametrize(("name", "share"), PASSES.items(), ids=PASSES)
def test_boarding_pass_in_other_formats(read, judge, name, share):
    (result,) = read(f"edge/{name}", **(share.settings or {}))
    match = judge.match(read_labels("edge")[name]["words"], result)
    assert match.wanted == 30
    assert match.found >= share.found
    assert match.exact >= share.exact


def test_turned_page_needs_the_classifier(read, judge):
    (result,) = read("edge/bp_rot180.png")
    assert judge.match(read_labels("edge")["bp_rot180.png"]["words"], result).exact == 0


REFUSED = {
    "empty.jpg": "is empty",
    "bp_truncated_half.jpg": "is truncated",
    "bp_bad_crc.png": "is truncated or damaged",
    "pil_broken_data_stream.png": "is truncated or damaged",
    "pil_decompression_bomb_extents.gif": "has more than 178,956,970 pixels",
}


@pytest.mark.parametrize(("name", "reason"), REFUSED.items(), ids=REFUSED)
def test_incomplete_pictures_are_refused(read, name, reason):
    with pytest.raises(InputError) as error:
        read(f"edge/{name}")
    assert reason in error.value.message
    assert "\n" not in error.value.message


BLANK = ["blank_1x1.png", "blank_500x3.png", "pil_hopper_gray.jpg", "pil_no_palette.gif"]


@pytest.mark.parametrize("name", BLANK)
def test_no_text_is_found_in_empty_pictures(read, name):
    (result,) = read(f"edge/{name}")
    assert result["rec_text"] == []


# Height and width of pictures that must decode, upright.
SIZES = {
    "ocrmypdf_baiona_alpha.png": (682, 640),
    "ocrmypdf_baiona_colormapped.png": (682, 640),
    "pil_12in16bit.tif": (100, 100),
    "pil_16bit.cropped.tif": (64, 64),
    "pil_g4_orientation_6.tif": (88, 590),
    "pil_hopper.webp": (128, 128),
    "pil_hopper_1bit.pbm": (128, 128),
    "pil_hopper_orientation_6.jpg": (128, 128),
    "pil_hopper_orientation_8.jpg": (128, 128),
    "pil_invalid-exif.jpg": (200, 200),
    "pil_iss634.webp": (245, 245),
    "pil_p_16.png": (128, 128),
    "pil_pil_sample_cmyk.jpg": (100, 100),
}


@pytest.mark.parametrize(("name", "size"), SIZES.items(), ids=SIZES)
def test_odd_files_decode(read, name, size):
    (result,) = read(f"edge/{name}")
    assert result.image.shape == (*size, 3)


def test_turned_photos_are_read_upright(read):
    (upright,), *turned = (
        read(f"edge/pil_hopper{name}") for name in (".webp", "_orientation_6.jpg", "_orientation_8.jpg")
    )
    for (result,) in turned:
        # Two lossy formats, one picture.
        assert np.abs(result.image.astype(int) - upright.image).mean() < 6


def test_scan_with_transparency_reads_as_the_one_without(read):
    (a,), (b,) = (read(f"edge/ocrmypdf_baiona_{name}.png") for name in ("alpha", "colormapped"))
    # One of 17 differs: transparent there, a shade of the palette here.
    assert len(a["rec_text"]) == len(b["rec_text"]) == 17
    assert sum(x == y for x, y in zip(a["rec_text"], b["rec_text"], strict=True)) >= 15


def test_every_page_of_a_tiff(read):
    assert [result.image.shape for result in read("edge/pil_multipage.tiff")] == [(10, 10, 3), (10, 10, 3), (20, 20, 3)]


def test_full_page_of_a_letter(read):
    # 81 lines measured; this one has no labels.
    (result,) = read("edge/ocrmypdf_linn.png")
    assert "TheLinnSequencer" in result["rec_text"][0].replace(" ", "")
    assert len(result["rec_text"]) >= 78


@dataclass(frozen=True)
class Texts:
    """How many of the listed texts must be read."""

    least: int
    of: int
    settings: dict | None = None


SCANS = {
    "tess_phototest.tif": Texts(8, 8),
    # A page turned by 90° needs the classifier; 7 measured: two lines are found as one.
    "tess_phototest-rotated-L.png": Texts(7, 8, ORIENTATION),
    "tess_phototestrot.tif": Texts(7, 8, ORIENTATION),
    # The default dictionary has no letters with accents: the 6 English lines.
    "tess_eurotext.tif": Texts(6, 12),
}


@pytest.mark.parametrize(("name", "texts"), SCANS.items(), ids=SCANS)
def test_scans_read_as_listed(read, judge, name, texts):
    words = read_labels("edge")[name]["words"]
    (result,) = read(f"edge/{name}", **(texts.settings or {}))
    assert len(words) == texts.of
    assert judge.count_texts(words, result) >= texts.least


@pytest.mark.parametrize(
    ("name", "text"), [("tess_HelloGoogle.tif", "Hello Google"), ("pil_g4_orientation_6.tif", "This is a test file")]
)
def test_single_lines(read, judge, name, text):
    (result,) = read(f"edge/{name}")
    assert [judge.fold(line) for line in result["rec_text"]] == [judge.fold(text)]


def test_no_odd_file_is_left_out():
    covered = {*PASSES, *REFUSED, *BLANK, *SIZES, *SCANS}
    covered |= {"pil_multipage.tiff", "ocrmypdf_linn.png", "tess_HelloGoogle.tif"}
    assert set(read_labels("edge")) == covered


# RapidOCR's tests


def test_rapidocr_promotion(read):
    (result,) = read("rapidocr_tests/ch_en_num.jpg", **RAPIDOCR)
    assert len(result["rec_text"]) == 18
    assert result["rec_text"][0] == "正品促销"


def test_rapidocr_vertical_words(read, judge):
    (result,) = read("rapidocr_tests/text_vertical_words.png", **RAPIDOCR)
    assert len(result["rec_text"]) == 3
    # Their test has 已取之時不參一人見而. An input of this size is computed in windows, where 參 and 見 are read as 参
    # and 见, their simplified forms; as a whole, 而 is read 耐.
    assert judge.fold(result["rec_text"][0]) == "已取之時不参一人见而"
    assert judge.fold(result["rec_text"][1]) == "是非不得問之人要取之"


def test_rapidocr_long_lines(read, judge):
    (result,) = read("rapidocr_tests/test_letterbox_like.jpg", **RAPIDOCR)
    assert len(result["rec_text"]) == 2
    words = read_labels("rapidocr_tests")["test_letterbox_like.jpg"]["words"]
    assert judge.count_texts(words, result) == 2


def test_rapidocr_black_picture(read):
    (result,) = read("rapidocr_tests/empty_black.jpg", **RAPIDOCR)
    assert result["dt_polys"] == []


@pytest.mark.parametrize(
    "name",
    [
        "black_font_color_transparent.png",
        "white_font_color_transparent.png",
        "img_exif_orientation.jpg",
        "issue_170.png",
        "test_without_det.jpg",
        "en.jpg",
        "en_rec.jpg",
    ],
)
def test_rapidocr_pictures_read_as_listed(read, judge, name):
    words = read_labels("rapidocr_tests")[name]["words"]
    (result,) = read(f"rapidocr_tests/{name}", **RAPIDOCR)
    assert judge.count_texts(words, result) == len(words)


# PaddleOCR's demo photos


def test_demo_photos_are_read(read, judge, record_property):
    texts = found = 0
    for name, row in read_labels("paddleocr_imgs").items():
        words = [word for word in row["words"] if not word.get("poly") and not word.get("ignore")]
        (result,) = read(f"paddleocr_imgs/{name}")
        texts += len(words)
        found += judge.count_texts(words, result)
    record_property("figures", f"text_recall {found}/{texts} = {found / texts:.4f}")
    assert texts == 337
    # 315 of 337 (0.9347) measured.
    assert found / texts >= 0.93


@pytest.mark.parametrize("precision", ["fp32", "int16", "int8"])
def test_bundles_read_the_boarding_pass_as_their_models_do(opt, tmp_path, precision):
    from converters.export import export_bundle
    from converters.plan import ExportOptions
    from converters.verify.verify import VerifyOptions, verify_bundle
    from edge_ocr.config import load_config

    options = ExportOptions(precision=precision, verify=False)
    bundle = export_bundle("arm", tmp_path / "bundle", load_config("OCR"), options).out_dir
    report = verify_bundle(bundle, VerifyOptions(truth=DATA / "general_ocr" / "gt.jsonl"))
    assert report.passed, report.failures
    assert report.figures["texts.count"] >= 31
    if precision == "fp32":
        assert report.figures["rec.probs.max_abs_diff"] < 5e-4
        assert report.figures["texts.equal_share"] == 1
