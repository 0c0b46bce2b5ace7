import struct
import subprocess
import sys

import numpy as np
import pytest

from converters.sources.program import (
    Port,
    get_attr,
    get_input,
    get_output,
    load_framework_pb2,
    read_program,
    read_signature,
    set_attr,
)
from edge_ocr.errors import ModelError
from edge_ocr.models.resolve import resolve_model


@pytest.fixture(scope="module")
def det_program():
    return resolve_model("PP-OCRv4_mobile_det", "det").program


def test_signatures_of_the_shipped_models(det_program):
    det = read_signature(det_program)
    assert det.inputs == (Port("x", (-1, 3, -1, -1), "float32"),)
    assert det.outputs == (Port("sigmoid_0.tmp_0", (-1, 1, -1, -1), "float32"),)
    rec = read_signature(resolve_model("PP-OCRv4_mobile_rec", "rec").program)
    assert rec.inputs[0].shape == (-1, 3, 48, -1)
    assert rec.outputs[0].shape == (-1, -1, 6625)


def test_paddle_is_not_imported_and_can_be_later():
    code = (
        "import sys; from converters.sources.program import load_framework_pb2; ours = load_framework_pb2();"
        "assert 'paddle' not in sys.modules;"
        "import paddle.base.proto.framework_pb2 as theirs;"
        "program = theirs.ProgramDesc(); program.blocks.add(idx=0, parent_idx=-1);"
        "ours.ProgramDesc.FromString(program.SerializeToString())"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("content", [b"", b"not a program", b"\x0a\xff\xff"])
def test_an_invalid_program_is_refused(tmp_path, content):
    path = tmp_path / "inference.pdmodel"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"inference\.pdmodel: "):
        read_signature(path)


def test_a_truncated_program_is_refused(tmp_path, det_program):
    path = tmp_path / "inference.pdmodel"
    path.write_bytes(det_program.read_bytes()[:-1000])
    with pytest.raises(ModelError, match=r"\.pdmodel: .*ProgramDesc"):
        read_signature(path)


def drop_required(data):
    # A var whose name has an unknown field number.
    return data.replace(b"\x0a\x04wxyz", b"\x7a\x04wxyz", 1)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (drop_required, "blocks[0].vars[0].name is missing"),
        (lambda data: data.replace(b"wxyz", b"wx\xffz"), r"the name b'wx\xffz' is not UTF-8"),
        (lambda data: data.replace(b"sum", b"s\xffm"), r"the name b's\xffm' is not UTF-8"),
        (lambda data: data.replace(b"SLOT", b"\xffLOT"), r"the name b'\xffLOT' is not UTF-8"),
        (lambda data: data.replace(b"attr", b"att\xff"), r"the name b'att\xff' is not UTF-8"),
    ],
    ids=["required", "variable", "type", "slot", "attribute"],
)
def test_a_damaged_program_is_refused(tmp_path, damage, words):
    desc = load_framework_pb2().ProgramDesc()
    block = desc.blocks.add(idx=0, parent_idx=-1)
    op = block.ops.add(type="sum")
    op.inputs.add(parameter="SLOT", arguments=["x"])
    set_attr(op, "attr", 1)
    block.vars.add(name="wxyz", persistable=True).type.type = 7
    data = desc.SerializeToString()
    path = tmp_path / "inference.pdmodel"
    path.write_bytes(damage(data))
    assert damage(data) != data
    for read in (read_signature, lambda path: read_program(path, path)):
        with pytest.raises(ModelError, match=r"inference\.pdmodel: ") as caught:
            read(path)
        assert words in caught.value.message


def test_a_missing_program_is_reported(tmp_path):
    with pytest.raises(ModelError, match=r"\.pdmodel: .*No such file"):
        read_signature(tmp_path / "inference.pdmodel")


def test_a_program_without_inputs_or_known_types_is_refused(tmp_path):
    framework = load_framework_pb2()
    program = framework.ProgramDesc()
    block = program.blocks.add(idx=0, parent_idx=-1)
    path = tmp_path / "inference.pdmodel"
    path.write_bytes(program.SerializeToString())
    with pytest.raises(ModelError, match="feed"):
        read_signature(path)
    feed = block.ops.add(type="feed")
    feed.outputs.add(parameter="Out", arguments=["x"])
    path.write_bytes(program.SerializeToString())
    with pytest.raises(ModelError, match="feed 'x'"):
        read_signature(path)


@pytest.fixture(scope="module")
def models():
    names = {"det": "PP-OCRv4_mobile_det", "rec": "PP-OCRv4_mobile_rec", "cls": "ch_ppocr_mobile_v2_cls"}
    return {kind: resolve_model(name, kind) for kind, name in names.items()}


