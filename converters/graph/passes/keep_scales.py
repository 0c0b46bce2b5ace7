"""Keeps opt from folding `scale` ops into convolutions."""

from __future__ import annotations

from converters.graph.passes.report import PassReport, make_report
from converters.sources.program import Program, get_attr, set_attr

_MARK = "quantization_type"


def keep_scales(program: Program) -> PassReport:
    """Give each `scale` op an attribute that turns off opt's conv_scale_fuse_pass, whose results are often wrong.

    Exact: kernels do not read the attribute, and the runtime only compares it with the names of two quantisations.

    opt 2.13 folds y = a·x + b into the conv2d or depthwise_conv2d that writes x if this has a bias of its own,
    as W' = a·W and c' = a·c + b (lite/core/optimizer/mir/fusion/conv_scale_fuser.cc). This is wrong, without
    a warning, in three cases:

    1. The convolution has a fused activation, relu, relu6, leaky_relu or, in conv2d, hard_swish. These are fused
       earlier, so opt writes act(a·(W*x + c) + b) in place of a·act(W*x + c) + b.
    2. Another convolution shares the filters: they are scaled in place, for both.
    3. `bias_after_scale` is false, which means a·(x + b): opt still adds b.

    Whether a `scale` follows a convolution is known only after opt's other fusions, so all of them are marked. opt
    skips the pass if any op of a block has the attribute, which Paddle writes into programs with quantised weights. It
    then skips conv_conv_fuse_pass, too, whose work `merge_convs` does.
    """
    ops_before = program.count_ops()
    scales = [op for op in (*program.ops, *program.sub_ops) if op.type == "scale" and get_attr(op, _MARK) is None]
    for op in scales:
        set_attr(op, _MARK, "none")
    return make_report("keep_scales", program, ops_before, len(scales))
