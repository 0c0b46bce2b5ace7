"""Imports OpenVINO with its telemetry disabled; all code here must import OpenVINO from this module.

By default, each `import openvino` reports to Google Analytics from a separate process, and stores an id in ~/intel.
"""

from __future__ import annotations

import sys

_TELEMETRY = "openvino_telemetry"

# OpenVINO uses stubs if this package cannot be imported. A module that is already imported stays.
_hidden = sys.modules.setdefault(_TELEMETRY, None) is None  # type: ignore[arg-type]  # what makes an import fail
try:
    import openvino as ov
finally:
    if _hidden:
        del sys.modules[_TELEMETRY]

__all__ = ["ov"]
