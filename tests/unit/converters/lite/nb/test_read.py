import random
import struct
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support.nb_files import round_nb

from converters.lite.nb.read import Kernel, NbHeader, NbVar, normalise, parse_header, parse_nb, read_header, read_nb
from converters.lite.nb.rounded import BITS
from converters.lite.nb.schema import TABLES, FlatBuffer
from converters.lite.opt import run_opt
from edge_ocr.errors import ModelError
from edge_ocr.models.resolve import resolve_model

TOPOLOGY = b"topology"


def build_nb(
    *, meta_version=2, version=b"v2.13-rc\0\x12\x34\xff\x7f\0\0\x01", header_size=6, records=(b"first", b"second!")
):
    return (
        struct.pack("<H16sQ", meta_version, version, len(TOPOLOGY))
        + TOPOLOGY
        + struct.pack("<HHHHI", 0, 0, header_size, len(records), 7)
        + b"".join(struct.pack("<I", len(record)) + record for record in records)
    )


def test_header_fields(tmp_path):
    path = tmp_path / "a.nb"
    path.write_bytes(build_nb())
    assert read_header(path) == NbHeader(2, "v2.13-rc", len(TOPOLOGY), 2, 7)


def test_normalise_zeroes_only_the_bytes_after_the_version():
    data = build_nb()
    clean = normalise(data)
    assert clean == build_nb(version=b"v2.13-rc" + bytes(8))
    assert [i for i in range(len(data)) if data[i] != clean[i]] == [11, 12, 13, 14, 17]
    assert normalise(clean) == clean


def test_normalise_makes_files_with_different_leftovers_equal():
    other = build_nb(version=b"v2.13-rc\0\xaa\xbb\xcc\xdd\xee\xff\x11")
    assert other != build_nb()
    assert normalise(other) == normalise(build_nb())


@pytest.mark.parametrize("size", range(len(build_nb())))
def test_any_truncation_is_refused(size):
    with pytest.raises(ModelError):
        parse_header(build_nb()[:size])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0"),
        (build_nb(meta_version=1), "1.*2"),
        (build_nb(version=b"v2.13-rc-and-more"[:16]), "v2.13-rc-and-mor"),
        (build_nb(version=b"\xff\xfe junk\0"), r"\\xff\\xfe junk"),
        (build_nb(version=bytes(16)), r"(\\x00){16}"),
        (build_nb(header_size=7), "7.*0, 0.*6"),
        (build_nb() + b"\0", "67 .*66"),
        (b"\x7fELF" + bytes(100), "not a .nb file"),
    ],
)
def test_foreign_and_damaged_files_are_refused(data, words):
    with pytest.raises(ModelError, match=words):
        normalise(data)


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "rec.nb"
    with pytest.raises(ModelError, match=r"rec\.nb"):
        read_header(path)
    path.write_bytes(b"short")
    with pytest.raises(ModelError, match=r"rec\.nb") as caught:
        read_header(path)
    assert caught.value.hint


SCALARS = {"bool": "<?", "byte": "<b", "ubyte": "<B", "int": "<i", "long": "<q", "float": "<f", "double": "<d"}


class Shared:
    """A vector whose elements are all the same object."""

    def __init__(self, value, count):
        self.value, self.count = value, count


def write_table(out, name, values):
    """Append a FlatBuffers table: the table, its vtable, then what it refers to."""
    fields = [field for field in TABLES[name].values() if field.name in values]
    places, size = {}, 4
    for field in fields:
        inline = field.kind in SCALARS and not field.is_vector
        places[field.name] = size
        size += struct.calcsize(SCALARS[field.kind]) if inline else 4
    start = len(out)
    count = max((field.slot for field in fields), default=-1) + 1
    slots = [0] * count
    for field in fields:
        slots[field.slot] = places[field.name]
    # The vtable is after the table, so its distance is negative.
    out += struct.pack("<i", -size) + bytes(size - 4) + struct.pack(f"<{count + 2}H", 4 + 2 * count, size, *slots)
    for field in fields:
        place, value = start + places[field.name], values[field.name]
        if field.kind in SCALARS and not field.is_vector:
            struct.pack_into(SCALARS[field.kind], out, place, value)
            continue
        struct.pack_into("<I", out, place, len(out) - place)
        if field.is_vector:
            write_vector(out, field.kind, value)
        else:
            write_object(out, field.kind, value)


