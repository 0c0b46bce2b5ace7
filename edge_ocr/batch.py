"""Reads many pictures in several processes, in order, into a JSON Lines file that a later run can resume."""

from __future__ import annotations

import fcntl
import io
import json
import multiprocessing
import os
import re
import signal
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_ocr.config import PipelineConfig
from edge_ocr.core.files import explain_os_error, is_disk_full
from edge_ocr.errors import EdgeOcrError, InputError, UsageError
from edge_ocr.inputs import SUFFIXES, Source, join_failures
from edge_ocr.pipeline import OcrPipeline, PipelineSpec
from edge_ocr.processes import end_with_parent
from edge_ocr.results import explain_empty_result

MISSING_PAGES = "missing_pages"
"""Key in the lines of an input with unreadable pages: the `page_index` of each. --resume tries them again."""

PAGE_COUNT = "page_count"
"""Key in the lines of an input with several pages: their number, unreadable ones included. --resume uses it to tell
whether all lines of the input are there."""

# Inputs in flight per process, so that a slow one does not hold up the others for long.
_AHEAD = 4


@dataclass(frozen=True)
class Outcome:
    """The outcome of one input."""

    source: Source
    lines: tuple[str, ...]
    """One JSON object for each page that was read; possibly none."""
    error: EdgeOcrError | None
    """Why the input, or some of its pages, could not be read; None if all were."""
    notes: tuple[str, ...] = ()
    """What to try, for each page without text."""


def list_tree(folder: Path, failures: list[EdgeOcrError]) -> Iterator[Source]:
    """Yield the pictures in a folder and all folders below it, sorted by name, each folder's own pictures first.

    Links to folders are not followed. The error of a folder that cannot be read is added to `failures`, and the walk
    continues.
    """

    def refuse(error: OSError) -> None:
        failures.append(InputError(f"{error.filename} cannot be read: {error.strerror}"))

    for place, below, names in os.walk(folder, onerror=refuse):
        below.sort()
        for name in sorted(names):
            path = Path(place, name)
            if path.suffix.lower() in SUFFIXES and _may_be_file(path):
                yield Source(path, str(path))


def _may_be_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # The folder's names may be listed but not followed; reading the file reports it.
        return True


def read_many(
    sources: Iterable[Source], config: PipelineConfig, *, jobs: int = 1, use_hpip: bool | None = None
) -> Iterator[Outcome]:
    """Read pictures in `jobs` processes and yield the outcome of each, in the given order.

    The processes share the cores unless `config` sets the number of threads. If a process dies, from a lack of memory
    or a crash in a decoder, only the picture that it was reading fails: the pictures in flight are read again, one at a
    time. Only a few pictures are in flight at once.

    Raises what `OcrPipeline` raises, before anything is read.
    """
    spec = PipelineSpec(config, use_hpip).share_cores(jobs, "--jobs")
    # Also for several jobs, so that a faulty model is reported once.
    pipeline = spec.build()
    if jobs == 1:
        for source in sources:
            yield _read(pipeline, source)
        return
    del pipeline
    yield from _Pool(spec, jobs).read(sources)


def _read(pipeline: OcrPipeline, source: Source) -> Outcome:
    pages: list[dict[str, Any]] = []
    notes: list[str] = []
    missing: dict[int, InputError] = {}
    error: EdgeOcrError | None = None
    try:
        for result in pipeline.predict_source(source, set(), missing):
            pages.append(dict(result))
            if not result.reading.lines:
                notes.append(explain_empty_result(result, pipeline.config))
    except EdgeOcrError as failure:
        # The error concerns the whole input, so none of its pages counts.
        return Outcome(source, (), failure, tuple(notes))
    more: dict[str, Any] = {}
    if pages and pages[0].get("page_index") is not None:
        more[PAGE_COUNT] = len(pages) + len(missing)
    if missing:
        error = join_failures(missing, source.input_path)
        more[MISSING_PAGES] = sorted(missing)
    pages = [{**page, **more} for page in pages]
    return Outcome(source, tuple(json.dumps(page, ensure_ascii=False) for page in pages), error, tuple(notes))


