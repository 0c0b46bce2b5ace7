"""Inputs of `predict`, and how results are named after them; the pictures are synthetic."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.pictures import (
    EXPECTED,
    PNG,
    SETTINGS,
    decode,
    encode,
    list_all,
    make_picture,
)

from edge_ocr.errors import InputError
from edge_ocr.inputs import Source, list_sources, name_source


def test_path_and_text_name_a_file(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode(make_picture()))
    for value in (path, str(path)):
        (source,) = list_all(value)
        assert source.input_path == str(path)
        (page,) = source.pages(SETTINGS)
        np.testing.assert_array_equal(page.image, EXPECTED)
        assert page.page_index is None


def test_folder_gives_its_pictures_by_name_and_nothing_else(tmp_path):
    for name in ("b.PNG", "a.jpg", "c.tiff", "d.pdf", "notes.txt", "no_suffix", ".hidden"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "e.png").write_bytes(b"x")
    found = [Path(source.input_path).name for source in list_all(tmp_path)]
    assert found == ["a.jpg", "b.PNG", "c.tiff", "d.pdf"]


def test_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=re.escape(str(tmp_path))) as error:
        list_all(tmp_path)
    assert ".png" in error.value.hint


@pytest.mark.parametrize("name", ["missing.png", "a\0b.png", "ftp://host/a.png", "file:///a.png"])
def test_missing_file_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=re.escape(name)):
        list_all(name)


def test_name_that_the_file_system_refuses():
    with pytest.raises(InputError, match=r"a{5000} "):
        list_all("a" * 5000)


@pytest.mark.parametrize("value", ["http://host/a.png", "HTTPS://host/a.png"])
def test_url_is_not_fetched_until_it_is_read(value):
    (source,) = list_all(value)
    assert (source.data, source.input_path) == (value, value)


def test_arrays_bytes_dicts_and_lists_of_these(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode(make_picture()))
    array = np.zeros((2, 2, 3), np.uint8)
    given = [array, {"img": array}, path, [str(path), (b"bytes", {"img": [array, path]})]]
    found = [source.input_path for source in list_all(iter(given))]
    assert found == [None, None, str(path), str(path), None, None, str(path)]
    assert list_all([]) == []


def test_a_generator_is_consumed_only_as_needed(tmp_path):
    def give() -> Iterator[np.ndarray]:
        yield np.zeros((2, 2), np.uint8)
        raise AssertionError("walked on")

    assert next(list_sources(give())).input_path is None


@pytest.mark.parametrize("value", [None, 3, 1.5, object(), [None], {"img": None}])
def test_other_types_are_refused(value):
    with pytest.raises(InputError, match="cannot read"):
        list_all(value)


@pytest.mark.parametrize("convert", [bytes, bytearray, memoryview, lambda content: memoryview(bytearray(content))])
def test_bytes_of_every_type_are_a_file(convert):
    (source,) = list_all(convert(encode(make_picture())))
    assert source.input_path is None
    (page,) = source.pages(SETTINGS)
    np.testing.assert_array_equal(page.image, EXPECTED)


def test_bytes_may_change_once_they_are_listed():
    content = bytearray(encode(make_picture()))
    (source,) = list_all(content)
    content[:] = bytes(len(content))
    (page,) = source.pages(SETTINGS)
    np.testing.assert_array_equal(page.image, EXPECTED)


class Named:
    """A path-like object of another library."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