def write_object(out, kind, value):
    if kind == "string":
        text = value if isinstance(value, bytes) else value.encode()
        out += struct.pack("<I", len(text)) + text + b"\0"
    else:
        write_table(out, kind, value)


def write_vector(out, kind, value):
    count = value.count if isinstance(value, Shared) else len(value)
    out += struct.pack("<I", count)
    if kind in SCALARS:
        out += b"".join(struct.pack(SCALARS[kind], one) for one in value)
        return
    start = len(out)
    out += bytes(4 * count)
    if isinstance(value, Shared):
        for index in range(count):
            struct.pack_into("<I", out, start + 4 * index, len(out) - (start + 4 * index))
        write_object(out, kind, value.value)
        return
    for index, one in enumerate(value):
        struct.pack_into("<I", out, start + 4 * index, len(out) - (start + 4 * index))
        write_object(out, kind, one)


def build_flat(name, values):
    out = bytearray(struct.pack("<I", 4))
    write_table(out, name, values)
    return bytes(out)


def build_model(program, params=(), *, max_tensor_size=1 << 20, offset=4):
    topology = program if isinstance(program, bytes) else build_flat("ProgramDesc", program)
    records = [struct.pack("<I", offset) + (p if isinstance(p, bytes) else build_flat("ParamDesc", p)) for p in params]
    return (
        struct.pack("<H16sQ", 2, b"v2.13-rc", len(topology))
        + topology
        + struct.pack("<HHHHI", 0, 0, 6, len(records), max_tensor_size)
        + b"".join(struct.pack("<I", len(record)) + record for record in records)
    )


def describe_var(name, dims=(-1, 3), dtype=5, **more):
    tensor = {"tensor": {"data_type": dtype, "dims": dims}}
    return {"name": name, "type": {"type": 7, "lod_tensor": tensor}, **more}


def describe_param(name="w", dim=(2, 2), dtype=5, data=bytes(16), kind=1):
    variable = {"dim": dim, "data_type": dtype, "data": memoryview(data).cast("b")}
    return {"name": name, "variable_type": kind, "variable": variable}


def one_op(*attrs, **more):
    return {"blocks": [{"ops": [{"type": "op", "attrs": attrs, **more}]}]}


def feed(name, column):
    return {
        "type": "feed",
        "outputs": [{"parameter": "Out", "arguments": [name]}],
        "attrs": [{"name": "col", "type": 0, "i": column}],
    }


def test_every_kind_of_attribute_is_read():
    values = {
        "i": (0, "i", -7),
        "f": (1, "f", 0.5),
        "s": (2, "s", "文"),
        "ints": (3, "ints", (1, -2)),
        "floats": (4, "floats", (0.5, -1.0)),
        "strings": (5, "strings", ("a", "")),
        "b": (6, "b", True),
        "bools": (7, "bools", (True, False)),
        "block": (8, "block_idx", 3),
        "l": (9, "l", -(2**40)),
        "blocks": (10, "blocks_idx", (1, 2)),
        "longs": (11, "longs", (2**40,)),
        "float64s": (12, "float64s", (0.1,)),
        "float64": (15, "float64", 0.1),
    }
    attrs = [{"name": name, "type": kind, field: value} for name, (kind, field, value) in values.items()]
    # opt omits fields that have the default value.
    attrs += [{"name": "zero"}, {"name": "no_text", "type": 2}, {"name": "no_ints", "type": 3}]
    (op,) = parse_nb(build_model(one_op(*attrs))).blocks[0].ops
    assert dict(op.attrs) == {name: value for name, (_, _, value) in values.items()} | {
        "zero": 0,
        "no_text": "",
        "no_ints": (),
    }
    assert (op.kernel, op.quantisation) == (None, None)