class _Pool:
    def __init__(self, spec: PipelineSpec, jobs: int) -> None:
        self._spec = spec.to_json()
        self._jobs = jobs

    def read(self, sources: Iterable[Source]) -> Iterator[Outcome]:
        remaining = iter(sources)
        under_way: deque[tuple[Source, Future[Outcome]]] = deque()
        pool = self._open(self._jobs)
        try:
            while True:
                while len(under_way) < _AHEAD * self._jobs and (source := next(remaining, None)) is not None:
                    under_way.append((source, self._submit(pool, source)))
                if not under_way:
                    return
                try:
                    outcome = under_way[0][1].result()
                    under_way.popleft()
                    yield outcome
                except BrokenProcessPool:
                    # The culprit is unknown; inputs after an unfinished one may be done.
                    pool.shutdown()
                    for source, future in under_way:
                        done = future.done() and not future.cancelled() and future.exception() is None
                        yield future.result() if done else self._read_alone(source)
                    under_way.clear()
                    pool = self._open(self._jobs)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    @staticmethod
    def _submit(pool: ProcessPoolExecutor, source: Source) -> Future[Outcome]:
        try:
            return pool.submit(_read_here, source)
        except BrokenProcessPool as error:
            # A process died since the last result; this input's turn reports it.
            future = Future[Outcome]()
            future.set_exception(error)
            return future

    def _read_alone(self, source: Source) -> Outcome:
        with self._open(1) as pool:
            try:
                return pool.submit(_read_here, source).result()
            except BrokenProcessPool:
                error = InputError(
                    f"{source.input_path}: the process that read it died",
                    "try --jobs 1, which needs less memory",
                )
                return Outcome(source, (), error)

    def _open(self, jobs: int) -> ProcessPoolExecutor:
        # Engines have threads, which a fork would lose.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(jobs, context, initializer=_set_up, initargs=(self._spec,))


_pipeline: OcrPipeline


def _set_up(spec: str) -> None:
    global _pipeline
    # Ctrl-C reaches every process; the parent ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    _pipeline = PipelineSpec.from_json(spec).build()


def _read_here(source: Source) -> Outcome:
    return _read(_pipeline, source)


# Each line starts with these two keys, in the order of `Reading.describe`.
_LINE_HEAD, _AFTER_PATH = b'{"input_path": "', b'", "dt_polys": ['
_LINE_PATH = re.compile(rb'(?:[^"\\\x00-\x1f]|\\.)*')


def _is_cut_off(line: bytes) -> bool:
    """Return whether a line without a line break is the beginning of a result whose writing was interrupted."""
    if not line.startswith(_LINE_HEAD):
        return _LINE_HEAD.startswith(line)
    rest = line[_find_path_end(line) :]
    # A lone backslash: the cut is within an escape in the path.
    return rest == b"\\" or _AFTER_PATH.startswith(rest[: len(_AFTER_PATH)])


def _find_path_end(line: bytes) -> int:
    path = _LINE_PATH.match(line, len(_LINE_HEAD))
    return path.end() if path else 0


def _read_line(line: bytes) -> tuple[str, int | None, int | None]:
    """Return the `input_path` of a line, its `page_index` and its PAGE_COUNT.

    Raises ValueError, KeyError, TypeError or RecursionError if the line is not a result.
    """
    result = json.loads(line)
    path, page, count = result["input_path"], result.get("page_index"), result.get(PAGE_COUNT)
    if not isinstance(path, str):
        raise ValueError("input_path is not a string")
    if not line.startswith(_LINE_HEAD) or not line.startswith(_AFTER_PATH, _find_path_end(line)):
        raise ValueError("its first keys are not input_path and dt_polys")
    if not isinstance(result["rec_text"], list):
        raise ValueError("rec_text is not a list")
    if not isinstance(page, int | None) or not isinstance(count, int | None):
        raise ValueError(f"page_index or {PAGE_COUNT} is not a whole number")
    return path, page, count


