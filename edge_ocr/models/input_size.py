"""Reads the declared input size of a model from its file, without an engine."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from edge_ocr.errors import ToolchainError
from edge_ocr.models.types import InputSize, ModelFormat


def read_input_size(program: Path, model_format: ModelFormat) -> InputSize:
    """Return the height and width of the images that a model takes.

    An unreadable file gives (None, None); running or converting it reports the fault.
    """
    read = {"pdmodel": _read_pdmodel, "json": _read_pir, "onnx": _read_onnx}[model_format]
    try:
        shape = read(program)
    # protobuf's errors share no base but Exception, and damaged JSON may contain anything.
    except Exception:
        return None, None
    if shape is None or len(shape) != 4:
        return None, None
    height, width = (side if isinstance(side, int) and side > 0 else None for side in shape[2:])
    return height, width


def _read_pdmodel(program: Path) -> Sequence[int] | None:
    block = load_framework_pb2().ProgramDesc.FromString(program.read_bytes()).blocks[0]
    fed = {name for op in block.ops if op.type == "feed" for slot in op.outputs for name in slot.arguments}
    shapes = [list(var.type.dense_tensor.tensor.dims) for var in block.vars if var.name in fed]
    return shapes[0] if len(shapes) == 1 else None


def _read_pir(program: Path) -> Sequence[int] | None:
    ops = json.loads(program.read_bytes())["program"]["regions"][0]["blocks"][0]["ops"]
    # A tensor type lists data type, shape, layout and so on. Dialect 1 holds Paddle's ops.
    shapes = [op["O"][0]["TT"]["D"][1] for op in ops if op["#"] in ("1.data", "1.feed")]
    return shapes[0] if len(shapes) == 1 else None


def _read_onnx(program: Path) -> Sequence[int] | None:
    import onnx

    graph = onnx.load(program, load_external_data=False).graph
    # Before IR version 4, weights are inputs as well.
    weights = {tensor.name for tensor in graph.initializer}
    fed = [port.type.tensor_type.shape for port in graph.input if port.name not in weights]
    # A named dimension has no number, so its value is 0.
    return [dim.dim_value for dim in fed[0].dim] if len(fed) == 1 else None


@cache
def load_framework_pb2() -> Any:
    """Return Paddle's generated `framework_pb2` without importing paddle, which takes two seconds.

    The module needs protobuf only, which paddle requires. Raises ToolchainError if paddle is not installed.
    """
    name = "paddle.base.proto.framework_pb2"
    if name in sys.modules:
        return sys.modules[name]
    paddle = importlib.util.find_spec("paddle")
    folders = [] if paddle is None else list(paddle.submodule_search_locations or [])
    for folder in folders:
        file = Path(folder, "base", "proto", "framework_pb2.py")
        # Under another name, so that a later `import paddle` loads its own copy.
        spec = importlib.util.spec_from_file_location("edge_ocr._framework_pb2", file)
        if spec is not None and spec.loader is not None and file.is_file():
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    raise ToolchainError(
        "reading a .pdmodel needs paddle, which is not installed", "run pip install 'paddlepaddle>=3.2,<4'"
    )
