"""Matches elementwise ops for the passes that re-fuse operators, and inserts reshapes.

ONNX exporters decompose one op of the network into several, with factors and terms in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from converters.sources.program import Op, Program, get_attr, get_input, get_output

# One number in, one number out, the same for all numbers.
POINTWISE = frozenset(("gelu", "hard_sigmoid", "hard_swish", "relu", "relu6", "sigmoid", "swish", "tanh"))


def find_inner(program: Program, name: str | None, op_type: str) -> Op | None:
    """Return the op of this type that writes `name` if `name` is read only once; else None."""
    op = None if name is None else program.find_writer(name)
    if op is None or op.type != op_type or name is None or program.find_only_reader(name) is None:
        return None
    return op


def read_number(program: Program, op: Op, op_type: str) -> tuple[str, float] | None:
    """Return an elementwise op's tensor and number; None if it is another op.

    A division by a number counts as an elementwise_mul.
    """
    x, y = get_input(op, "X"), get_input(op, "Y")
    is_division = op_type == "elementwise_mul" and op.type == "elementwise_div"
    if (op.type != op_type and not is_division) or x is None or y is None:
        return None
    if x in program.params and not is_division:
        x, y = y, x
    if x in program.params or not program.is_constant(y):
        return None
    value = program.params[y]
    # A constant of higher rank would add dimensions to the result.
    if value.size != 1 or value.dtype != np.float32 or value.ndim > len(program.find_shape(x) or ()):
        return None
    number = float(value.reshape(-1)[0])
    if not np.isfinite(number) or (is_division and number == 0):
        return None
    return x, 1 / number if is_division else number


def is_close(value: float, expected: float) -> bool:
    """Return whether a number equals the expected one up to one part in a million, float32's precision."""
    return abs(value - expected) <= 1e-6 * abs(expected)


@dataclass
class Product:
    """A product of tensors and numbers, computed by several ops; other ops read only the last one's result."""

    number: float
    factors: list[str]
    ops: list[Op]


def read_product(program: Program, last: Op) -> Product | None:
    """Return the product that a multiplication computes, including multiplications that only it reads."""
    product = Product(1.0, [], [])
    return product if _expand(program, last, product) else None


def _expand(program: Program, op: Op, product: Product) -> bool:
    found = read_number(program, op, "elementwise_mul")
    x, y = get_input(op, "X"), get_input(op, "Y")
    if found is not None:
        product.number *= found[1]
        names = [found[0]]
    elif op.type == "elementwise_mul" and get_attr(op, "axis", -1) == -1 and x is not None and y is not None:
        names = [x, y]
    else:
        return False
    product.ops.append(op)
    for name in names:
        maker = find_inner(program, name, "elementwise_mul") or find_inner(program, name, "elementwise_div")
        if maker is None or not _expand(program, maker, product):
            product.factors.append(name)
    return True


def get_result(op: Op) -> str:
    """Return the tensor that an elementwise op writes."""
    return get_output(op, "Out") or ""


def insert_reshape(program: Program, after: Op, source: str, dims: list[int], shape: Sequence[int], result: str) -> Op:
    """Insert a `reshape2` of `source` after an op and return it.

    `dims` is its attribute: 0 copies the dimension at the same place, -1 is what is left. `shape` is declared for
    `result`, with -1 for a free dimension.
    """
    unread = program.make_name(f"{result}.xshape")
    program.set_shape(unread, (0, *(program.find_shape(source) or ())))
    program.set_shape(result, tuple(shape))
    return program.insert_op(after, "reshape2", {"X": source}, {"Out": result, "XShape": unread}, {"shape": dims})
