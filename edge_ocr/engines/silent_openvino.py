"""OpenVINO without its telemetry; whoever needs OpenVINO here takes it from this module.

By itself, each `import openvino` reports to Google Analytics, from a process of its own, and keeps an id in ~/intel.
"""

from __future__ import annotations

import sys

_TELEMETRY = "openvino_telemetry"

# Where this package cannot be imported, OpenVINO has stubs for it. One that is in use already stays.
_hidden = sys.modules.setdefault(_TELEMETRY, None) is None  # type: ignore[arg-type]  # what makes an import fail
try:
    import openvino as ov
finally:
    if _hidden:
        del sys.modules[_TELEMETRY]

__all__ = ["ov"]
