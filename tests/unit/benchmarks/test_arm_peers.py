"""benchmarks.arm_peers: what is measured, what is read from a report, and what is missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from benchmarks.arm_peers import (
    END,
    MARK,
    START,
    WORKER,
    Counts,
    convert_to_ncnn,
    find_emulator,
    find_networks,
    find_pnnx,
    format_row,
    make_input,
    parse_counts,
    parse_shapes,
    run_tool,
)
from edge_ocr.errors import InputError, ToolchainError, UsageError

TOTAL = "total 3 1500000 2000 300 64 128\n"


def make_file(path, text="", mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A root with every piece, and qemu on PATH."""
    make_file(tmp_path / "bin/qemu-aarch64", mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    make_file(tmp_path / "count.so")
    folder = tmp_path / "root"
    make_file(folder / "lib/ld-linux-aarch64.so.1")
    make_file(folder / "usr/bin/python3.11")
    for package in ("numpy", "ncnn"):
        make_file(folder / "wheels" / package / "__init__.py")
    return folder


def find(root, plugin="count.so", peers=("ncnn",), l1=1024):
    return find_emulator(root, root.parent / plugin, peers, "max", l1, 4096)


def test_totals_are_read_from_a_report_with_operators():
    report = f"block -1 4000 20\nop -1 20 2 1 0 0\n{TOTAL}"
    assert parse_counts(report, "report") == Counts(1_500_000, 2000, 300, 64, 128)


@pytest.mark.parametrize(("report", "found"), [("", 0), ("total 3 1500000 2000 300 64\n", 0), (TOTAL * 2, 2)])
def test_report_without_one_line_of_totals_is_refused(report, found):
    with pytest.raises(ToolchainError, match=f"report.*{found}"):
        parse_counts(report, "report")


def test_shapes_keep_their_order():
    assert parse_shapes("rec=48x640,det=480x320,rec=48x320") == {"rec": [(48, 640), (48, 320)], "det": [(480, 320)]}


@pytest.mark.parametrize("part", ["", "det", "page=48x48", "det=480", "det=0x32", "det=480x320x3"])
def test_bad_shape_is_named(part):
    with pytest.raises(UsageError, match=f"--shapes {part}:"):
        parse_shapes(f"rec=48x320,{part}")


def test_networks_are_found_by_a_word_of_their_name(tmp_path):
    det = make_file(tmp_path / "det/PP-OCRv6_det_tiny.onnx")
    rec = make_file(tmp_path / "rec.onnx")
    for other in ("detail.onnx", "det_and_rec.onnx", "cls.pdmodel"):
        make_file(tmp_path / other)
    assert find_networks(tmp_path) == {"det": det, "rec": rec}


def test_two_networks_of_a_kind_are_refused(tmp_path):
    make_file(tmp_path / "a/det.onnx")
    make_file(tmp_path / "b/det_infer.onnx")
    with pytest.raises(InputError, match=r"det\.onnx.*det_infer\.onnx"):
        find_networks(tmp_path)


def test_folder_without_networks_is_refused(tmp_path):
    with pytest.raises(InputError, match=str(tmp_path)):
        find_networks(tmp_path)


def test_cache_sizes_reach_the_plugin(root):
    plugin = root.parent / "count.so"
    assert find(root).plugin == f"{plugin},l1=1024,l2=4096"
    assert find(root, l1=0).plugin == str(plugin)


@pytest.mark.parametrize(
    ("piece", "named", "hint"),
    [
        ("bin/qemu-aarch64", "qemu-aarch64", "apt-get install qemu-user"),
        ("count.so", "count.so", "--plugin"),
        ("root/lib/ld-linux-aarch64.so.1", "libc", "dpkg-deb -x"),
        ("root/usr/bin/python3.11", "python3", "dpkg-deb -x python3.11-minimal"),
    ],
)
def test_missing_piece_is_named_with_its_command(root, piece, named, hint):
    (root.parent / piece).unlink()
    with pytest.raises(ToolchainError, match=named) as caught:
        find(root)
    assert hint in caught.value.hint


def test_missing_wheel_is_named_with_its_command(root):
    with pytest.raises(ToolchainError, match="onnxruntime") as caught:
        find(root, peers=("ncnn-fp16", "onnxruntime"))
    assert caught.value.hint.startswith("run pip install")
    assert caught.value.hint.endswith(f"{root}/wheels onnxruntime")


def test_comma_in_the_path_of_the_plugin_is_refused(root):
    make_file(root.parent / "a,b.so")
    with pytest.raises(UsageError, match=r"a,b\.so"):
        find(root, plugin="a,b.so")


def test_missing_pnnx_is_named_with_its_command(root):
    with pytest.raises(ToolchainError, match="pnnx") as caught:
        find_pnnx(None)
    assert "pip download --no-deps pnnx" in caught.value.hint


def test_pnnx_converts_for_one_shape_in_float32(tmp_path):
    program = make_file(tmp_path / "pnnx", '#!/bin/sh\necho "$@" > arguments\n: > network.ncnn.param\n', mode=0o755)
    network = make_file(tmp_path / "models/det.onnx", "graph")
    (tmp_path / "scratch").mkdir()
    converted = convert_to_ncnn(str(program), network, (1, 3, 48, 320), tmp_path / "scratch")
    assert converted == tmp_path / "scratch/network.ncnn"
    assert (tmp_path / "scratch/arguments").read_text() == "network.onnx inputshape=[1,3,48,320] fp16=0\n"
    assert (tmp_path / "scratch/network.onnx").read_text() == "graph"


@pytest.mark.parametrize(("end", "match"), [("exit 0", "det.onnx.*unknown op"), ("exit 3", "exit code 3.*unknown op")])
def test_failed_conversion_says_what_pnnx_said(tmp_path, end, match):
    program = make_file(tmp_path / "pnnx", f"#!/bin/sh\necho unknown op\n{end}\n", mode=0o755)
    network = make_file(tmp_path / "models/det.onnx")
    (tmp_path / "scratch").mkdir()
    with pytest.raises(ToolchainError, match=match):
        convert_to_ncnn(str(program), network, (1, 3, 48, 320), tmp_path / "scratch")


def test_input_is_the_picture_at_the_shape():
    values = make_input((48, 320))
    assert (values.shape, values.dtype) == ((1, 3, 48, 320), np.float32)
    assert values.min() >= -1
    assert values.max() <= 1
    assert values.std() > 0.1


@pytest.mark.parametrize(
    ("traffic", "expected"), [((521_915_072, 0), "521.9 | 0.0"), ((0, 0), "– | –")], ids=["cache", "no cache"]
)
def test_row_is_in_millions(traffic, expected):
    row = format_row("v4 det", (480, 320), "ncnn", Counts(242_676_440, 22_682_007, 14_713_876, *traffic), 2.7e-5)
    assert row == f"| v4 det | 480 × 320 | ncnn | 242.7 | 22.7 | 14.7 | {expected} | 2.7e-05 |"


@pytest.mark.parametrize("marks", [(), (MARK, START, END)])
def test_worker_runs_a_network_on_onnxruntime(tmp_path, marks):
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, checker, helper, save

    sides = [1, 3, "height", "width"]
    given, taken = (helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [given], [taken])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model)
    save(model, tmp_path / "double.onnx")
    values = make_input((32, 64))
    np.save(tmp_path / "input.npy", values)
    paths = (str(tmp_path / name) for name in ("double.onnx", "input.npy", "output.npy"))
    said = run_tool([sys.executable, str(WORKER), "onnxruntime", *paths, *map(str, marks)])
    assert said.strip()[0].isdigit()
    assert np.array_equal(np.load(tmp_path / "output.npy"), values + values)


def test_output_that_is_not_finite_shows_in_the_row():
    assert format_row("v4 det", (480, 320), "ncnn-fp16", Counts(1, 2, 3, 4, 5), float("nan")).endswith("| nan |")
