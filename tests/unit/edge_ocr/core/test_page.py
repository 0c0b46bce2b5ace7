"""Page orientation: the classifier's input, its decision, what lines choose, and the way back to the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_ocr.config import load_config
from edge_ocr.core.charset import Charset
from edge_ocr.core.page import PageClassifier, prepare_page, turn_back, turn_upright
from edge_ocr.core.pipeline import TextReader, choose_turns

CONFIG = load_config("OCR")
SETTINGS = CONFIG.page_orientation
ACROSS = np.float32([[0, 0], [90, 0], [90, 20], [0, 20]])
DOWN = np.float32([[0, 0], [20, 0], [20, 70], [0, 70]])


class Fixed:
    """An engine that returns its outputs in turn, the last one again and again."""

    name = "fixed"

    def __init__(self, *outputs):
        self.outputs = [np.asarray(output, np.float32) for output in outputs]
        self.shapes = []

    def run(self, array):
        self.shapes.append(array.shape)
        return self.outputs[0] if len(self.outputs) == 1 else self.outputs.pop(0)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3), (224, 224), (300, 200), (30000, 4)], ids=str)
def test_input_has_one_size(size):
    image = np.full((*size, 3), (255, 128, 0), np.uint8)
    found = prepare_page(image, SETTINGS)
    assert (found.shape, found.dtype) == ((1, 3, 224, 224), np.float32)
    # Red comes first.
    for channel, value in enumerate((0, 128 / 255, 1)):
        wanted = (value - SETTINGS.mean[channel]) / SETTINGS.std[channel]
        np.testing.assert_allclose(found[0, channel], wanted, atol=1e-5)


def test_input_is_the_middle_of_the_picture():
    image = np.zeros((100, 200, 3), np.uint8)
    # Bilinear scaling reaches one pixel further.
    image[:, 49:151] = 255
    found = prepare_page(image, replace(SETTINGS, resize_short=224))
    assert found[0, 0].min() == found[0, 0].max() > 0


@pytest.mark.parametrize("turns", range(4))
def test_turning_and_mapping_back_are_inverse(turns):
    image = np.zeros((30, 50, 3), np.uint8)
    # A mark whose corners are those of a polygon: x from 8 to 20, y from 5 to 9.
    image[5:9, 8:20] = 255
    upright = turn_upright(image, turns)
    ys, xs = np.nonzero(upright[:, :, 0])
    left, top, right, bottom = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
    polygon = np.float32([[left, top], [right, top], [right, bottom], [left, bottom]])
    back = turn_back(polygon, turns, 30, 50)
    assert sorted(map(tuple, back.tolist())) == [(8, 5), (8, 9), (20, 5), (20, 9)]
    # The first corner stays the one where the line begins.
    assert back[0].tolist() == [[8, 5], [20, 5], [20, 9], [8, 9]][turns]


@pytest.mark.parametrize(
    ("probs", "turns", "is_certain"),
    [((0.9, 0.1, 0, 0), 0, True), ((0.1, 0, 0, 0.9), 3, True), ((0.1, 0.2, 0.7, 0), 2, False)],
)
def test_classifier_is_certain_above_the_threshold(probs, turns, is_certain):
    assert PageClassifier(Fixed([probs]), SETTINGS).find_turns(np.zeros((9, 9, 3), np.uint8)) == (turns, is_certain)


@pytest.mark.parametrize(
    ("lines", "turns"),
    [
        ([], None),
        ([(ACROSS, 0.9, 0.3)], 0),
        ([(ACROSS, 0.3, 0.9)], 2),
        ([(DOWN, 0.9, 0.3)], 1),
        ([(DOWN, 0.3, 0.9)], 3),
        ([(ACROSS, 0.9, 0.85)], None),
        ([(ACROSS, 0.4, 0.1)], None),
        ([(ACROSS, 0.9, 0.7), (DOWN, 0.3, 0.9)], 3),
    ],
)
def test_lines_that_read_clearly_better_one_way_choose(lines, turns):
    assert choose_turns([line[0] for line in lines], [line[1:] for line in lines], 0.5) == turns


def read_turned(probs, *scores):
    """Read a picture of 128 × 96 px with one line across its upright page; `scores`: of each reading of a line."""
    prob_map = np.zeros((1, 1, 128, 96), np.float32)
    prob_map[0, 0, 56:72, 16:80] = 1
    det = Fixed(prob_map)
    rec = Fixed(*([[[0, score, 0]]] if score else [[[1, 0, 0]]] for score in scores))
    config = CONFIG.with_values({"Pipeline.text_rec_batch_size": 1}, "test")
    reader = TextReader.build({"det": det, "rec": rec, "page": Fixed([probs])}, Charset(("", "a", "b")), config)
    return reader.read(np.zeros((128, 96, 3), np.uint8)), det


def test_a_page_that_is_certainly_upright_costs_one_detection():
    reading, det = read_turned((0.9, 0.1, 0, 0), 0.9)
    assert (reading.page_angle, len(det.shapes), [line.text for line in reading.lines]) == (0, 1, ["a"])


def test_an_uncertain_page_is_read_both_ways():
    reading, det = read_turned((0.5, 0.1, 0.4, 0), 0.9, 0, 0.9)
    assert (reading.page_angle, len(det.shapes)) == (0, 1)
    reading, det = read_turned((0.5, 0.1, 0.4, 0), 0, 0.9, 0.9)
    assert (reading.page_angle, len(det.shapes)) == (180, 2)
    top_left, _, bottom_right, _ = reading.lines[0].polygon
    assert (top_left > bottom_right).all()


def test_a_page_found_turned_is_checked():
    reading, det = read_turned((0, 0, 0.93, 0.07), 0.9, 0, 0.9)
    assert (reading.page_angle, len(det.shapes)) == (180, 1)
    reading, det = read_turned((0, 0, 0.93, 0.07), 0, 0.9, 0.9)
    assert (reading.page_angle, len(det.shapes)) == (0, 2)


def test_without_a_legible_line_the_picture_stays_as_it_is():
    reading, det = read_turned((0, 0, 0.93, 0.07), 0)
    assert (reading.page_angle, len(det.shapes), reading.lines) == (0, 2, [])
    assert "page_orientation" in reading.timings_ms


def test_the_angle_is_in_the_json_only_if_it_was_examined(read_example):
    reading, _ = read_turned((0, 0, 0.93, 0.07), 0.9, 0, 0.9)
    assert reading.describe(None)["page_angle"] == 180
    assert "page_angle" not in read_example("sign.png")
