"""The layers of a `.nb` whose weights can be stored as integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from converters.lite.nb.read import NbModel

# The slot and the axis of the output channels of the weights. The runtime turns these back into floats when it loads
# them (Paddle-Lite 2.13, LightPredictor::DequantizeWeight).
_WEIGHTS: Mapping[str, tuple[str, int]] = MappingProxyType({"conv2d": ("Filter", 0), "fc": ("W", 1)})


@dataclass(frozen=True)
class Layer:
    """One convolution or fully connected layer."""

    name: str
    """Name of its weights."""
    op_type: str
    shape: tuple[int, ...]
    """Shape of the weights."""
    axis: int
    """The axis of the output channels in `shape`."""
    bias: str | None
    """Name of the parameter that is added to the output, one number per channel; None without one."""
    groups: int
    index: int
    """Its place among the layers, in program order."""

    @property
    def count(self) -> int:
        """Return the number of weights."""
        product = 1
        for size in self.shape:
            product *= size
        return product


def list_layers(nb: NbModel) -> tuple[Layer, ...]:
    """Return the layers in program order; without those that share their weights, or that are integers already."""
    readers = Counter(name for op in nb.blocks[0].ops for names in op.inputs.values() for name in names)
    layers: list[Layer] = []
    for op in nb.blocks[0].ops:
        if op.type not in _WEIGHTS or op.quantisation is not None or op.attrs.get("enable_int8") is True:
            continue
        slot, axis = _WEIGHTS[op.type]
        names = op.inputs.get(slot, ())
        param = nb.params.get(names[0]) if len(names) == 1 else None
        if param is None or readers[names[0]] != 1 or param.dtype != "float32" or len(param.shape) != (4 - 2 * axis):
            continue
        bias = op.inputs.get("Bias", ())
        own = bias[0] if len(bias) == 1 and readers[bias[0]] == 1 and bias[0] in nb.params else None
        groups = int(op.attrs.get("groups", 1))
        layers.append(Layer(names[0], op.type, tuple(param.shape), axis, own, groups, len(layers)))
    return tuple(layers)
