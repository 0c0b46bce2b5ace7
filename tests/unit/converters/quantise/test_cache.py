"""Measurements are kept between searches."""

from dataclasses import replace

import numpy as np
import pytest
from support.nb_programs import build_model, draw, feed, fetch, make_op

from converters.quantise.cache import open_cache
from converters.quantise.pictures import read_calibration
from edge_ocr.config import load_config
from edge_ocr.core.charset import Charset

CONFIG = load_config("OCR")
CHARSET = Charset(("", "a"))


def build(seed):
    return {
        "rec": build_model(
            [feed("x"), make_op("relu", {"X": "x"}, {"Out": "y"}), fetch("y")],
            {"x": (-1, 3, -1, -1)},
            {"w": draw(2, seed=seed)},
        )
    }


@pytest.fixture
def calibration():
    return read_calibration((), CONFIG.input)


@pytest.fixture
def store(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path))
    return tmp_path / "quantise"


def measure(models, calibration, value):
    with open_cache(models, CONFIG, CHARSET, calibration) as cache:
        return cache.get_number("key", lambda: value)


def test_known_measurements_are_not_made_again(store, calibration):
    assert measure(build(1), calibration, 1.5) == 1.5
    assert measure(build(1), calibration, 2.5) == 1.5
    # Other weights, or other pictures.
    assert measure(build(2), calibration, 3.5) == 3.5
    fewer = replace(calibration, pictures=calibration.pictures[1:])
    assert measure(build(1), fewer, 4.5) == 4.5
    assert len(list(store.iterdir())) == 3


def test_a_failure_keeps_what_was_measured(store, calibration):
    def fail():
        with open_cache(build(1), CONFIG, CHARSET, calibration) as cache:
            cache.get_number("key", lambda: 1.5)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert measure(build(1), calibration, 2.5) == 1.5


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b"PK\3\4" * 100])
def test_a_damaged_cache_is_as_none(store, calibration, content):
    measure(build(1), calibration, 1.5)
    (path,) = store.iterdir()
    path.write_bytes(content)
    assert measure(build(1), calibration, 2.5) == 2.5
    assert measure(build(1), calibration, 3.5) == 2.5


def test_a_store_that_cannot_be_written_costs_time_only(monkeypatch, tmp_path, calibration):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path / "file"))
    assert measure(build(1), calibration, 1.5) == 1.5
    assert measure(build(1), calibration, 2.5) == 2.5


def test_an_array_of_another_shape_or_type_is_made_again(store, calibration):
    with open_cache(build(1), CONFIG, CHARSET, calibration) as cache:
        cache.get("key", lambda: np.zeros(3), (3,), np.float32)
    for shape, dtype in (((4,), np.float32), ((4,), np.int8)):
        with open_cache(build(1), CONFIG, CHARSET, calibration) as cache:
            found = cache.get("key", lambda shape=shape: np.ones(shape), shape, dtype)
        assert (found.shape, found.dtype, found.min()) == (shape, dtype, 1)


def test_old_files_go(store, calibration, monkeypatch):
    monkeypatch.setattr("converters.quantise.cache._MAX_FILES", 2)
    for seed in range(4):
        measure(build(seed), calibration, 1.5)
    assert len(list(store.iterdir())) == 2