def test_blocks_variables_and_ports_are_read():
    block = {
        "idx": 0,
        "parent_idx": -1,
        "vars": [
            describe_var("b"),
            describe_var("a", dims=(1, 2), dtype=2, persistable=True),
            {"name": "feed", "type": {"type": 9}},
        ],
        "ops": [feed("a", 1), feed("b", 0)],
    }
    model = parse_nb(build_model({"blocks": [block, {"idx": 1}], "version": {"version": 2004001}}))
    assert model.program_version == 2004001
    assert [port.name for port in model.inputs] == ["b", "a"]
    assert model.outputs == ()
    assert model.blocks[0].vars["a"] == NbVar("a", "tensor", True, "int32", (1, 2))
    assert model.blocks[0].vars["feed"] == NbVar("feed", "feed", False, None, None)
    assert (model.blocks[0].parent_index, model.blocks[1].index) == (-1, 1)
    assert model.op_histogram() == {"feed": 2}
    assert model.blocks[0].ops[0].outputs == {"Out": ("a",)}


def test_parameters_are_read_only_views():
    data = np.arange(6, dtype="<i2")
    model = parse_nb(build_model({"blocks": [{}]}, [describe_param("q", (2, 3), 1, data.tobytes())]))
    array = model.params["q"].to_array()
    assert array.dtype == np.int16
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert not array.flags.writeable
    assert model.params["q"].data.readonly


@pytest.mark.parametrize(
    ("text", "kernel"),
    [
        ("conv2d/def/4/1/1", Kernel("def", "arm", "float", "nchw")),
        ("slice/int32_slice/1/3/2", Kernel("int32_slice", "host", "int32", "any")),
        ("conv2d/def/99/1/1", None),
        ("conv2d/def/²/1/1", None),
        ("conv2d/def/" + "9" * 5000 + "/1/1", None),
        ("conv2d/def/4/1", None),
        ("", None),
    ],
)
def test_the_kernel_of_an_op(text, kernel):
    program = one_op({"name": "__@kernel_type_attr@__", "type": 2, "s": text})
    assert parse_nb(build_model(program)).blocks[0].ops[0].kernel == kernel


