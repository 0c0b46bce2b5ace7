"""What a model says of its input, read from its file without an engine."""

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
    """Return the size of the images that a model takes.

    A file that cannot be read gives (None, None): whoever runs or converts it says what is wrong with it.
    """
    read = {"pdmodel": _read_pdmodel, "json": _read_pir, "onnx": _read_onnx}[model_format]
    try:
        shape = read(program)
    # What protobuf raises has no base of its own but Exception, and a damaged JSON file may hold anything.
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
    # The type of a tensor: data type, shape, layout and so on. Dialect 1 is that of Paddle's ops.
    shapes = [op["O"][0]["TT"]["D"][1] for op in ops if op["#"] in ("1.data", "1.feed")]
    return shapes[0] if len(shapes) == 1 else None


def _read_onnx(program: Path) -> Sequence[int] | None:
    import onnx

    graph = onnx.load(program, load_external_data=False).graph
    # Before IR version 4, weights are inputs, too.
    weights = {tensor.name for tensor in graph.initializer}
    fed = [port.type.tensor_type.shape for port in graph.input if port.name not in weights]
    # A side with a name has no number, so 0.
    return [dim.dim_value for dim in fed[0].dim] if len(fed) == 1 else None


@cache
def load_framework_pb2() -> Any:
    """Return Paddle's generated `framework_pb2` without importing paddle, which costs two seconds.

    The module needs protobuf alone. Raises ToolchainError where paddle is not installed.
    """
    name = "paddle.base.proto.framework_pb2"
    if name in sys.modules:
        return sys.modules[name]
    paddle = importlib.util.find_spec("paddle")
    folders = [] if paddle is None else list(paddle.submodule_search_locations or [])
    for folder in folders:
        file = Path(folder, "base", "proto", "framework_pb2.py")
        # Under a name of our own: a later `import paddle` must find its own.
        spec = importlib.util.spec_from_file_location("edge_ocr._framework_pb2", file)
        if spec is not None and spec.loader is not None and file.is_file():
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    raise ToolchainError(
        "paddle is not installed, which knows the format of .pdmodel", "pip install 'paddlepaddle>=3.2,<4'"
    )
