"""`edge-ocr-lite info`: show what this machine has for running the bundle."""

from __future__ import annotations

import argparse
import json
import sys

from ..bundle import describe_machine, find_own_bundle, open_bundle


def run(options: argparse.Namespace) -> int:
    """Print the engines, modules and keys of this machine as JSON."""
    bundle = open_bundle(find_own_bundle() if options.bundle is None else options.bundle)
    sys.stdout.write(json.dumps(describe_machine(bundle), ensure_ascii=False, indent=2) + "\n")
    return 0