NAMED = {"name": "a"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (build_model({}), r"\(ProgramDesc.blocks\).*1"),
        (build_model(b""), r"byte 26 \(ProgramDesc\): 4.*0"),
        (build_model(bytes(64)), r"byte 26 \(ProgramDesc\): offset 0.*1.*63"),
        (build_model(struct.pack("<I", 2**32 - 1)), "offset 4294967295.*1.*3"),
        (build_model(struct.pack("<Ii", 4, 100)), "vtable.*byte -96.*0.*4"),
        (build_model(struct.pack("<Ii", 4, -100)), "vtable.*byte 104"),
        (build_model(struct.pack("<IiHH", 4, -4, 5, 4)), "vtable.*5.*4.*4"),
        (build_model(struct.pack("<IiHH", 4, -4, 6, 4)), "vtable.*6"),
        (build_model(struct.pack("<IiHH", 4, -4, 2, 4)), "vtable.*2"),
        (build_model(struct.pack("<IiHH", 4, -4, 4, 3)), "table.*3.*4"),
        (build_model(struct.pack("<IiHH", 4, -4, 4, 99)), "95.*4"),
        (build_model(struct.pack("<IiHHH", 4, -4, 6, 6, 3)), "byte 3.*table.*4"),
        (build_model(struct.pack("<IiHHH", 4, -4, 6, 6, 4)), "byte 4.*table.*4.*2"),
        (build_model({"blocks": [{"ops": [{}]}]}), r"\(OpDesc.type\)"),
        (build_model({"blocks": [{"ops": [{"type": b"\xff"}]}]}), r"text.*'\\xff'.*-8"),
        (build_model(one_op(NAMED, NAMED)), r"\(Attr.name\): 'a'"),
        (build_model(one_op({"name": "a", "type": 13})), r"\(Attr.type\): 13"),
        (build_model(one_op({"name": "a", "type": -1})), r"\(Attr.type\): -1"),
        (build_model(one_op(inputs=[{"parameter": "X"}] * 2)), r"\(Var.parameter\): 'X'"),
        (build_model({"blocks": [{"vars": [describe_var("v")] * 2}]}), r"\(VarDesc.name\): 'v'"),
        (build_model({"blocks": [{"vars": [describe_var("v", dtype=7)]}]}), r"\(TensorDesc.data_type\): 7"),
        (build_model({"blocks": [{"vars": [describe_var("v", dims=[1] * 17)]}]}), "17.*16"),
        (build_model({"blocks": [{"vars": [{"name": "v", "type": {"type": 3}}]}]}), r"\(VarType.type\): 3"),
        (build_model({"blocks": [{"vars": [describe_var("v")], "ops": [feed("x", 0)]}]}), r"feed.*\['x'\]"),
        (build_model({"blocks": [{"vars": [describe_var("v")], "ops": [feed("v", 0)] * 2}]}), "column 0"),
        (build_model({"blocks": [{}]}, [describe_param()], offset=5), "0.*1.*offset 5.*4"),
        (build_model({"blocks": [{}]}, [describe_param()] * 2), "'w'"),
        (build_model({"blocks": [{}]}, [describe_param(kind=2)]), r"\(ParamDesc.variable_type\): 2.*1"),
        (build_model({"blocks": [{}]}, [describe_param(dtype=11)]), r"\(LoDTensorData.data_type\): 11"),
        (build_model({"blocks": [{}]}, [describe_param(dim=(2, -2))]), r"\[2, -2\]"),
        (build_model({"blocks": [{}]}, [describe_param(dim=(2**62, 2**62))]), "'w'.*16"),
        (build_model({"blocks": [{}]}, [describe_param(dim=[2**62] * 17)]), "17.*16"),
        (build_model({"blocks": [{}]}, [describe_param()], max_tensor_size=15), "15"),
        (build_model({"blocks": [{}]}, [b""]), r"\(ParamDesc\): 4.*0"),
        (build_model({"blocks": [{}]}) + b"\0", "73 .*72"),
    ],
)
def test_each_damage_is_named(data, words):
    with pytest.raises(ModelError, match=words) as caught:
        parse_nb(data, "bad.nb")
    assert caught.value.message.startswith("bad.nb: ")
    assert len(caught.value.message) < 500


def test_a_record_too_short_for_its_offset_is_refused():
    data = build_model({"blocks": [{}]}, [b""])
    with pytest.raises(ModelError, match=r"parameter 0 of 1\).* 0 bytes.* 4$"):
        parse_nb(data[:-8] + struct.pack("<I", 0))


def test_a_program_of_absurd_size_is_refused(monkeypatch):
    monkeypatch.setattr("converters.lite.nb.read.TOPOLOGY_LIMIT_BYTES", 10)
    with pytest.raises(ModelError, match=r"byte 18.*10"):
        parse_nb(build_model({"blocks": [{}]}))


