import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from support.nb_files import round_nb
from support.processes import read_terminal

from converters.lite.opt import run_opt
from edge_ocr.models.resolve import resolve_model

COMMAND = [sys.executable, "-W", "error", "-c", "from edge_ocr.cli import main; main()", "inspect"]
MODELS = {"det": "PP-OCRv4_mobile_det", "rec": "PP-OCRv4_mobile_rec", "cls": "ch_ppocr_mobile_v2_cls"}


@pytest.fixture(scope="session")
def bundle(opt, tmp_path_factory):
    """A folder with the three networks as .nb, as in a bundle."""
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "models").mkdir()
    for kind, name in MODELS.items():
        model = resolve_model(name, kind)
        run_opt(opt.python, model.program, model.params, folder / "models" / kind, valid_places="arm")
    return folder


@pytest.fixture(scope="session")
def cls(bundle):
    return bundle / "models" / "cls.nb"


def run_inspect(*options):
    return subprocess.run([*COMMAND, *map(str, options)], capture_output=True, text=True, timeout=60, check=False)


def run_in_terminal(*options, columns=100):
    """Return what the command writes to a terminal."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm", "NO_COLOR": "1"}
    process = subprocess.Popen([*COMMAND, *map(str, options)], stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    written = read_terminal(ours)
    assert process.wait(30) == 0, written
    # Colours are switched off, bold and italics are not.
    return re.sub(r"\x1b\[[013]m", "", written.decode())


def read_rows(ended):
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return [line.split("\t") for line in ended.stdout.splitlines()]


def test_rows_of_a_model(bundle):
    path = bundle / "models" / "det.nb"
    rows = read_rows(run_inspect(path, "--top", 2))
    assert {row[0] for row in rows} == {str(path)}
    rows = [row[1:] for row in rows]
    for row in (
        ["size_bytes", str(path.stat().st_size)],
        ["meta_version", "2"],
        ["opt_version", "v2.13-rc"],
        ["paddle_version", "2.4.1"],
        ["input", "x", "float32", "-1,3,-1,-1"],
        ["output", "sigmoid_0.tmp_0", "float32", "-1,1,-1,-1"],
        ["target", "arm", "241"],
        ["target", "host", "2"],
        ["op", "conv2d", "48", "arm/float/nchw"],
        ["ops", "243"],
        ["params", "float32", "224", "1171505", "4686020"],
        ["cost_input", "x", "1,3,960,960"],
        ["cost_output", "sigmoid_0.tmp_0", "1,1,960,960"],
        ["cost_op", "227", "conv2d", "1194393600", "82944", "22118400", "5529600", "1,24,240,240"],
        ["cost_madds", "5179215744"],
        ["cost_read_bytes", "1181994528"],
        ["cost_written_bytes", "1072496928"],
    ):
        assert row in rows
    assert sum(row[0] == "cost_op" for row in rows) == 2
    assert not any(row[0] == "quantised" for row in rows)


def test_a_bundle_gives_each_model_with_its_usual_shape(bundle):
    rows = read_rows(run_inspect(bundle))
    shapes = {Path(row[0]).name: row[3] for row in rows if row[1] == "cost_input"}
    assert shapes == {"cls.nb": "1,3,48,192", "det.nb": "1,3,960,960", "rec.nb": "1,3,48,320"}
    assert {Path(row[0]).name: row[2] for row in rows if row[1] == "ops"} == {
        "cls.nb": "104",
        "det.nb": "243",
        "rec.nb": "266",
    }


def test_json_has_every_op_and_the_shape_asked_for(bundle):
    ended = run_inspect(bundle / "models" / "rec.nb", "--json", "--shape", "x=6,3,48,640")
    assert ended.returncode == 0, ended.stderr
    (one,) = json.loads(ended.stdout)
    assert (one["op_count"], len(one["cost"]["ops"])) == (266, 266)
    assert one["inputs"] == [{"name": "x", "dtype": "float32", "shape": [-1, 3, 48, -1]}]
    assert one["cost"]["input_shapes"] == {"x": [6, 3, 48, 640]}
    assert one["cost"]["output_shapes"] == {"softmax_11.tmp_0": [6, 80, 6625]}
    assert sum(op["madds"] for op in one["cost"]["ops"]) == one["cost"]["madds"]
    assert (one["cost_missing"], one["quantisation"]) == (None, [])
    assert {"type": "fc", "count": 9, "kernels": {"arm/float/nchw": 9}} in one["ops"]


def test_tables_on_a_terminal(bundle):
    text = run_in_terminal(bundle)
    assert max(map(len, text.splitlines())) <= 100
    for words in ("opt v2.13-rc (meta version 2)", "243 ops", "Cost at x=1×3×48×320: the 10 costliest of 266 ops"):
        assert words in text
    assert "all ops" in text
    assert "…" not in text


def test_quantisation_is_reported(opt, tmp_path):
    model = resolve_model(MODELS["rec"], "rec")
    path = run_opt(opt.python, model.program, model.params, tmp_path / "int8", valid_places="arm")
    path.write_bytes(round_nb(path.read_bytes(), 8))
    rows = [row[1:] for row in read_rows(run_inspect(path))]
    assert ["quantised", "8", "post_weight_channel_wise_abs_max", "33"] in rows
    assert ["params", "int8", "33", "2599784", "2599784"] in rows
    (one,) = json.loads(run_inspect(path, "--json").stdout)
    assert one["quantisation"] == [{"bits": 8, "method": "post_weight_channel_wise_abs_max", "ops": 33}]
    assert "8 bits in 33 ops" in run_in_terminal(path)


def test_an_unknown_op_leaves_the_cost_out_and_says_why(bundle, tmp_path):
    path = tmp_path / "odd.nb"
    path.write_bytes((bundle / "models" / "det.nb").read_bytes().replace(b"hard_swish", b"hard_\x1b[1mx"))
    rows = [row[1:] for row in read_rows(run_inspect(path))]
    assert any(row[0] == "cost_missing" and "op 5: 'hard_\\x1b[1mx'" in row[1] for row in rows)
    assert not any(row[0].startswith("cost_") and row[0] != "cost_missing" for row in rows)
    assert ["ops", "243"] in rows
    (one,) = json.loads(run_inspect(path, "--json").stdout)
    assert one["cost"] is None
    assert one["cost_missing"].startswith("odd.nb: op 5: 'hard_\\x1b[1mx'")
    text = run_in_terminal(path)
    assert "op 5" in text
    assert "hard_\\x1b[1mx" in text
    assert "\x1b" not in text


def test_a_model_unlike_ours_asks_for_its_shape(cls, tmp_path):
    two_sides, one_side = struct.pack("<Iqq", 2, -1, 2), struct.pack("<Iqq", 1, -1, 2)
    data = cls.read_bytes()
    assert two_sides in data
    path = tmp_path / "other.nb"
    # The rank of the output distinguishes the kinds.
    path.write_bytes(data.replace(two_sides, one_side))
    rows = [row[1:] for row in read_rows(run_inspect(path))]
    assert any(row[0] == "cost_missing" and "--shape" in row[1] for row in rows)
    rows = [row[1:] for row in read_rows(run_inspect(path, "--shape", "x=1,3,48,192"))]
    assert ["cost_madds", "16241648"] in rows


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (["1,3,48,192"], "expected NAME=N,N,..."),
        (["x=1,3,48,-1"], "expected NAME=N,N,..."),
        (["x=1,3,48,²"], "expected NAME=N,N,..."),
        (["x=1,3,0,192"], "N from 1 to 2147483647"),
        (["x="], "expected NAME=N,N,..."),
        (["y=1,3,48,192"], "no such input"),
        (["x=1,3,48,192", "x=1,3,48,192"], "given twice"),
        (["x=3,48,192"], "expected ?×3×?×?"),
        (["x=1,4,48,192"], "expected ?×3×?×?"),
    ],
)
def test_a_wrong_shape_exits_2(cls, shapes, words):
    ended = run_inspect(cls, *(option for shape in shapes for option in ("--shape", shape)))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert words in ended.stderr
    assert "x ?×3×?×?" in ended.stderr


def test_a_shape_for_several_models_exits_2(bundle):
    ended = run_inspect(bundle, "--shape", "x=1,3,48,192")
    assert ended.returncode == 2
    assert "--shape" in ended.stderr


def test_a_shape_too_small_for_the_network_is_explained(cls):
    rows = [row[1:] for row in read_rows(run_inspect(cls, "--shape", "x=1,3,1,1"))]
    (reason,) = [row[1] for row in rows if row[0] == "cost_missing"]
    assert re.search(r"op \d+ \(pool2d\): .*, 1\]", reason)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda data: b"", "not a .nb file: 0 bytes"),
        (lambda data: b"\x89PNG\r\n\x1a\n" + bytes(100), "not a .nb file: meta version"),
        (lambda data: b"\1\0" + data[2:], "meta version 1, expected 2"),
        (lambda data: data[: len(data) // 2], "truncated"),
        (lambda data: data[:-1], "truncated"),
        (
            lambda data: data[:26] + b"\xff\xff\xff\xff" + data[30:],
            "damaged at byte 26 (ProgramDesc): offset 4294967295",
        ),
    ],
)
def test_an_incomplete_model_exits_5(cls, tmp_path, make, words):
    path = tmp_path / "bad.nb"
    path.write_bytes(make(cls.read_bytes()))
    for options in ((), ("--json",)):
        ended = run_inspect(path, *options)
        assert (ended.returncode, ended.stdout) == (5, "")
        assert f"Error: {path}: " in ended.stderr
        assert words in ended.stderr
        assert "Traceback" not in ended.stderr


def test_a_missing_file_exits_5(tmp_path):
    ended = run_inspect(tmp_path / "none.nb")
    assert ended.returncode == 5
    assert "No such file" in ended.stderr
    ended = run_inspect(tmp_path)
    assert ended.returncode == 5
    assert f"{tmp_path / 'models'}" in ended.stderr


def test_one_bad_model_in_a_bundle_exits_5(bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "copy")
    (tmp_path / "copy" / "models" / "rec.nb").write_bytes(b"short")
    ended = run_inspect(tmp_path / "copy")
    assert (ended.returncode, ended.stdout) == (5, "")
    assert "rec.nb: not a .nb file" in ended.stderr


def test_the_graph_is_written_as_onnx_with_the_usual_output(cls, tmp_path):
    out = tmp_path / "cls.onnx"
    ended = run_inspect(cls, "--onnx", out)
    assert (ended.returncode, ended.stdout) == (0, run_inspect(cls).stdout)
    assert re.fullmatch(rf"wrote {re.escape(str(out))}: opset 17, \d+ nodes, 0\.\d\d MB\n", ended.stderr)
    assert list(tmp_path.iterdir()) == [out]
    graph = onnx.load(out).graph
    assert graph.name == "cls.nb"
    assert f"{len(graph.node)} nodes, {out.stat().st_size / 1e6:.2f} MB" in ended.stderr
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    (probs,) = session.run(None, {"x": np.zeros((5, 3, 48, 192), dtype=np.float32)})
    assert probs.shape == (5, 2)
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-6)


def test_json_alone_is_on_stdout_with_onnx(cls, tmp_path):
    ended = run_inspect(cls, "--json", "--onnx", tmp_path / "cls.onnx")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)[0]["op_count"] == 104


def test_the_folder_of_one_model_will_do_for_onnx(cls, tmp_path):
    shutil.copy(cls, tmp_path)
    assert run_inspect(tmp_path, "--onnx", tmp_path / "cls.onnx").returncode == 0
    assert (tmp_path / "cls.onnx").stat().st_size > 100_000


def test_an_existing_onnx_file_is_replaced_only_with_force(cls, tmp_path):
    out = tmp_path / "a.onnx"
    out.write_text("mine")
    link = tmp_path / "link.onnx"
    link.symlink_to(out)
    for path in (out, link):
        ended = run_inspect(cls, "--onnx", path)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert f"Error: --onnx {path}: exists\nHint: " in ended.stderr
        assert out.read_text() == "mine"
    ended = run_inspect(cls, "--onnx", link, "--force")
    assert ended.returncode == 0, ended.stderr
    assert link.is_symlink()
    onnx.checker.check_model(onnx.load(out))
    assert sorted(tmp_path.iterdir()) == [out, link]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "none" / "a.onnx", "No such file or directory"),
        (lambda folder: folder, "is not a file"),
        (lambda folder: Path(os.devnull), "is not a file"),
        (lambda folder: folder / "copy.nb", "is the model itself"),
        (lambda folder: folder / "copy.nb" / "a.onnx", "Not a directory"),
        (lambda folder: folder / ("a" * 300), "File name too long"),
        (lambda folder: Path("/proc/a.onnx"), ""),
    ],
)
def test_an_impossible_place_for_onnx_exits_2(cls, tmp_path, make, words):
    model = tmp_path / "copy.nb"
    shutil.copy(cls, model)
    out = make(tmp_path)
    ended = run_inspect(model, "--onnx", out, "--force")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"Error: --onnx {out}: ")
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == [model]
    assert model.read_bytes() == cls.read_bytes()


def test_onnx_with_incompatible_options_exits_2(bundle, tmp_path):
    ended = run_inspect(bundle, "--onnx", tmp_path / "a.onnx")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"{bundle} has 3" in ended.stderr
    ended = run_inspect(bundle, "--force")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--force" in ended.stderr
    ended = run_inspect(bundle / "models" / "cls.nb", "--onnx", tmp_path / "a.onnx", "--shape", "y=1")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert not list(tmp_path.iterdir())


def test_an_op_that_onnx_cannot_have_is_named_and_nothing_is_written(bundle, tmp_path):
    path, out = tmp_path / "odd.nb", tmp_path / "odd.onnx"
    path.write_bytes((bundle / "models" / "det.nb").read_bytes().replace(b"hard_swish", b"hard_\x1b[1mx"))
    ended = run_inspect(path, "--onnx", out)
    assert (ended.returncode, ended.stdout) == (5, "")
    assert "Error: odd.nb: op 5: 'hard_\\x1b[1mx'" in ended.stderr
    assert "\x1b" not in ended.stderr
    out.write_text("mine")
    assert run_inspect(path, "--onnx", out, "--force").returncode == 5
    assert out.read_text() == "mine"
    assert sorted(tmp_path.iterdir()) == [path, out]


def test_a_missing_model_exits_5_whatever_the_onnx_file(tmp_path):
    out = tmp_path / "a.onnx"
    out.write_text("mine")
    ended = run_inspect(tmp_path / "none.nb", "--onnx", out, "--force")
    assert ended.returncode == 5
    assert "No such file" in ended.stderr
    assert out.read_text() == "mine"


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom edge_ocr.cli import inspect\n"
        "heavy = {'numpy', 'cv2', 'onnx', 'paddle', 'openvino', 'rich.console', 'converters', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