@pytest.mark.parametrize("kind", ["det", "rec", "cls"])
def test_round_trip_of_the_shipped_models_is_byte_identical(models, kind, tmp_path):
    model = models[kind]
    program = read_program(model.program, model.params)
    assert program.where == str(model.program)
    out = tmp_path / "m.pdmodel", tmp_path / "m.pdiparams"
    program.write(*out)
    assert out[0].read_bytes() == model.program.read_bytes()
    assert out[1].read_bytes() == model.params.read_bytes()
    tensors = program.params.values()
    assert all(np.isfinite(value).all() for value in tensors)
    assert {str(value.dtype) for value in tensors} == {"float32"}


def test_reading_and_editing_do_without_paddle(models):
    code = (
        "import sys; from pathlib import Path; from converters.sources.program import read_program;"
        "from converters.graph.passes import run_passes;"
        "program = read_program(Path(sys.argv[1]), Path(sys.argv[2])); run_passes(program); program.to_bytes();"
        "assert 'paddle' not in sys.modules"
    )
    files = [str(models["det"].program), str(models["det"].params)]
    subprocess.run([sys.executable, "-c", code, *files], check=True, timeout=120)


def make_program(tmp_path, variables=(("w", 5, (2, 3)),)):
    """Write a program with `variables` (name, data type and dims), and matching parameters of ones."""
    framework = load_framework_pb2()
    desc = framework.ProgramDesc()
    block = desc.blocks.add(idx=0, parent_idx=-1)
    names = sorted(name for name, *_ in variables)
    block.ops.add(type="sum").inputs.add(parameter="X", arguments=names)
    for name, number, dims in variables:
        var = block.vars.add(name=name, persistable=True)
        var.type.type = 7
        var.type.dense_tensor.tensor.data_type = number
        var.type.dense_tensor.tensor.dims.extend(dims)
    program, params = tmp_path / "m.pdmodel", tmp_path / "m.pdiparams"
    program.write_bytes(desc.SerializeToString())
    params.write_bytes(
        b"".join(
            pack(number, dims, b"\1" * SIZES.get(number, 4) * int(np.prod(dims, dtype=np.int64)))
            for _, number, dims in sorted(variables)
        )
    )
    return program, params


SIZES = {0: 1, 1: 2, 2: 4, 3: 8, 4: 2, 5: 4, 6: 8, 20: 1, 21: 1}


def pack(number, dims, data, head=(0, 0, 0)):
    desc = load_framework_pb2().VarType.TensorDesc(data_type=number, dims=dims).SerializeToString()
    return struct.pack("<IQIi", *head, len(desc)) + desc + data


