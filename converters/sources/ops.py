"""What a Paddle op means, one record per op: what the ONNX importer, the graph of a `.nb` and the trace all need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple


class NumberAttr(NamedTuple):
    """An attribute that holds one number."""

    paddle: str
    onnx: str
    """Its ONNX name; "" if ONNX fixes it at `default`."""
    default: float


@dataclass(frozen=True)
class PaddleOp:
    """What one op means."""

    onnx: str = ""
    """The ONNX op that computes the same from the same inputs; "" if there is none."""
    attrs: tuple[NumberAttr, ...] = ()
    """In the order in which Paddle writes them."""
    is_binary: bool = False
    """Whether it computes X with Y, with `axis` for the place of the smaller one in the larger."""
    is_fusable: bool = False
    """Whether it keeps shape and places, so that opt or a pass may have fused it into the op before it."""


PADDLE_OPS: Mapping[str, PaddleOp] = MappingProxyType(
    {
        "assign": PaddleOp("Identity", is_fusable=True),
        "batch_norm": PaddleOp(is_fusable=True),
        "dropout": PaddleOp(is_fusable=True),
        "elementwise_add": PaddleOp("Add", is_binary=True, is_fusable=True),
        "elementwise_div": PaddleOp("Div", is_binary=True),
        "elementwise_max": PaddleOp("Max", is_binary=True),
        "elementwise_mul": PaddleOp("Mul", is_binary=True, is_fusable=True),
        "elementwise_sub": PaddleOp("Sub", is_binary=True),
        "erf": PaddleOp("Erf"),
        "hard_sigmoid": PaddleOp(
            "HardSigmoid",
            (NumberAttr("slope", "alpha", 0.2), NumberAttr("offset", "beta", 0.5)),
            is_fusable=True,
        ),
        "hard_swish": PaddleOp(
            "HardSwish",
            (NumberAttr("threshold", "", 6.0), NumberAttr("scale", "", 6.0), NumberAttr("offset", "", 3.0)),
            is_fusable=True,
        ),
        "relu": PaddleOp("Relu", is_fusable=True),
        "relu6": PaddleOp(is_fusable=True),
        "scale": PaddleOp(is_fusable=True),
        "sigmoid": PaddleOp("Sigmoid", is_fusable=True),
        "sqrt": PaddleOp("Sqrt"),
        "swish": PaddleOp(is_fusable=True),
    }
)
