import subprocess
import sys

import pytest

from converters.program import Port, load_framework_pb2, read_signature
from edge_ocr.errors import ModelError
from edge_ocr.models import resolve_model


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


def test_paddle_is_not_imported_for_it_and_can_be_later():
    code = (
        "import sys; from converters.program import load_framework_pb2; ours = load_framework_pb2();"
        "assert 'paddle' not in sys.modules;"
        "import paddle.base.proto.framework_pb2 as theirs;"
        "program = theirs.ProgramDesc(); program.blocks.add(idx=0, parent_idx=-1);"
        "ours.ProgramDesc.FromString(program.SerializeToString())"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("content", [b"", b"not a program", b"\x0a\xff\xff"])
def test_what_is_no_program_is_refused(tmp_path, content):
    path = tmp_path / "inference.pdmodel"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"inference\.pdmodel: not a Paddle program"):
        read_signature(path)


def test_a_truncated_program_is_refused(tmp_path, det_program):
    path = tmp_path / "inference.pdmodel"
    path.write_bytes(det_program.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="not a Paddle program"):
        read_signature(path)


def test_a_missing_program_is_reported(tmp_path):
    with pytest.raises(ModelError, match="cannot be read"):
        read_signature(tmp_path / "inference.pdmodel")


def test_a_program_without_inputs_or_known_types_is_refused(tmp_path):
    framework = load_framework_pb2()
    program = framework.ProgramDesc()
    block = program.blocks.add(idx=0, parent_idx=-1)
    path = tmp_path / "inference.pdmodel"
    path.write_bytes(program.SerializeToString())
    with pytest.raises(ModelError, match="it has no feed"):
        read_signature(path)
    feed = block.ops.add(type="feed")
    feed.outputs.add(parameter="Out", arguments=["x"])
    path.write_bytes(program.SerializeToString())
    with pytest.raises(ModelError, match="feed 'x' has no tensor of a known type"):
        read_signature(path)
