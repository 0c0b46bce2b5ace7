"""Reads `.pdmodel` programs."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edge_ocr.errors import ModelError, ToolchainError


@dataclass(frozen=True)
class Port:
    """One input or output tensor of a program."""

    name: str
    shape: tuple[int, ...]
    """-1 for a side that is free."""
    dtype: str
    """As NumPy calls it."""


@dataclass(frozen=True)
class Signature:
    """What a program takes and gives."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def read_signature(program: Path) -> Signature:
    """Return the inputs and outputs of a `.pdmodel`, in the order of their columns.

    Raises ModelError where the file is not a Paddle program.
    """
    framework = load_framework_pb2()
    desc = framework.ProgramDesc()
    hint = "fetch or export the model again"
    try:
        desc.ParseFromString(program.read_bytes())
    except OSError as error:
        raise ModelError(f"{program}: cannot be read: {error.strerror}", hint) from None
    except Exception as error:  # google.protobuf.message.DecodeError, of a package that paddle brings along
        raise ModelError(f"{program}: not a Paddle program: {error}", hint) from None
    if not desc.blocks:
        raise ModelError(f"{program}: not a Paddle program: it has no block", hint)
    block = desc.blocks[0]
    variables = {variable.name: variable.type.dense_tensor.tensor for variable in block.vars}
    dtypes = {
        framework.VarType.FP16: "float16",
        framework.VarType.FP32: "float32",
        framework.VarType.INT32: "int32",
        framework.VarType.INT64: "int64",
        framework.VarType.UINT8: "uint8",
    }

    def read_ports(op_type: str, slots: str) -> tuple[Port, ...]:
        ports: dict[int, Port] = {}
        for op in block.ops:
            if op.type != op_type:
                continue
            column = next((attr.i for attr in op.attrs if attr.name == "col"), 0)
            for name in (argument for slot in getattr(op, slots)[:1] for argument in slot.arguments[:1]):
                tensor = variables.get(name)
                dtype = None if tensor is None else dtypes.get(tensor.data_type)
                if tensor is None or dtype is None:
                    raise ModelError(f"{program}: {op_type} {name!r} has no tensor of a known type", hint)
                ports[column] = Port(name, tuple(tensor.dims), dtype)
        if not ports:
            raise ModelError(f"{program}: not an inference program: it has no {op_type}", hint)
        return tuple(ports[column] for column in sorted(ports))

    return Signature(read_ports("feed", "outputs"), read_ports("fetch", "inputs"))


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
        spec = importlib.util.spec_from_file_location("converters._framework_pb2", file)
        if spec is not None and spec.loader is not None and file.is_file():
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    raise ToolchainError(
        "paddle is not installed, which knows the format of .pdmodel", "pip install 'paddlepaddle>=3.2,<4'"
    )
