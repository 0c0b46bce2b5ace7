"""Turned pages with the real page classifier: pictures that were published turned, and others turned here."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import cv2
import pytest

from edge_ocr.core.page import turn_upright
from edge_ocr.errors import ModelError
from edge_ocr.models.resolve import resolve_model

VARIABLE = "EDGE_OCR_TEST_DATA"
DATA = Path(os.environ.get(VARIABLE) or Path(__file__).parents[3] / "shared" / "data")

pytestmark = [
    pytest.mark.skipif(not (DATA / "README.md").is_file(), reason=f"no shared test data ({VARIABLE})"),
    pytest.mark.slow,
]

# How far the page is turned, as published.
PUBLISHED = {"det_0.jpg": 0, "det_90.jpg": 90, "det_180.jpg": 180, "det_270.jpg": 270, "11.jpg": 0, "img_10.jpg": 0}


@pytest.fixture(scope="module")
def pipeline(open_pipeline, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_OCR_HOME", str(tmp_path_factory.mktemp("home")))
        try:
            model = resolve_model("PP-LCNet_x1_0_doc_ori", "page")
        except ModelError as error:
            # Without a network, the weights are not on this machine.
            pytest.skip(f"the page classifier cannot be fetched: {error.message}")
    return open_pipeline(
        "openvino", Pipeline__use_page_orientation=True, Pipeline__page_orientation_model=str(model.program.parent)
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_lines_of_a_turned_page_are_those_of_the_upright_one(pipeline, name):
    image = turn_upright(cv2.imread(str(DATA / "paddleocr_imgs" / name)), PUBLISHED[name] // 90)
    upright = Counter(next(pipeline.predict(image))["rec_text"])
    assert upright
    for turns in range(4):
        # A picture turned upright by 4 - n quarters is turned by n.
        result = next(pipeline.predict(turn_upright(image, -turns % 4)))
        assert result["page_angle"] == 90 * turns
        # Measured: all.
        assert (Counter(result["rec_text"]) & upright).total() >= 0.95 * upright.total()


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_angle_is_found(pipeline, name):
    assert next(pipeline.predict(DATA / "paddleocr_imgs" / name))["page_angle"] == PUBLISHED[name]
