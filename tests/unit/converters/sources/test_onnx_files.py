"""External data of ONNX models, and wrong sizes."""

from __future__ import annotations

import os
import re
import shutil
import stat

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.onnx_models import f32, i64, make, one, weights

from converters.sources import list_source_files
from converters.sources.onnx import import_onnx
from edge_ocr.errors import ModelError
from edge_ocr.models.resolve import resolve_model


@pytest.mark.parametrize("missing", [True, False])
def test_external_data_is_read_or_missed(tmp_path, missing):
    source = make(one("Conv", "w"), {"w": weights(64, 4, 3, 3)}, path=tmp_path / "m.onnx")
    model = onnx.load(source)
    onnx.save(model, source, save_as_external_data=True, location="m.data", size_threshold=0)
    if not missing:
        assert import_onnx(source).ops
        found = resolve_model(tmp_path, "det")
        assert list_source_files(found) == {"m.onnx": source, "m.data": tmp_path / "m.data"}
        return
    (tmp_path / "m.data").unlink()
    with pytest.raises(ModelError, match=r"m\.data") as caught:
        import_onnx(source)
    assert "one folder" in (caught.value.hint or "")


def make_external(folder, *, place="initializer", location="m.data", offset="0", length=None, dims=(6, 4, 3, 3)):
    """Write a model whose filters are declared to be in another file, and return its path."""
    folder.mkdir(exist_ok=True)
    value = weights(6, 4, 3, 3)
    (folder / "m.data").write_bytes(value.tobytes())
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    said = {"location": location, "offset": offset, "length": str(value.nbytes) if length is None else length}
    for key, text in said.items():
        tensor.external_data.add(key=key, value=text)
    source = make(one("Conv", "w"), {} if place == "attribute" else {"w": value}, path=folder / "m.onnx")
    model = onnx.load(source)
    if place == "initializer":
        model.graph.initializer[0].CopyFrom(tensor)
    elif place == "attribute":
        model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    elif place == "subgraph":
        inner = helper.make_graph([], "inner", [], [], [tensor])
        model.graph.node[0].attribute.append(helper.make_attribute("body", inner))
    elif place == "function":
        node = helper.make_node("Constant", [], ["w"], value=tensor)
        function = helper.make_function("ours", "F", [], ["w"], [node], [helper.make_opsetid("", 13)])
        model.functions.append(function)
    elif place == "sparse":
        model.graph.sparse_initializer.add(values=tensor, dims=[10])
    source.write_bytes(model.SerializeToString())
    return source


def refuse_external(source, words):
    with pytest.raises(ModelError, match=words) as caught:
        import_onnx(source)
    assert str(source) in caught.value.message
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("place", ["initializer", "attribute"])
def test_external_data_belongs_to_the_model(tmp_path, place):
    program = import_onnx(make_external(tmp_path, place=place))
    assert program.params["w"].tobytes() == (tmp_path / "m.data").read_bytes()


@pytest.mark.parametrize("location", ["./m.data", "inner/m.data", "inner//m.data"])
def test_external_data_may_be_in_a_subfolder(tmp_path, location):
    source = make_external(tmp_path, location=location)
    (tmp_path / "inner").mkdir()
    shutil.copy(tmp_path / "m.data", tmp_path / "inner")
    assert import_onnx(source).ops


@pytest.mark.parametrize("place", ["initializer", "attribute", "subgraph", "function"])
@pytest.mark.parametrize(
    "location",
    ["../m.data", "inner/../../m.data", "inner/../m.data", "{}/m.data", "..", ".", "", "..\\m.data", "a\0b", "m\ndata"],
)
def test_external_data_outside_of_its_folder(tmp_path, place, location):
    (tmp_path / "model" / "inner").mkdir(parents=True)
    source = make_external(tmp_path / "model", place=place, location=location.format(tmp_path))
    (tmp_path / "m.data").write_bytes((tmp_path / "model" / "m.data").read_bytes())
    error = refuse_external(source, rf"tensor 'w': .*{re.escape(repr(location.format(tmp_path)))}")
    assert "not as links" in error.hint


