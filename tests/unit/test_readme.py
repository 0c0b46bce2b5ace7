"""The READMEs say what the code does."""

from __future__ import annotations

import pytest

from converters.text import format_figure
from converters.verify.parity import TOLERANCES


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_the_tolerances_are_those_of_the_code(repository, name):
    text = (repository / name).read_text(encoding="utf-8")
    signs = {"at most": "≤", "at least": "≥"}
    for one in TOLERANCES:
        cells = [
            f"{signs[one.limit]} {format_figure(one.values[precision])}" if precision in one.values else "–"
            for precision in ("fp32", "int16", "int8")
        ]
        assert f"| `{one.figure}` | {' | '.join(cells)} |\n" in text
