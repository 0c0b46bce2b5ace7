"""Folders of models and dictionaries."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.models import (
    FILES,
    NAME,
    make_folder,
    needs_carrier,
)

from edge_ocr.errors import ModelError
from edge_ocr.models.folder import read_dictionary
from edge_ocr.models.resolve import resolve_model

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.parametrize(
    ("files", "program", "params"),
    [
        (["inference.pdmodel", "inference.pdiparams"], "inference.pdmodel", "inference.pdiparams"),
        (["inference.json", "inference.pdiparams"], "inference.json", "inference.pdiparams"),
        (["inference.pdmodel", "inference.json", "inference.pdiparams"], "inference.pdmodel", "inference.pdiparams"),
        (["inference.onnx"], "inference.onnx", None),
        (["model.pdmodel", "model.pdiparams"], "model.pdmodel", "model.pdiparams"),
        (["best.json", "best.pdiparams", "notes.json"], "best.json", "best.pdiparams"),
        (["det.onnx", "notes.json", "README.md"], "det.onnx", None),
        (["inference.json", "inference.onnx"], "inference.onnx", None),
        (["inference.pdmodel", "inference.pdiparams", "old.pdmodel"], "inference.pdmodel", "inference.pdiparams"),
    ],
)
def test_folder_forms(tmp_path, files, program, params):
    folder = make_folder(tmp_path / "mine", dict.fromkeys(files, b"x"))
    for given in (folder, str(folder)):
        model = resolve_model(given, "det")
        assert (model.name, model.kind, model.source) == ("mine", "det", f"folder {folder}")
        assert model.program == folder / program
        assert model.format == program.rpartition(".")[2]
        assert model.params == (folder / params if params else None)
        assert model.dictionary is None
        assert model.settings == {}


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ([], "mine "),
        (["inference.pdiparams"], "mine "),
        (["notes.json"], "mine "),
        (["inference.pdmodel"], r"inference\.pdmodel.* inference\.pdiparams"),
        (["inference.json"], r"inference\.json.* inference\.pdiparams"),
        (["a.pdmodel"], r"a\.pdmodel.* a\.pdiparams"),
        (["a.pdmodel", "b.pdmodel"], r"a\.pdmodel, b\.pdmodel"),
        (["a.onnx", "b.onnx"], r"a\.onnx, b\.onnx"),
    ],
)
def test_unfit_folders(tmp_path, files, match):
    folder = make_folder(tmp_path / "mine", dict.fromkeys(files, b"x"))
    with pytest.raises(ModelError, match=match) as e:
        resolve_model(folder, "det")
    assert "inference.pdmodel" in e.value.hint


def test_file_in_place_of_a_folder(tmp_path):
    folder = make_folder(tmp_path / "mine", {"inference.onnx": b"x"})
    with pytest.raises(ModelError, match=r"inference\.onnx is a file") as e:
        resolve_model(folder / "inference.onnx", "det")
    assert e.value.hint == f"give {folder}"


def test_registry_name_wins_over_a_folder(tmp_path, monkeypatch, home):
    make_folder(home / "models" / NAME, FILES)
    make_folder(tmp_path / NAME, {"inference.onnx": b"x"})
    monkeypatch.chdir(tmp_path)
    assert resolve_model(NAME, "det").source == f"store {home / 'models' / NAME}"
    assert resolve_model(Path(NAME), "det").format == "onnx"
    assert resolve_model(f"./{NAME}", "det").format == "onnx"


def test_tilde_is_left_to_the_shell(tmp_path, monkeypatch):
    make_folder(tmp_path / "mine", {"inference.onnx": b"x"})
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="~/mine"):
        resolve_model("~/mine", "det")
    make_folder(tmp_path / "~" / "mine", {"inference.onnx": b"x"})
    assert resolve_model("~/mine", "det").program == Path("~/mine/inference.onnx")


# --- dictionaries


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a\nb\n", ("a", "b")),
        (b"a\nb", ("a", "b")),
        (b"a\r\nb\r\n", ("a", "b")),
        (b"\xef\xbb\xbfa\nb\n", ("a", "b")),
        ("a\n \n\u3000\n\u2028\n\x85\n".encode(), ("a", " ", "\u3000", "\u2028", "\x85")),
        (b"a\n\nb\n", ("a", "", "b")),
        (b"a\r\n\r\nb\r\n", ("a", "", "b")),
        (b"a\nb\na\n", ("a", "b", "a")),
        (b"a\n\n\n", ("a", "", "")),
    ],
)
def test_read_dictionary(tmp_path, content, expected):
    path = tmp_path / "dict.txt"
    path.write_bytes(content)
    assert read_dictionary(path) == expected


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"a\n\xff\n", "UTF-8"),
        (None, "No such file"),
    ],
)
def test_unfit_dictionary(tmp_path, content, match):
    path = tmp_path / "dict.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=match) as e:
        read_dictionary(path)
    assert str(path) in e.value.message


def test_dictionary_order(tmp_path):
    folder = make_folder(
        tmp_path / "mine",
        {**FILES, "inference.yml": "PostProcess: {character_dict: [y]}", "dict.txt": "d\n", "my_keys.txt": "k\n"},
    )
    (tmp_path / "given.txt").write_text("g\n")
    assert resolve_model(folder, "rec", dictionary_path=tmp_path / "given.txt").dictionary == ("g",)
    assert resolve_model(folder, "rec").dictionary == ("y",)
    (folder / "inference.yml").unlink()
    assert resolve_model(folder, "rec").dictionary == ("d",)
    (folder / "dict.txt").unlink()
    (folder / "README.txt").write_text("no dictionary\n")
    assert resolve_model(folder, "rec").dictionary == ("k",)
    (folder / "en_dict.txt").write_text("e\n")
    with pytest.raises(ModelError, match=r"en_dict\.txt, my_keys\.txt"):
        resolve_model(folder, "rec")


def encode_field(number: int, content: bytes) -> bytes:
    def encode(value: int) -> bytes:
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + encode(value >> 7)

    return encode(number << 3 | 2) + encode(len(content)) + content


def make_onnx(metadata: dict[str, str]) -> bytes:
    """An ONNX model of one Identity node, as protobuf: the onnx package is not needed."""
    tensor_type = encode_field(1, b"\x08\x01" + encode_field(2, encode_field(1, b"\x08\x01")))
    value = {name: encode_field(1, name.encode()) + encode_field(2, tensor_type) for name in ("x", "y")}
    node = encode_field(1, b"x") + encode_field(2, b"y") + encode_field(4, b"Identity")
    graph = encode_field(1, node) + encode_field(2, b"g") + encode_field(11, value["x"]) + encode_field(12, value["y"])
    pairs = [encode_field(1, key.encode()) + encode_field(2, text.encode()) for key, text in metadata.items()]
    return (
        b"\x08\x08"
        + encode_field(7, graph)
        + encode_field(8, b"\x10\x0d")
        + b"".join(encode_field(14, p) for p in pairs)
    )


def test_dictionary_from_onnx_metadata(tmp_path):
    pytest.importorskip("onnxruntime")
    folder = make_folder(tmp_path / "mine", {"inference.onnx": make_onnx({"character": "a\n \n疗\n"})})
    assert resolve_model(folder, "rec").dictionary == ("a", " ", "疗")


@needs_carrier
def test_onnx_without_characters(tmp_path):
    pytest.importorskip("onnxruntime")
    folder = make_folder(tmp_path / "mine", {"inference.onnx": make_onnx({"other": "x"})})
    assert len(resolve_model(folder, "rec").dictionary) == 6623


def test_invalid_onnx(tmp_path):
    pytest.importorskip("onnxruntime")
    folder = make_folder(tmp_path / "mine", {"inference.onnx": b"garbage"})
    with pytest.raises(ModelError, match=r"inference\.onnx"):
        resolve_model(folder, "rec")


def test_onnx_without_onnxruntime(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    folder = make_folder(tmp_path / "mine", {"inference.onnx": make_onnx({"character": "a\n"})})
    assert resolve_model(folder, "rec").dictionary == ("a",)