@pytest.mark.parametrize("place", ["initializer", "attribute", "subgraph", "function"])
@pytest.mark.parametrize("trick", ["link", "link inside", "folder", "hard link", "pipe", "device", "directory"])
def test_external_data_that_is_not_a_regular_file(tmp_path, place, trick):
    folder = tmp_path / "model"
    source = make_external(folder, place=place, location="inner/m.data" if trick == "folder" else "m.data")
    data, outside = folder / "m.data", tmp_path / "outside" / "m.data"
    outside.parent.mkdir()
    data.rename(outside)
    if trick == "link":
        data.symlink_to(outside)
    elif trick == "link inside":
        shutil.copy(outside, folder / "other.data")
        data.symlink_to("other.data")
    elif trick == "folder":
        (folder / "inner").symlink_to(outside.parent, target_is_directory=True)
    elif trick == "hard link":
        data.hardlink_to(outside)
    elif trick == "pipe":
        os.mkfifo(data)
    elif trick == "directory":
        data.mkdir()
    else:
        source = make_external(folder, place=place, location="zero")
        try:
            os.mknod(folder / "zero", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
            (folder / "zero").open("rb").close()
        except OSError:
            pytest.skip("no devices can be made here")
    refuse_external(source, r"tensor 'w': (inner/)?(m\.data|zero): ")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"offset": "4"}, "4.*868.*ends.*864"),
        ({"offset": "9223372036854775807"}, "ends.*864"),
        ({"offset": "-4"}, "offset '-4'"),
        ({"offset": " 0"}, "offset ' 0'"),
        ({"offset": "1_0"}, "offset '1_0'"),
        ({"offset": "9" * 5000}, "offset.*9999"),
        ({"length": "-864"}, "length '-864'"),
        ({"length": "9223372036854775807"}, r"9223372036854775807.*m\.data.*864.*\[6, 4, 3, 3\]"),
        ({"length": "863"}, "863.*m.data.*864"),
        ({"length": "0"}, "0.*m.data.*864"),
        ({"length": "x"}, "length 'x'"),
        ({"dims": (6, 4, 3, 4)}, "864.*m.data.*1152"),
        ({"dims": (-1, 4)}, r"\[-1, 4\]"),
        ({"dims": (1 << 62, 1 << 62), "length": str(1 << 60)}, "8507"),
        ({"dims": (1 << 40,), "length": str(1 << 42)}, "ends.*864"),
    ],
)
def test_sizes_of_external_data(tmp_path, said, words):
    refuse_external(make_external(tmp_path, **said), f"tensor 'w': .*{words}")


def test_external_data_with_duplicate_keys(tmp_path):
    source = make_external(tmp_path)
    model = onnx.load(source, load_external_data=False)
    model.graph.initializer[0].external_data.add(key="location", value="/etc/hostname")
    source.write_bytes(model.SerializeToString())
    refuse_external(source, "tensor 'w': ")


@pytest.mark.parametrize("spell", [lambda name, number: name, lambda name, number: "./" * number + name])
@pytest.mark.parametrize(("count", "is_refused"), [(3, False), (40, True)])
def test_tensors_may_share_a_file_but_not_multiply_memory(tmp_path, count, is_refused, spell):
    source = make_external(tmp_path)
    model = onnx.load(source, load_external_data=False)
    for number in range(1, count):
        other = model.graph.initializer.add()
        other.CopyFrom(model.graph.initializer[0])
        other.name = f"w{number}"
        entry = next(entry for entry in other.external_data if entry.key == "location")
        entry.value = spell(entry.value, number)
    source.write_bytes(model.SerializeToString())
    if is_refused:
        with pytest.raises(ModelError, match=r"4320.*864"):
            import_onnx(source)
    else:
        assert import_onnx(source).ops


@pytest.mark.parametrize("place", ["initializer", "values"])
def test_sparse_tensors_are_refused(tmp_path, place):
    """The dense form of a few bytes may fill the memory."""
    source = make(one("Mul", "c"), {"c": f32(1)}, path=tmp_path / "m.onnx")
    model = onnx.load(source)
    values, indices = numpy_helper.from_array(f32(1), "s"), numpy_helper.from_array(i64(0), "i")
    sparse = helper.make_sparse_tensor(values, indices, [1 << 40])
    if place == "initializer":
        model.graph.sparse_initializer.append(sparse)
    else:
        model.graph.node.insert(0, helper.make_node("Constant", [], ["d"], sparse_value=sparse))
    source.write_bytes(model.SerializeToString())
    refuse_external(source, "sparse tensor 's': ")


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (TensorProto(data_type=1, dims=[1 << 40], raw_data=b"abcd"), "4.*4398046511104"),
        (TensorProto(data_type=1, dims=[2], raw_data=b"abcd"), "4.*8"),
        (TensorProto(data_type=1, dims=[-1], raw_data=b"abcd"), "a negative dimension"),
        (TensorProto(data_type=1, dims=[1 << 40], float_data=[1]), "1.*1099511627776"),
        (TensorProto(data_type=7, dims=[3], int64_data=[1]), "1.*3"),
        (TensorProto(data_type=1, dims=[3], int64_data=[1, 2, 3]), "0.*3"),
        (TensorProto(data_type=0, dims=[1], raw_data=b"abcd"), "0"),
        (TensorProto(data_type=8, dims=[1], raw_data=b"abcd"), "8"),
        (TensorProto(data_type=99, dims=[1], raw_data=b"abcd"), "99"),
    ],
)
@pytest.mark.parametrize("place", ["initializer", "attribute"])
def test_a_tensor_with_a_mismatched_size(tmp_path, tensor, words, place):
    source = make(one("Mul", "c"), {"c": f32(1)}, path=tmp_path / "m.onnx")
    model = onnx.load(source)
    tensor.name = "c"
    if place == "initializer":
        model.graph.initializer[0].CopyFrom(tensor)
    else:
        model.graph.node.insert(0, helper.make_node("Constant", [], ["d"], value=tensor))
    source.write_bytes(model.SerializeToString())
    refuse_external(source, f"tensor 'c': .*{words}")
