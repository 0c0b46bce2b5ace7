"""Follows the nodes that compute on tensor shapes, until each Reshape has a constant shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from onnx import NodeProto

from converters.sources.onnx_graph import HINT, MAX_INT, OnnxGraph, read_attr
from edge_ocr.errors import ConversionError


@dataclass(frozen=True)
class _Dim:
    """A dimension of a tensor that is known only when the model runs."""

    tensor: str
    axis: int


Dims = tuple["_Dim | int", ...]


class ShapeFollower:
    """Replaces the shapes that a model computes by constants."""

    def __init__(self, graph: OnnxGraph) -> None:
        self.graph = graph
        self.dims: dict[str, Dims] = {}
        """By integer tensor: the numbers and dimensions in it."""

    def settle(self, nodes: Sequence[NodeProto]) -> list[NodeProto]:
        """Return the nodes without those that compute on shapes; each Reshape has a constant shape.

        Raises ConversionError if a computation cannot be followed; ModelError if the shapes do not match.
        """
        while True:
            self.graph.learn_shapes(nodes)
            self.dims.clear()
            kept: list[NodeProto] = []
            is_settled = False
            for place, node in enumerate(nodes):
                if node.op_type == "Shape" and node.input[0] not in self.graph.shapes:
                    # A Reshape before it had an unknown shape until now, so infer again.
                    if not is_settled:
                        what = f"the rank of {node.input[0]} is unknown"
                        raise ConversionError(f"{self.graph.describe(node)}: {what}", HINT)
                    nodes = [*kept, *nodes[place:]]
                    break
                if self._read_dims(node):
                    # Needed if the shapes are inferred again.
                    kept.append(node)
                    continue
                settled = self._settle_reshape(node)
                is_settled |= settled is not node
                kept.append(settled)
            else:
                nodes = [node for node in kept if not any(name in self.dims for name in node.output)]
                self.graph.learn_shapes(nodes)
                return nodes

    def _read_dims(self, node: NodeProto) -> bool:
        """Return whether a node computes on tensor shapes, and record its result."""
        source = node.input[0] if node.input else ""
        if node.op_type == "Shape":
            shape = self.graph.shapes[source]
            bounds = slice(read_attr(node, "start", 0), read_attr(node, "end", None))
            dims = tuple(dim if isinstance(dim, int) else _Dim(source, axis) for axis, dim in enumerate(shape))[bounds]
        elif not any(name in self.dims for name in (node.input[:1] if node.op_type == "Reshape" else node.input)):
            return False
        else:
            rule = _RULES.get(node.op_type)
            found = None if rule is None else rule(self, node)
            if found is None:
                what = "unsupported computation on a tensor's shape"
                raise ConversionError(f"{self.graph.describe(node)}: {what}", HINT)
            dims = found
        self.dims[node.output[0]] = dims
        return True

    def find_dims(self, name: str) -> Dims | None:
        """Return the numbers and dimensions in a vector of integers; None if they are unknown."""
        if name in self.dims:
            return self.dims[name]
        value = self.graph.constants.get(name)
        if value is None or value.dtype.kind not in "iu" or value.ndim > 1:
            return None
        return tuple(max(min(int(item), MAX_INT), -MAX_INT) for item in value.reshape(-1))

    def _settle_reshape(self, node: NodeProto) -> NodeProto:
        """Return a Reshape with its shape as a constant; return other nodes unchanged."""
        if node.op_type != "Reshape" or node.input[1] in self.graph.constants:
            return node
        source, shape = node.input
        dims = self.dims.get(shape)
        if dims is None:
            raise ConversionError(f"{self.graph.describe(node)}: its shape is unknown before the model runs", HINT)
        settled = [self._settle_dim(source, place, dim) for place, dim in enumerate(dims)]
        if settled.count(-1) > 1:
            raise ConversionError(
                f"{self.graph.describe(node)}: more than one dimension is unknown before the model runs", HINT
            )
        name = f"{node.output[0]}.shape"
        self.graph.constants[name] = np.array(settled, np.int64)
        changed = NodeProto()
        changed.CopyFrom(node)
        changed.input[1] = name
        return changed

    def _settle_dim(self, source: str, place: int, dim: _Dim | int) -> int:
        if isinstance(dim, int):
            return dim
        if dim == _Dim(source, place):
            return 0
        # Free dimensions with one name have one size.
        own, other = self.graph.shapes.get(source, ()), self.graph.shapes.get(dim.tensor, ())
        if place < len(own) and own[place] != "" and other[dim.axis : dim.axis + 1] == (own[place],):
            return 0
        return -1


def _slice_dims(follower: ShapeFollower, node: NodeProto) -> Dims | None:
    dims = follower.find_dims(node.input[0])
    if dims is None or len(node.input) < 3:
        return None
    # A vector has one axis, so input 3 (axes) can be ignored.
    bounds: list[int | None] = []
    for place, default in ((1, None), (2, None), (4, 1)):
        value = (
            follower.graph.constants.get(node.input[place]) if place < len(node.input) and node.input[place] else None
        )
        if (value is None and default is None) or (value is not None and value.size != 1):
            return None
        bounds.append(default if value is None else int(value.reshape(-1)[0]))
    return dims[slice(*bounds)]


def _gather_dims(follower: ShapeFollower, node: NodeProto) -> Dims | None:
    dims, indices = follower.find_dims(node.input[0]), follower.graph.constants.get(node.input[1])
    if dims is None or indices is None or not all(-len(dims) <= index < len(dims) for index in indices.reshape(-1)):
        return None
    return tuple(dims[int(index)] for index in indices.reshape(-1))


def _join_dims(follower: ShapeFollower, node: NodeProto) -> Dims | None:
    parts = [follower.find_dims(name) for name in node.input]
    return None if None in parts else tuple(dim for part in parts if part is not None for dim in part)


def _keep_dims(follower: ShapeFollower, node: NodeProto) -> Dims | None:
    """Return the same numbers; the shape of the vector itself does not matter."""
    return follower.find_dims(node.input[0])


_RULES: Mapping[str, Callable[[ShapeFollower, NodeProto], Dims | None]] = MappingProxyType(
    {
        "Cast": _keep_dims,
        "Concat": _join_dims,
        "Gather": _gather_dims,
        "Identity": _keep_dims,
        "Reshape": _keep_dims,
        "Slice": _slice_dims,
        "Squeeze": _keep_dims,
        "Unsqueeze": _keep_dims,
    }
)
SHAPE_OPS = frozenset(("Shape", *_RULES))
