"""Follows what a model computes from the shapes of its tensors, until each Reshape has a constant shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from onnx import NodeProto

from converters.sources.onnx_graph import HINT, MAX_INT, OnnxGraph, read_attr
from edge_ocr.errors import ConversionError


@dataclass(frozen=True)
class _Side:
    """A side of a tensor, known when the model runs."""

    tensor: str
    axis: int


Sides = tuple["_Side | int", ...]


class ShapeFollower:
    """What is known of the shapes that a model computes."""

    def __init__(self, graph: OnnxGraph) -> None:
        self.graph = graph
        self.sides: dict[str, Sides] = {}
        """By name of a tensor of integers: what it holds."""

    def settle(self, nodes: Sequence[NodeProto]) -> list[NodeProto]:
        """Return the nodes without those that compute on shapes, each Reshape with a constant shape."""
        while True:
            self.graph.learn_shapes(nodes)
            self.sides.clear()
            kept: list[NodeProto] = []
            is_settled = False
            for place, node in enumerate(nodes):
                if node.op_type == "Shape" and node.input[0] not in self.graph.shapes:
                    # The tensor lies behind a Reshape whose shape was not known to the inference.
                    if not is_settled:
                        what = f"the number of sides of {node.input[0]} is not known"
                        raise ConversionError(f"{self.graph.describe(node)}: {what}", HINT)
                    nodes = [*kept, *nodes[place:]]
                    break
                if self._read_sides(node):
                    # Of use again where the shapes are read once more.
                    kept.append(node)
                    continue
                settled = self._settle_reshape(node)
                is_settled |= settled is not node
                kept.append(settled)
            else:
                nodes = [node for node in kept if not any(name in self.sides for name in node.output)]
                self.graph.learn_shapes(nodes)
                return nodes

    def _read_sides(self, node: NodeProto) -> bool:
        """Tell whether a node computes on the shapes of tensors, and learn its result."""
        source = node.input[0] if node.input else ""
        if node.op_type == "Shape":
            shape = self.graph.shapes[source]
            bounds = slice(read_attr(node, "start", 0), read_attr(node, "end", None))
            sides = tuple(side if isinstance(side, int) else _Side(source, axis) for axis, side in enumerate(shape))[
                bounds
            ]
        elif not any(name in self.sides for name in (node.input[:1] if node.op_type == "Reshape" else node.input)):
            return False
        else:
            rule = _SIDE_RULES.get(node.op_type)
            found = None if rule is None else rule(self, node)
            if found is None:
                raise ConversionError(
                    f"{self.graph.describe(node)}: it computes on the shape of a tensor in a way that is not followed",
                    HINT,
                )
            sides = found
        self.sides[node.output[0]] = sides
        return True

    def find_sides(self, name: str) -> Sides | None:
        """Return a vector of integers, as far as it is known."""
        if name in self.sides:
            return self.sides[name]
        value = self.graph.constants.get(name)
        if value is None or value.dtype.kind not in "iu" or value.ndim > 1:
            return None
        return tuple(max(min(int(item), MAX_INT), -MAX_INT) for item in value.reshape(-1))

    def _settle_reshape(self, node: NodeProto) -> NodeProto:
        """Return a Reshape whose shape is a constant; other nodes as they are."""
        if node.op_type != "Reshape" or node.input[1] in self.graph.constants:
            return node
        source, shape = node.input
        sides = self.sides.get(shape)
        if sides is None:
            raise ConversionError(f"{self.graph.describe(node)}: its shape is not known before the model runs", HINT)
        settled = [self._settle_side(source, place, side) for place, side in enumerate(sides)]
        if settled.count(-1) > 1:
            raise ConversionError(f"{self.graph.describe(node)}: more than one side is not known before it runs", HINT)
        name = f"{node.output[0]}.shape"
        self.graph.constants[name] = np.array(settled, np.int64)
        changed = NodeProto()
        changed.CopyFrom(node)
        changed.input[1] = name
        return changed

    def _settle_side(self, source: str, place: int, side: _Side | int) -> int:
        if isinstance(side, int):
            return side
        if side == _Side(source, place):
            return 0
        # Free sides of one name are of one length.
        own, other = self.graph.shapes.get(source, ()), self.graph.shapes.get(side.tensor, ())
        if place < len(own) and own[place] != "" and other[side.axis : side.axis + 1] == (own[place],):
            return 0
        return -1


def _slice_sides(follower: ShapeFollower, node: NodeProto) -> Sides | None:
    sides = follower.find_sides(node.input[0])
    if sides is None or len(node.input) < 3:
        return None
    # The axis, by place 3, can only be the first.
    bounds: list[int | None] = []
    for place, default in ((1, None), (2, None), (4, 1)):
        value = (
            follower.graph.constants.get(node.input[place]) if place < len(node.input) and node.input[place] else None
        )
        if (value is None and default is None) or (value is not None and value.size != 1):
            return None
        bounds.append(default if value is None else int(value.reshape(-1)[0]))
    return sides[slice(*bounds)]


def _gather_sides(follower: ShapeFollower, node: NodeProto) -> Sides | None:
    sides, indices = follower.find_sides(node.input[0]), follower.graph.constants.get(node.input[1])
    if sides is None or indices is None or not all(-len(sides) <= index < len(sides) for index in indices.reshape(-1)):
        return None
    return tuple(sides[int(index)] for index in indices.reshape(-1))


def _join_sides(follower: ShapeFollower, node: NodeProto) -> Sides | None:
    parts = [follower.find_sides(name) for name in node.input]
    return None if None in parts else tuple(side for part in parts if part is not None for side in part)


def _keep_sides(follower: ShapeFollower, node: NodeProto) -> Sides | None:
    """One number stays one number, and a vector a vector, whatever the op makes of its own shape."""
    return follower.find_sides(node.input[0])


_SIDE_RULES: Mapping[str, Callable[[ShapeFollower, NodeProto], Sides | None]] = MappingProxyType(
    {
        "Cast": _keep_sides,
        "Concat": _join_sides,
        "Gather": _gather_sides,
        "Identity": _keep_sides,
        "Reshape": _keep_sides,
        "Slice": _slice_sides,
        "Squeeze": _keep_sides,
        "Unsqueeze": _keep_sides,
    }
)
SIDE_OPS = frozenset(("Shape", *_SIDE_RULES))