def test_objects_that_refer_to_each_other_over_and_over_are_refused():
    # 12 kB that describe a thousand million names.
    slot = {"parameter": "X", "arguments": Shared("", 1000)}
    block = {"ops": Shared({"type": "op", "inputs": [slot]}, 1000)}
    started = time.monotonic()
    with pytest.raises(ModelError, match="objects overlap"):
        parse_nb(build_model({"blocks": Shared(block, 1000)}))
    with pytest.raises(ModelError, match="objects overlap"):
        parse_nb(build_model({"blocks": Shared({"ops": [{"type": "x" * 100}]}, 10_000)}))
    with pytest.raises(ModelError, match="objects overlap"):
        parse_nb(build_model(one_op(inputs=[{"parameter": "X", "arguments": Shared("x" * 1000, 1000)}])))
    assert time.monotonic() - started < 1


# Only real files from here on.

MODELS = {"det": "PP-OCRv4_mobile_det", "rec": "PP-OCRv4_mobile_rec", "cls": "ch_ppocr_mobile_v2_cls"}


@pytest.fixture(scope="session")
def convert(opt, tmp_path_factory):
    """Make the .nb of a network, by kind and precision."""
    folder = tmp_path_factory.mktemp("nb")

    @cache
    def convert(kind, precision="fp32"):
        model = resolve_model(MODELS[kind], kind)
        if precision == "fp32":
            return run_opt(opt.python, model.program, model.params, folder / kind, valid_places="arm")
        path = folder / f"{kind}_{precision}.nb"
        path.write_bytes(round_nb(convert(kind).read_bytes(), BITS[precision]))
        return path

    return convert


@pytest.mark.parametrize("precision", ["fp32", "int16", "int8"])
@pytest.mark.parametrize(("kind", "ops", "params"), [("det", 243, 224), ("rec", 266, 216), ("cls", 104, 106)])
def test_every_byte_of_a_real_file_is_read(convert, monkeypatch, kind, precision, ops, params):
    path = convert(kind, precision)
    claimed, vtables = [], set()
    claim, read_table = FlatBuffer._claim, FlatBuffer._read_table

    def record_claim(self, position, size_bytes, place):
        claim(self, position, size_bytes, place)
        claimed.append((self._start + position, size_bytes))

    def record_vtable(self, position, table):
        result = read_table(self, position, table)
        vtable = position - struct.unpack_from("<i", self._data, position)[0]
        vtables.add((self._start + vtable, struct.unpack_from("<H", self._data, vtable)[0]))
        return result

    monkeypatch.setattr(FlatBuffer, "_claim", record_claim)
    monkeypatch.setattr(FlatBuffer, "_read_table", record_vtable)
    model = read_nb(path)
    data = path.read_bytes()
    read = bytearray(len(data))
    start = 26 + model.header.topology_size_bytes
    fixed = [(0, 26), (start, 12)]
    position = start + 12
    for _ in range(model.header.params_count):
        fixed.append((position, 8))
        position += 4 + struct.unpack_from("<I", data, position)[0]
    assert position == len(data)
    for position, size in [*claimed, *vtables, *fixed]:
        read[position : position + size] = b"\1" * size
    # The rest is padding.
    assert not any(byte for byte, is_read in zip(data, read, strict=True) if not is_read)
    # Equal objects are shared in the files that we write.
    assert sum(size for _, size in claimed) <= len(data) * (1 if precision == "fp32" else 2)

    assert sum(model.op_histogram().values()) == ops
    assert (len(model.params), model.header.params_count) == (params, params)
    assert model.size_bytes == len(data)
    assert max(len(param.data) for param in model.params.values()) == model.header.max_tensor_size_bytes
    assert [port.name for port in model.inputs] == ["x"]
    assert model.inputs[0].shape == ((-1, 3, 48, -1) if kind == "rec" else (-1, 3, -1, -1))