def test_every_data_type_and_rank_is_kept(tmp_path):
    variables = [(f"v{number}", number, (2,)) for number in SIZES] + [("s", 5, ()), ("none", 3, (0, 4))]
    files = make_program(tmp_path, variables)
    program = read_program(*files)
    dtypes = {name: str(value.dtype) for name, value in program.params.items()}
    assert dtypes["v0"] == "bool"
    assert dtypes["v4"] == "float16"
    assert dtypes["v21"] == "int8"
    assert program.params["s"].shape == ()
    assert program.params["none"].shape == (0, 4)
    assert program.to_bytes() == (files[0].read_bytes(), files[1].read_bytes())


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: b"", "w: the file ends after 0 bytes"),
        (lambda data: data[:10], "w: the file ends after 10 bytes"),
        (lambda data: data[:-1], r"w: float32 \[2, 3\] needs 24 bytes, 23 are left"),
        (lambda data: data + b"\0", r"m\.pdiparams: \d+ bytes, expected \d+"),
        (lambda data: b"\1" + data[1:], "m.pdiparams: w: "),
        (lambda data: data[:4] + b"\1" + data[5:], "m.pdiparams: w: "),
        (lambda data: data[:12] + b"\1" + data[13:], "m.pdiparams: w: "),
        (lambda data: data[:16] + struct.pack("<i", -5) + data[20:], "m.pdiparams: w: "),
        (lambda data: data[:16] + struct.pack("<i", 1 << 30) + data[20:], "m.pdiparams: w: "),
        (lambda data: data[:20] + b"\xff" * 6 + data[26:], "m.pdiparams: w: "),
        (lambda data: pack(5, (3, 2), b"\0" * 24), r"w: float32 \[3, 2\], expected float32 \[2, 3\]"),
        (lambda data: pack(2, (2, 3), b"\0" * 24), r"w: int32 \[2, 3\], expected float32 \[2, 3\]"),
        (lambda data: pack(22, (2, 3), b"\0" * 24), r"w: .*variable 7, data 22"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(tmp_path, damage, words):
    program, params = make_program(tmp_path)
    params.write_bytes(damage(params.read_bytes()))
    with pytest.raises(ModelError, match=words) as caught:
        read_program(program, params)
    assert str(params) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("dims", [(1 << 40, 1 << 40), (-1, 3), (1 << 62, 4)])
def test_absurd_sizes_are_refused_without_allocating(tmp_path, dims):
    program, params = make_program(tmp_path, [("w", 5, (2, 3))])
    framework = load_framework_pb2()
    desc = framework.ProgramDesc.FromString(program.read_bytes())
    desc.blocks[0].vars[0].type.dense_tensor.tensor.dims[:] = dims
    program.write_bytes(desc.SerializeToString())
    params.write_bytes(pack(5, dims, b"\0" * 24))
    with pytest.raises(ModelError, match=r"w: float32 .*24 "):
        read_program(program, params)


@pytest.mark.parametrize("dims", [(0, 1 << 62, 1 << 62), (1,) * 65, (0,) * 70])
def test_impossible_shapes_are_refused(tmp_path, dims):
    """Found by tests/fuzz/test_paddle_fuzz.py; with a dimension of 0, the others may have any size."""
    program, params = make_program(tmp_path, [("w", 5, (2, 3))])
    desc = load_framework_pb2().ProgramDesc.FromString(program.read_bytes())
    desc.blocks[0].vars[0].type.dense_tensor.tensor.dims[:] = dims
    program.write_bytes(desc.SerializeToString())
    params.write_bytes(pack(5, dims, b"" if 0 in dims else b"\0" * 4))
    with pytest.raises(ModelError, match=r"m\.pdiparams: w: \d+ "):
        read_program(program, params)


def test_a_missing_parameter_file_is_reported(tmp_path):
    program, params = make_program(tmp_path)
    params.unlink()
    with pytest.raises(ModelError, match=r"m\.pdiparams: "):
        read_program(program, params)


def test_parameters_of_another_model_are_refused(models):
    with pytest.raises(ModelError, match="expected float32"):
        read_program(models["det"].program, models["rec"].params)


def test_arrays_from_a_file_are_read_only(models):
    program = read_program(models["cls"].program, models["cls"].params)
    value = next(iter(program.params.values()))
    with pytest.raises(ValueError, match="read-only"):
        value += 1


def test_attributes():
    op = load_framework_pb2().OpDesc(type="t")
    for name, value in {"i": 3, "f": 0.5, "b": True, "s": "text", "ints": [1, 2]}.items():
        set_attr(op, name, value)
        assert get_attr(op, name) == value
        assert type(get_attr(op, name)) is type(value)
    assert get_attr(op, "missing") is None
    assert get_attr(op, "missing", 7) == 7
    # An existing one keeps its type.
    op.attrs.add(name="longs", type=11)
    set_attr(op, "longs", [1 << 40])
    assert get_attr(op, "longs") == [1 << 40]
    assert len(op.attrs) == 6


def test_editing_updates_readers_and_writers(models):
    program = read_program(models["cls"].program, models["cls"].params)
    relu = next(op for op in program.ops if op.type == "relu")
    source, result = get_input(relu, "X"), get_output(relu, "Out")
    (writer,), readers = program.list_writers(source), list(program.list_readers(result))
    count = program.count_ops()
    assert program.find_only_reader(source) is relu
    assert program.bypass(relu, source, result)
    assert program.count_ops() == count - 1
    assert program.list_readers(source) == readers
    assert program.list_readers(result) == []
    assert program.list_writers(result) == []
    assert program.find_writer(source) is writer

    name = program.make_name(source)
    assert name == f"{source}_1"
    program.set_shape(name, (-1, 8))
    op = program.insert_op(writer, "relu", {"X": source}, {"Out": name}, {})
    assert program.find_writer(name) is op
    assert program.ops[program.ops.index(writer) + 1] is op
    assert program.find_shape(name) == (-1, 8)
    assert program.find_only_reader(source) is None

    weight = get_input(next(op for op in program.ops if op.type == "conv2d"), "Filter")
    assert program.owns_param(program.list_readers(weight)[0], weight)
    assert not program.owns_param(op, weight)
    assert not program.owns_param(op, None)
    program.set_param(weight, np.zeros((4, 3), np.float32))
    assert program.find_shape(weight) == (4, 3)
    program.remove_op(op)
    program.drop_unused()
    assert program.find_shape(name) is None
