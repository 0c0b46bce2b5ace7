"""The part of the HTML report on one network, op by op: a chart of the differences, and a table of all tensors."""

from __future__ import annotations

import math

from converters.report import Trace
from converters.verify.report.page import clean_text, show_figure, show_verdict, write_table
from converters.verify.trace import describe_trace

# In units of the drawing, which is scaled to the page.
_WIDTH, _HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 708, 26, 216


def write_trace(kind: str, trace: Trace) -> str:
    """Return the section on one network as HTML."""
    head = ("op", "type", "parameters", "reference tensor", "max |Δ|", "relative", "accumulated", "agrees")
    rows = [
        (
            str(tensor.index),
            f"<code>{clean_text(tensor.op_type)}</code>",
            clean_text(", ".join(tensor.params)) or "–",
            clean_text(tensor.reference) if tensor.reference is not None else "none with this shape",
            show_figure(tensor.max_abs_diff),
            show_figure(tensor.relative_diff),
            show_figure(tensor.accumulated_diff),
            show_verdict(tensor.agrees, "yes" if tensor.agrees else "no"),
        )
        for tensor in trace.tensors
    ]
    sentence = describe_trace(kind, trace).removeprefix(f"{kind}: ")
    return (
        f"<h3>{kind}</h3>\n<p>{clean_text(sentence[:1].upper() + sentence[1:])}.</p>\n"
        f'<div class="wide" role="region" tabindex="0" aria-label="chart of {kind}">{_draw_chart(kind, trace)}</div>\n'
        f"<details><summary>All tensors of {kind}: {len(rows)}</summary>\n"
        f"{write_table(head, rows, numbers=head[4:7])}</details>\n"
    )


def _draw_chart(kind: str, trace: Trace) -> str:
    """Return an SVG of the relative difference at each op: 0 at the bottom, values that are not finite at the top."""
    tensors = [tensor for tensor in trace.tensors if tensor.reference is not None]
    if not tensors:
        return '<p class="soft">No tensor has a counterpart in the reference.</p>'
    differences = [value for tensor in tensors for value in (tensor.relative_diff, tensor.accumulated_diff)]
    seen = [math.log10(value) for value in (*differences, trace.threshold) if value > 0 and math.isfinite(value)]
    low, high = math.floor(min(seen)) - 1, math.ceil(max(seen)) + 1
    last = max(1, *(tensor.index for tensor in tensors))

    def place(index: int, value: float) -> tuple[float, float]:
        level = high if not math.isfinite(value) else low if value <= 0 else math.log10(value)
        x = _LEFT + (_RIGHT - _LEFT) * index / last
        return round(x, 1), round(_TOP + (_BOTTOM - _TOP) * (high - level) / (high - low), 1)

    parts = []
    for level in range(low, high + 1, math.ceil((high - low) / 8)):
        y = place(0, 10.0**level)[1]
        parts.append(f'<path class="axis" d="M{_LEFT} {y}H{_RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{f"1e{level}" if level > low else 0}</text>')
    for index in range(0, last + 1, 10 * math.ceil(last / 120)):
        parts.append(f'<text x="{place(index, 0)[0]}" y="{_BOTTOM + 16}" text-anchor="middle">{index}</text>')
    y = place(0, trace.threshold)[1]
    parts.append(f'<path class="limit" d="M{_LEFT} {y}H{_RIGHT}"/>')
    parts.append(f'<text x="{_RIGHT}" y="{y - 4}" text-anchor="end">agrees below {show_figure(trace.threshold)}</text>')
    if trace.first_parted is not None:
        index = trace.tensors[trace.first_parted].index
        x, anchor = place(index, 0)[0], "end" if index > last / 2 else "start"
        parts.append(f'<path class="parted" d="M{x} {_TOP}V{_BOTTOM}"/>')
        parts.append(
            f'<text class="parted" x="{x}" y="{_TOP - 8}" text-anchor="{anchor}">first difference: op {index}</text>'
        )
    # Without values that a logarithmic line cannot show; a constant has a difference of 0.
    gathered = [(tensor.index, tensor.accumulated_diff) for tensor in tensors if 0 < tensor.accumulated_diff < math.inf]
    line = " ".join("{},{}".format(*place(*point)) for point in gathered)
    parts.append(f'<polyline class="gathered" points="{line}"/>')
    for tensor in tensors:
        x, y = place(tensor.index, tensor.relative_diff)
        if tensor.agrees:
            parts.append(f'<circle class="equal" cx="{x}" cy="{y}" r="2.5"/>')
        else:
            parts.append(f'<path class="different" d="M{x - 3:.1f} {y - 3:.1f}l6 6m0 -6l-6 6"/>')
    across, down = (_LEFT + _RIGHT) / 2, (_TOP + _BOTTOM) / 2
    labels = {
        f'x="{across}" y="{_HEIGHT - 8}"': "op of the .nb; dot: agrees, cross: differs, line: accumulated",
        f'x="{-down}" y="12" transform="rotate(-90)"': "relative difference",
    }
    parts += [f'<text {where} text-anchor="middle">{label}</text>' for where, label in labels.items()]
    title = f"{kind}: relative difference of {len(tensors)} tensors, by op"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}"><title>{title}</title>'
        f"{''.join(parts)}</svg>"
    )
