"""What each op of a `.nb` means, one record per op: its ONNX form and its cost."""

from collections.abc import Mapping
from types import MappingProxyType

from converters.lite.nb.builder import OpRule
from converters.lite.nb.ops import elementwise, integers, ports, products, shapes, windows

OPS: Mapping[str, OpRule] = MappingProxyType(
    {**ports.RULES, **windows.RULES, **products.RULES, **elementwise.RULES, **shapes.RULES, **integers.RULES}
)
