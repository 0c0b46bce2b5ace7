"""Imports OpenVINO without its model converter; all code here must import OpenVINO from this module.

The converter takes a third of the time of the import. Each import of it reports to Google Analytics from a separate
process, and stores an id in ~/intel.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

_CONVERTER = "openvino.tools.ovc"

# OpenVINO does without the converter if it cannot be imported. A module that is already imported stays.
_hidden = sys.modules.setdefault(_CONVERTER, None) is None  # type: ignore[arg-type]  # what makes an import fail
try:
    import openvino as ov
finally:
    if _hidden:
        del sys.modules[_CONVERTER]


def _import_converter(name: str) -> Any:
    if name != "convert_model":
        raise AttributeError(f"module 'openvino' has no attribute {name!r}")
    return import_module(_CONVERTER).convert_model


if not hasattr(ov, "convert_model"):
    # For other users of OpenVINO in this process.
    ov.__getattr__ = _import_converter

__all__ = ["ov"]
