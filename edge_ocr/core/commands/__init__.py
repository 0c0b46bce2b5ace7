"""The command of boards, `edge-ocr-lite`: its arguments, and the one place where errors become exit codes.

Only what is needed for --help is imported here: a board takes seconds for NumPy and OpenCV.
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

from ..bundle import ENGINES, POWER_MODES
from ..errors import EdgeOcrError, ToolchainError, UsageError

INTERRUPTED = 130

MAX_PIXELS = 178_956_970
"""Of a picture; as `Input.max_pixels` of the host."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"{self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments`, by default those of the process, and return its exit code."""
    signal.signal(signal.SIGTERM, _end)
    # OpenCV reads it when it is loaded. The host, too, refuses larger pictures.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
    if hasattr(sys.stdout, "reconfigure"):
        # A terminal of another encoding gets escapes, not an error, for what it cannot show.
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
    try:
        return int(import_module(f".{options.command}", __name__).run(options))
    except ImportError as error:
        what = f"the Python module {error.name} is missing for {sys.executable}"
        if not isinstance(error, ModuleNotFoundError):
            # A library that the module needs may be missing: OpenCV often lacks libGL.so.1.
            what = f"a Python module cannot be loaded by {sys.executable}: {' '.join(str(error).split())}"
        raise ToolchainError(what, "./install.sh tells which packages have what is missing") from None


def report_error(error: EdgeOcrError) -> None:
    """Write an error to stderr: a line for the message, one for the hint.

    What a terminal would act on, such as the answer of a server may hold, is spelt out.
    """
    sys.stderr.write(spell_out(f"Error: {error.message}\n", "\n"))
    if error.hint:
        sys.stderr.write(spell_out(f"Hint: {error.hint}\n", "\n"))


def spell_out(text: str, keep: str = "") -> str:
    """Return text with the characters that a terminal would act on as escapes, but for those of `keep`."""
    # Python counts the wide space of Chinese and the no-break space as not printable.
    return "".join(
        char if char.isprintable() or char in f"\xa0\u3000{keep}" else char.encode("unicode_escape").decode()
        for char in text
    )


def _end(number: int, frame: object) -> None:
    # As Ctrl-C does, it must leave nothing half-written behind.
    sys.exit(128 + number)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser, names = _build_parser()
    first = arguments[0] if arguments else "--help"
    # A picture alone is enough: `edge-ocr-lite photo.jpg`.
    if first in (*names, "-h", "--help"):
        return parser.parse_args(arguments or [first])
    # As long as a word is, so that it may be one that was mistyped.
    if first.isalpha() and len(first) <= 10 and not Path(first).exists():
        raise UsageError(
            f"{first} is no command, and there is no such file", f"edge-ocr-lite PICTURE, or one of {', '.join(names)}"
        )
    return parser.parse_args(["predict", *arguments])


def _build_parser() -> tuple[_Parser, tuple[str, ...]]:
    prog = "edge-ocr-lite"
    common = _Parser(add_help=False)
    common.add_argument("--bundle", metavar="DIR", type=Path, help="default: the one that this command lies in")
    running = _Parser(add_help=False, parents=[common])
    running.add_argument("--engine", choices=("auto", *ENGINES), default="auto", help="default: the first that runs")
    running.add_argument("--threads", metavar="N", type=_natural, help="default: all cores")
    running.add_argument(
        "--power-mode", choices=POWER_MODES, default="no-bind", help="which cores Paddle-Lite takes (default: any)"
    )
    parser = _Parser(
        prog=prog,
        description="Read text in pictures with the models of a bundle.",
        epilog=f"{prog} PICTURE is short for {prog} predict PICTURE. {prog} COMMAND --help tells more.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    predict = commands.add_parser("predict", parents=[running], help="read pictures")
    predict.add_argument("images", metavar="IMAGE", nargs="+", help="picture, folder, or - for standard input")
    predict.add_argument(
        "--format",
        choices=("text", "json", "jsonl"),
        default="text",
        help="text: a line a text line; json: one object, or an array for more than one picture; jsonl: an object a "
        "line, as they are read",
    )
    predict.add_argument(
        "--save-path", metavar="DIR", type=Path, help="save NAME_res.json and NAME_res.jpg with the boxes there"
    )

    bench = commands.add_parser("bench", parents=[running], help="measure time and memory")
    bench.add_argument(
        "images", metavar="IMAGE", nargs="*", help="pictures or folders; default: the bundle's golden picture"
    )
    bench.add_argument("--warmup", metavar="N", type=_count, default=2, help="readings that do not count (default: 2)")
    bench.add_argument("--runs", metavar="N", type=_natural, default=10, help="rounds over the pictures (default: 10)")
    bench.add_argument("--json", action="store_true", help="print JSON")

    commands.add_parser(
        "selftest", parents=[running], help="check every file, and read the golden picture as the host did"
    )

    camera = commands.add_parser("camera", parents=[running], help="read what a camera sees, lines as they change")
    camera.add_argument(
        "--device",
        metavar="N|PATH|URL",
        default="0",
        help="number of /dev/videoN, a video file, or the URL of a stream (default: 0)",
    )
    camera.add_argument("--frames", metavar="N", type=_natural, help="stop after as many pictures")
    camera.add_argument(
        "--format", choices=("text", "jsonl"), default="text", help="text: new lines; jsonl: all lines at a change"
    )

    commands.add_parser("info", parents=[common], help="tell what this machine has to run the bundle, as JSON")
    return parser, tuple(commands.choices)


def _natural(text: str) -> int:
    return _count(text, least=1)


def _count(text: str, least: int = 0) -> int:
    number = int(text) if text.isdecimal() else -1
    if not least <= number < 10**6:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number from {least}")
    return number
