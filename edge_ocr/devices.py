"""Devices that networks run on, such as `cpu`, `gpu:0` and `gpu:0,1`, and their precisions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from edge_ocr.errors import UsageError

Precision = Literal["f32", "bf16", "f16", "int8", "auto"]
"""How detectors and recognisers compute, if the processor and the network can: otherwise in f32. Uncertain lines are
read again in f32. int8 is for recognisers whose layers were chosen beforehand; `auto` is the fastest, as measured once.
"""

KINDS = ("cpu", "gpu", "npu", "xpu", "mlu")


@dataclass(frozen=True)
class Device:
    """A kind of device and the ids of the devices to use."""

    kind: str
    ids: tuple[int, ...]

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{','.join(map(str, self.ids))}"


def parse_device(text: str) -> Device:
    """Parse `KIND` or `KIND:ID[,ID…]`. Without ids, the first device is used; cpu takes no id.

    Raises UsageError for anything else.
    """
    match = re.fullmatch(r"(\w+)(?::(\d+(?:,\d+)*))?", text.strip().lower())
    if not match or match[1] not in KINDS or (match[1] == "cpu" and match[2]):
        raise UsageError(f"unknown device {text!r}", f"use one of {', '.join(KINDS)}, such as cpu, gpu:0 or gpu:0,1")
    ids = tuple(int(number) for number in match[2].split(",")) if match[2] else (0,)
    if len(set(ids)) != len(ids):
        raise UsageError(f"device {text!r} repeats an id")
    return Device(match[1], ids)