def test_any_path_like_object_is_a_path(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    (entry,) = os.scandir(tmp_path)
    for value in (Named(path), entry, [Named(path)]):
        (source,) = list_all(value)
        assert (source.data, source.input_path) == (path, str(path))
    assert [source.input_path for source in list_all(Named(tmp_path))] == [str(path)]


def test_open_file_is_read_from_its_position_and_left_open(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"head" + PNG)
    with path.open("rb") as file:
        file.seek(4)
        (source,) = list_all(file)
        assert source.input_path == str(path)
        (page,) = source.pages(SETTINGS)
        np.testing.assert_array_equal(page.image, EXPECTED)
        assert not file.closed
    for named in (tempfile.NamedTemporaryFile, tempfile.SpooledTemporaryFile, tempfile.TemporaryFile):
        with named() as file:
            file.write(PNG)
            file.seek(0)
            (source,) = list_all({"img": file})
            assert source.input_path == (file.name if named is tempfile.NamedTemporaryFile else None)
            (page,) = source.pages(SETTINGS)
            np.testing.assert_array_equal(page.image, EXPECTED)


@pytest.mark.parametrize("name", [None, 3, "<stdin>", "upload.png", "a\0b", "n" * 5000], ids=str)
def test_file_in_memory_has_no_path(name):
    buffer = io.BytesIO(PNG)
    if name is not None:
        buffer.name = name
    (source,) = list_all([buffer])
    assert source.input_path is None
    (page,) = source.pages(SETTINGS)
    np.testing.assert_array_equal(page.image, EXPECTED)
    assert not buffer.closed


def refuse_stream(stream: object) -> InputError:
    (source,) = list_all(stream)
    with pytest.raises(InputError) as error:
        list(source.pages(SETTINGS))
    return error.value


def test_file_open_as_text_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    with path.open() as file:
        error = refuse_stream(file)
    assert error.message.startswith(f"{path} ")
    assert 'open(path, "rb")' in error.hint
    assert 'open(path, "rb")' in refuse_stream(io.StringIO("text")).hint
    with tempfile.NamedTemporaryFile("w+", encoding="utf-8") as wrapped:
        Path(wrapped.name).write_bytes(PNG)
        assert 'open(path, "rb")' in refuse_stream(wrapped).hint
        Path(wrapped.name).write_bytes(b"ascii")
        wrapped.seek(0)
        assert "str" in refuse_stream(wrapped).message


def test_file_that_cannot_be_read_is_refused(tmp_path):
    buffer = io.BytesIO()
    assert "0 bytes" in refuse_stream(buffer).message
    buffer.write(PNG)
    # At the position where the writer left it.
    error = refuse_stream(buffer)
    assert "seek(0)" in error.hint
    buffer.close()
    assert "closed" in refuse_stream(buffer).message
    with (tmp_path / "new.png").open("wb") as file:
        assert "read" in refuse_stream(file).message


PILLOW_FORMS: dict[str, Callable[[], Image.Image]] = {
    "RGB": make_picture,
    "RGBA": lambda: Image.merge("RGBA", [*make_picture().split(), make_picture().convert("L")]),
    "L": lambda: make_picture().convert("L"),
    "1": lambda: make_picture().convert("1"),
    "P": lambda: make_picture().quantize(8),
    "LA": lambda: make_picture().convert("LA"),
    "CMYK": lambda: make_picture().convert("CMYK"),
    "12 of 16 bits": lambda: Image.fromarray(np.linspace(0, 4095, 800).astype(np.uint16).reshape(20, 40)),
}


@pytest.mark.parametrize("name", PILLOW_FORMS)
@pytest.mark.parametrize("is_file", [False, True], ids=["in memory", "lazily opened"])
def test_pillow_image_is_read_like_its_file(name, is_file):
    content = encode(PILLOW_FORMS[name](), "TIFF" if name == "CMYK" else "PNG")
    picture = Image.open(io.BytesIO(content)) if is_file else PILLOW_FORMS[name]()
    before = (picture.mode, picture.size, picture.tobytes())
    (source,) = list_all({"img": picture})
    assert source.input_path is None
    (page,) = source.pages(SETTINGS)
    np.testing.assert_array_equal(page.image, decode(content))
    assert (picture.mode, picture.size, picture.tobytes()) == before


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
def test_pillow_image_is_turned_and_the_callers_is_not(file_format):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encode(make_picture(), file_format, exif=exif)
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        before = (picture.size, picture.getexif().get(0x0112), picture.tobytes())
        for _ in range(2):
            (page,) = list_all(picture)[0].pages(SETTINGS)
            np.testing.assert_array_equal(page.image, decode(content))
        assert page.image.shape == (40, 20, 3)
        assert (picture.size, picture.getexif().get(0x0112), picture.tobytes()) == before


def test_bad_pillow_image_is_refused():
    for picture, limits, words in (
        (Image.fromarray(np.zeros((4, 4), np.float32)), {}, "floating-point"),
        (make_picture(), {"max_pixels": 799}, "799 pixels"),
        (Image.open(io.BytesIO(PNG[: len(PNG) // 2])), {}, "truncated"),
        (Image.new("RGB", (0, 5)), {}, "0×5"),
        (Image.new("RGBA", (5, 0)), {}, "5×0"),
    ):
        (source,) = list_all(picture)
        with pytest.raises(InputError, match=words):
            list(source.pages(replace(SETTINGS, **limits)))


@pytest.mark.parametrize("value", ["", [""], {"img": ""}], ids=str)
def test_empty_path_is_not_the_current_folder(tmp_path, monkeypatch, value):
    (tmp_path / "a.png").write_bytes(encode(make_picture()))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="empty"):
        list_all(value)


def test_tilde_is_left_to_the_shell(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(encode(make_picture()))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"~/a\.png"):
        list_all("~/a.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_named_pipe_is_refused_and_not_waited_for(tmp_path):
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    outcome: list[object] = []

    def read() -> None:
        try:
            outcome.extend(next(list_sources(path)).pages(SETTINGS))
        except InputError as error:
            outcome.append(error.message)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(10)
    assert outcome == [f"{path} is not a regular file"]


def test_file_and_stream_above_the_limit_are_refused(tmp_path):
    content = encode(make_picture())
    path = tmp_path / "a.png"
    path.write_bytes(content)

    def read(data: Path | io.BytesIO, limit: int) -> np.ndarray:
        (page,) = Source(data, str(path)).pages(replace(SETTINGS, max_file_bytes=limit))
        return page.image

    for give in (lambda: path, lambda: io.BytesIO(content)):
        np.testing.assert_array_equal(read(give(), len(content)), EXPECTED)
        with pytest.raises(InputError, match=re.escape(str(path))) as error:
            read(give(), len(content) - 1)
        assert error.value.message.startswith(str(path))
        assert "Input.max_file_mb" in error.value.hint


@pytest.mark.parametrize("value", [{}, {"image": b"x"}, {"img": b"x", "other": 1}])
def test_dict_with_other_keys_is_refused(value):
    with pytest.raises(InputError, match='"img"'):
        list_all(value)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (None, "image"),
        ("-", "stdin"),
        ("a/-", "-"),
        ("a/b/photo.jpg", "photo"),
        ("a.tar.gz", "a.tar"),
        ("http://host/a/photo.jpg?size=/x/y.png#z", "photo"),
        ("http://host/", "image"),
        ("http://host", "image"),
        ("https://host/%E7%85%A7%E7%89%87.png", "照片"),
        ("http://host/a%20b.png", "a_b"),
        ("http://[::1/a.png", "image"),
    ],
)
def test_results_are_named_after_their_input(given, name):
    assert name_source(given) == name


@pytest.mark.parametrize(
    "path", ["..", "../../x", "a/../..", "\\..\\x", ".bashrc", "a\0b", "/etc/passwd", "x" * 3, ". ."]
)
def test_no_url_leads_outside_the_folder(path):
    name = name_source("http://host/" + urllib.parse.quote(path, safe=""))
    assert name
    assert not set(name) & set("/\\\0")
    assert not name.startswith(".")


_DECODE = """
import sys
from pathlib import Path
from edge_ocr.config import load_config
from edge_ocr.inputs import list_sources

def read_peak():
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

(source,) = list_sources(sys.argv[1])
before = read_peak()
(page,) = source.pages(load_config().input)
print(page.image.nbytes, read_peak() - before, *page.image[-1, -1])
"""


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_large_picture_takes_little_more_memory_than_its_pixels(tmp_path, suffix):
    """Pillow needs four bytes per pixel, the result three; copies of the whole picture would double that."""
    path = tmp_path / f"large.{suffix}"
    image = np.full((6000, 5000, 3), (255, 128, 0), np.uint8)
    Image.fromarray(image).save(path)
    done = subprocess.run([sys.executable, "-c", _DECODE, path], capture_output=True, text=True, check=True)
    size, peak, *pixel = map(int, done.stdout.split())
    assert size == image.nbytes
    assert np.allclose(pixel[::-1], image[-1, -1], atol=2)
    assert peak < 2.7 * size