def test_an_op_of_a_real_file(convert):
    model = read_nb(convert("det"))
    assert model.header.opt_version == "v2.13-rc"
    assert list(model.op_histogram().items())[:3] == [("elementwise_add", 63), ("elementwise_mul", 62), ("conv2d", 48)]
    op = model.blocks[0].ops[1]
    assert op.type == "conv2d"
    assert op.inputs["Input"] == ("x",)
    assert op.attrs["strides"] == (2, 2)
    assert op.attrs["padding_algorithm"] == "EXPLICIT"
    assert op.kernel == Kernel("def", "arm", "float", "nchw")
    assert op.quantisation is None
    weights = model.params[op.inputs["Filter"][0]]
    assert (weights.dtype, weights.shape) == ("float32", (16, 3, 3, 3))
    assert model.outputs[0].shape == (-1, 1, -1, -1)


@pytest.mark.parametrize(("precision", "bits"), [("int16", 16), ("int8", 8)])
def test_quantised_weights_times_their_scales_are_the_weights(convert, precision, bits):
    full, quantised = read_nb(convert("rec")), read_nb(convert("rec", precision))
    checked = 0
    for op in quantised.blocks[0].ops:
        if op.quantisation is None:
            continue
        assert (op.quantisation.bits, op.quantisation.method) == (bits, "post_weight_channel_wise_abs_max")
        for name, scales in op.quantisation.scales.items():
            param = quantised.params[name]
            assert param.dtype == precision
            # fc has the output channels last, all others first.
            axis = len(param.shape) - 1 if op.type == "fc" else 0
            factors = np.array(scales).reshape([-1 if side == axis else 1 for side in range(len(param.shape))])
            error = np.abs(param.to_array() * factors - full.params[name].to_array())
            assert (error <= 0.51 * factors + 1e-7).all()
            checked += 1
    assert checked == sum(param.dtype == precision for param in quantised.params.values()) > 30


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_real_file_cut_anywhere_is_refused(convert, precision):
    data = convert("cls", precision).read_bytes()
    for size in {*range(0, 300), *range(0, len(data), len(data) // 400), len(data) - 1}:
        with pytest.raises(ModelError):
            parse_nb(data[:size])


def test_a_program_cut_anywhere_is_refused(convert):
    data = convert("cls").read_bytes()
    (size,) = struct.unpack_from("<Q", data, 18)
    for kept in range(0, size, size // 150):
        with pytest.raises(ModelError):
            parse_nb(data[:18] + struct.pack("<Q", kept) + data[26 : 26 + kept] + data[26 + size :])


def test_damaged_bytes_are_read_or_refused(convert):
    data = convert("cls", "int8").read_bytes()
    (size,) = struct.unpack_from("<Q", data, 18)
    rng = random.Random(3)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 3, 30))):
            place = rng.randrange(26 + size + 500)
            how = rng.randrange(3)
            if how == 0:
                damaged[place] ^= 1 << rng.randrange(8)
            elif how == 1:
                damaged[place : place + 4] = struct.pack("<I", rng.choice((0, 1, 4, 2**31 - 1, 2**32 - 1)))
            else:
                source = rng.randrange(26, size)
                damaged[place : place + 32] = data[source : source + 32]
        try:
            parse_nb(bytes(damaged))
        except ModelError:
            refused += 1
    assert 100 < refused < 300


def test_foreign_files_are_refused(tmp_path):
    program = resolve_model(MODELS["cls"], "cls").program
    with pytest.raises(ModelError, match="meta version"):
        read_nb(program)
    foreign = {
        "a.png": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "empty.nb": b"",
        "old.nb": b"\0\0" + build_nb()[2:],
        "older.nb": b"\1\0" + build_nb()[2:],
    }
    for name, data in foreign.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ModelError, match=f"{name}: not a .nb file"):
            read_nb(tmp_path / name)
    with pytest.raises(ModelError, match="Is a directory"):
        read_nb(tmp_path)
    with pytest.raises(ModelError, match="No such file"):
        read_nb(tmp_path / "none.nb")


def test_an_endless_foreign_file_is_not_read_whole():
    with pytest.raises(ModelError, match=r"^/dev/zero: .*version 0.* 2$"):
        read_nb(Path("/dev/zero"))
