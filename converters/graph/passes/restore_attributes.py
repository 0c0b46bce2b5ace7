"""Restores attributes and outputs that newer Paddle omits but opt needs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from converters.graph.passes.report import PassReport, make_report
from converters.sources.program import Program, get_attr, get_output, list_inputs, set_attr

# Paddle-Lite v2.13 reads them without checking that they exist (lite/operators/activation_ops.cc). A Paddle that omits
# them computes with these values only.
_ATTRIBUTES: Mapping[str, Mapping[str, float]] = MappingProxyType({"swish": MappingProxyType({"beta": 1.0})})

# Unread outputs that newer Paddle drops on saving as "extra", with or without their slot. opt reads the first argument
# of an existing slot unchecked, for the first two ops even of a missing slot. It removes only a dropout with a Mask.
_OUTPUTS: Mapping[str, str] = MappingProxyType(
    {
        "flatten_contiguous_range": "XShape",
        "reshape2": "XShape",
        "squeeze2": "XShape",
        "transpose2": "XShape",
        "unsqueeze2": "XShape",
        "dropout": "Mask",
    }
)


def restore_attributes(program: Program) -> PassReport:
    """Restore the attributes and outputs that Paddle before 2.6 wrote.

    Exact: swish is x·sigmoid(beta·x). A Paddle that omits the attribute has no other beta than 1, so the restored value
    is the one that the model was trained with. The outputs are new variables that no op reads, so no value depends on
    them. Attributes are restored in all blocks, outputs only in the main block.
    """
    ops_before = program.count_ops()
    changed = 0
    for op in (*program.ops, *program.sub_ops):
        for name, value in _ATTRIBUTES.get(op.type, {}).items():
            if get_attr(op, name) is None:
                set_attr(op, name, value)
                changed += 1
    for op in program.ops:
        slot = _OUTPUTS.get(op.type)
        if slot is not None and get_output(op, slot) is None:
            source = next(iter(list_inputs(op, "X")), None)
            result = program.make_name(f"{get_output(op, 'Out')}.{slot.lower()}")
            shape = (program.find_shape(source) if source else None) or ()
            # An XShape is 0 followed by the shape of X; a Mask has X's shape.
            program.set_shape(result, shape if slot == "Mask" else (0, *shape))
            program.set_output(op, slot, result)
            changed += 1
    return make_report("restore_attributes", program, ops_before, changed)
