"""Writes back what newer Paddle leaves out of a program and opt cannot do without."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from converters.graph.passes.report import PassReport, make_report
from converters.sources.program import Program, get_attr, get_output, list_inputs, set_attr

# Read by Paddle-Lite v2.13 without a look whether they are there (lite/operators/activation_ops.cc); the values
# are the only ones that the kernels of a Paddle that leaves them out compute with.
_ATTRIBUTES: Mapping[str, Mapping[str, float]] = MappingProxyType({"swish": MappingProxyType({"beta": 1.0})})

# Outputs without a reader, which newer Paddle drops on saving as "extra": some with their slot, some leave it
# empty. opt takes the first argument of a slot that is there unseen, and of the first two ops of one that is not;
# and it only removes a dropout at inference that has its Mask.
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
    """Give ops back the attributes and outputs that Paddle before 2.6 wrote.

    Exact: swish is x·sigmoid(beta·x), and where the attribute is missing the model was made by a Paddle that has
    no other beta than 1, so the restored value is the one it was trained and run with. The outputs are new
    variables that no op reads, so no value in the program depends on them. Attributes are restored in all blocks,
    outputs in the main one alone.
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
            # An XShape is the shape of X behind a 0; a Mask is of X's shape.
            program.set_shape(result, shape if slot == "Mask" else (0, *shape))
            program.set_output(op, slot, result)
            changed += 1
    return make_report("restore_attributes", program, ops_before, changed)
