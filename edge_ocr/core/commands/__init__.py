"""`edge-ocr-lite`, the command of boards: its arguments, and how errors become exit codes.

Imports only what --help needs: a board takes seconds to load NumPy and OpenCV.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from ..errors import EdgeOcrError, ToolchainError, UsageError, escape_text

INTERRUPTED = 130

# Python counts the Chinese space and the no-break space as not printable.
_KEPT = "\n\xa0\u3000"

MAX_PIXELS = 178_956_970
"""Largest picture; the same as `Input.max_pixels` of the host."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"{self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments`, by default those of the process; return its exit code."""
    signal.signal(signal.SIGTERM, _end)
    # OpenCV reads this when it is loaded.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
    if hasattr(sys.stdout, "reconfigure"):
        # Print escapes, not an error, for characters that the encoding of the terminal lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    return map_errors(lambda: _run(sys.argv[1:] if arguments is None else arguments))


def map_errors(run: Callable[[], int], *, with_traceback: bool = False) -> int:
    """Return the exit code of `run`, or of the error that it ends with; report that error on stderr.

    Bugs pass through. `with_traceback` prints a traceback before the report.
    """
    try:
        status = run()
        # A pipe that was closed early is noticed here, not at exit.
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as interrupt:
        # A command may say how far it got.
        progress = f": {interrupt}" if interrupt.args else ""
        sys.stderr.write(f"\nInterrupted{progress}.\n")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`head`, a pager) is gone.
        _silence_stdout()
        return 0
    except (EdgeOcrError, OSError) as error:
        if with_traceback:
            traceback.print_exc()
        if isinstance(error, EdgeOcrError):
            report_error(error)
            return error.exit_code
        # An OSError that no command expects: a full disk behind stdout, a path that the file system refuses.
        report_error(UsageError(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")))
        _silence_stdout()
        return UsageError.exit_code


def _silence_stdout() -> None:
    """Keep Python from complaining about stdout again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: Sequence[str]) -> int:
    options = _parse(arguments)
    if getattr(options, "chars", False):
        # In whichever order the two are given, as on the host.
        options.words = "chars"
    try:
        return int(import_module(f".{options.command}", __name__).run(options))
    except ImportError as error:
        what = f"the Python module {error.name} is missing for {sys.executable}"
        if not isinstance(error, ModuleNotFoundError):
            # A library that the module needs may be missing: OpenCV often lacks libGL.so.1.
            what = f"a Python module cannot be loaded by {sys.executable}: {' '.join(str(error).split())}"
        raise ToolchainError(what, "run ./install.sh to see which packages to install") from None


def report_error(error: EdgeOcrError) -> None:
    """Write an error to stderr: a line for the message, one for the hint.

    Control characters, which may come from a server, are escaped.
    """
    sys.stderr.write(escape_text(f"Error: {error.message}\n", _KEPT))
    if error.hint:
        sys.stderr.write(escape_text(f"Hint: {error.hint}\n", _KEPT))


def _end(number: int, frame: object) -> None:
    # Like Ctrl-C, SIGTERM must leave no half-written file.
    sys.exit(128 + number)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser, names = _build_parser()
    first = arguments[0] if arguments else "--help"
    # `edge-ocr-lite photo.jpg` is short for `predict`.
    if first in (*names, "-h", "--help"):
        return parser.parse_args(arguments or [first])
    # A short word that is not a file is probably a mistyped command.
    if first.isalpha() and len(first) <= 10 and not Path(first).exists():
        raise UsageError(
            f"{first} is not a command or a file",
            f"give a picture or a command: edge-ocr-lite PICTURE, or {', '.join(names)}",
        )
    return parser.parse_args(["predict", *arguments])


def _build_parser() -> tuple[_Parser, tuple[str, ...]]:
    # Not above: the host's command also imports this module, for the exit codes of errors.
    from ..bundle import ENGINES, POWER_MODES

    prog = "edge-ocr-lite"
    common = _Parser(add_help=False)
    common.add_argument("--bundle", metavar="DIR", type=Path, help="default: the bundle of this command")
    running = _Parser(add_help=False, parents=[common])
    running.add_argument(
        "--engine",
        metavar="NAME",
        choices=("auto", *ENGINES),
        default="auto",
        help=f"{', '.join(ENGINES)}; default: any that works",
    )
    running.add_argument("--threads", metavar="N", type=_natural, help="default: all cores")
    running.add_argument(
        "--power-mode",
        metavar="MODE",
        choices=POWER_MODES,
        default="no-bind",
        help=f"cores for Paddle-Lite, by default any: {', '.join(POWER_MODES)}",
    )
    parts = _Parser(add_help=False)
    parts.add_argument(
        "--words", action="store_const", const="words", help="add words and their boxes to JSON and pictures"
    )
    parts.add_argument("--chars", action="store_true", help="add words and characters, too")
    parser = _Parser(
        prog=prog,
        description="Read text in pictures with the models of a bundle.",
        epilog=f"{prog} PICTURE is short for {prog} predict PICTURE.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    predict = commands.add_parser(
        "predict",
        parents=[running, parts],
        help="read pictures",
        description="text prints one line for each line of text; json prints one object, or an array for several "
        "pictures; jsonl prints one object per line.",
    )
    predict.add_argument("images", metavar="IMAGE", nargs="+", help="picture, folder, or - for standard input")
    predict.add_argument(
        "--format", metavar="FORMAT", choices=("text", "json", "jsonl"), default="text", help="text, json or jsonl"
    )
    predict.add_argument("--save-path", metavar="DIR", type=Path, help="save NAME_res.json and NAME_res.jpg there")

    bench = commands.add_parser("bench", parents=[running], help="measure time and memory")
    bench.add_argument("images", metavar="IMAGE", nargs="*", help="picture or folder; default: the golden picture")
    bench.add_argument("--warmup", metavar="N", type=_count, default=2, help="unmeasured rounds (default: 2)")
    bench.add_argument("--runs", metavar="N", type=_natural, default=10, help="measured rounds (default: 10)")
    bench.add_argument("--json", action="store_true", help="print JSON")

    commands.add_parser("selftest", parents=[running], help="check every file and read the golden picture")

    camera = commands.add_parser(
        "camera", parents=[running, parts], help="read from a camera; print lines as they change"
    )
    camera.add_argument(
        "--device", metavar="N|PATH|URL", default="0", help="N of /dev/videoN, a video file or the URL of a stream"
    )
    camera.add_argument("--frames", metavar="N", type=_natural, help="stop after N pictures")
    camera.add_argument(
        "--format",
        metavar="FORMAT",
        choices=("text", "jsonl"),
        default="text",
        help="text: new lines; jsonl: all lines after a change",
    )

    commands.add_parser("info", parents=[common], help="show what this machine has for the bundle, as JSON")
    return parser, tuple(commands.choices)


def _natural(text: str) -> int:
    return _count(text, least=1)


def _count(text: str, least: int = 0) -> int:
    number = int(text) if text.isdecimal() else -1
    if not least <= number < 10**6:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number from {least}")
    return number