class JsonLinesFile:
    """A file with the results of many pictures, one JSON object per line.

    The lines of one input are written together. Resuming removes a partial last line, which a killed process leaves,
    and nothing else. A file with any other content is refused and left unchanged.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        """Create the file; with `resume`, continue one that exists.

        Raises UsageError if the file exists and `resume` is false, if another process writes it, if it cannot be
        written, or if it contains anything but results; the file is then unchanged.
        """
        self.path = path
        self.done: set[str] = set()
        """`input_path` of each complete input in the file; never "-": standard input differs each time."""
        self._pages: dict[str, set[int]] = {}
        """For each incomplete input, by `input_path`: the `page_index` of each page in the file."""
        try:
            # Without O_TRUNC: the content may be days of work.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | (0 if resume else os.O_EXCL), 0o666)
        except FileExistsError:
            raise UsageError(f"{path} exists", "continue it with --resume, or give another --output") from None
        except OSError as error:
            raise UsageError(f"--output {path}: {explain_os_error(error)}", "give a file that can be written") from None
        # Unbuffered, so that a failed write is not repeated on closing.
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UsageError(f"--output {path}: not a regular file", "give a regular file")
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"--output {path}: another process is writing it", "wait for it to finish") from None
            except OSError as error:
                # Without a lock, two processes could overwrite each other's results.
                raise UsageError(
                    f"--output {path}: cannot lock it: {explain_os_error(error)}", "write to a local disk"
                ) from None
            self._read_done()
        except BaseException:
            self._file.close()
            raise

    def write(self, lines: Iterable[str], input_path: str | None = None) -> None:
        """Append the lines of one input, except for pages of `input_path` that the file already has.

        Raises UsageError if they cannot be written, for instance because the disk is full; none of them is then in the
        file.
        """
        known = self._pages.get(input_path or "")
        if known:
            lines = [line for line in lines if json.loads(line).get("page_index") not in known]
        # File names that are not UTF-8 have surrogates in Python; backslash escapes make them valid JSON.
        content = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
        end = self._file.tell()
        left = memoryview(content)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._file.truncate(end)
            self._file.seek(end)
            hint = (
                "free some space, then continue with --resume; or give another --output"
                if is_disk_full(error)
                else None
            )
            raise UsageError(f"--output {self.path}: {explain_os_error(error)}", hint) from None

    def __enter__(self) -> JsonLinesFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _read_done(self) -> None:
        """Collect what is done, and cut off a partial last line."""
        end = 0
        lines = io.BufferedReader(self._file)
        for number, line in enumerate(lines, 1):
            is_whole = line.endswith(b"\n")
            # A file with nothing but `{` need not be ours.
            if not is_whole and _is_cut_off(line) and (number > 1 or len(line) >= len(_LINE_HEAD)):
                break
            try:
                path, page, count = _read_line(line)
                if not is_whole:
                    raise ValueError("the key after input_path is not dt_polys")
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                reason = f"{error} is missing" if isinstance(error, KeyError) else error
                raise UsageError(
                    f"--output {self.path}: line {number} is not a result of predict: {reason}",
                    "resume a file that predict --output wrote, or give another --output",
                ) from None
            self._add_done(path, page, count)
            end += len(line)
        lines.detach()
        self._file.seek(end)
        self._file.truncate()

    def _add_done(self, path: str, page: int | None, count: int | None) -> None:
        """Record a line: a whole input if `page` is None, else one of `count` pages (None: unknown)."""
        if path == "-" or path in self.done:
            return
        # Kept only until the input is complete: a file may have millions of lines.
        pages = self._pages.setdefault(path, set())
        if page is not None:
            pages.add(page)
        if page is None or (count is not None and len(pages) >= count):
            self.done.add(path)
            del self._pages[path]
