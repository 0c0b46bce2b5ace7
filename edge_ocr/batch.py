"""Many pictures: read in several processes, in order, into a file of JSON lines that can be gone on with."""

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
from types import TracebackType
from typing import Any

from edge_ocr.config import PipelineConfig
from edge_ocr.core.files import explain_os_error, is_disk_full
from edge_ocr.errors import EdgeOcrError, InputError, UsageError
from edge_ocr.inputs import SUFFIXES, Source, join_failures
from edge_ocr.pipeline import OcrPipeline, PipelineSpec
from edge_ocr.processes import end_with_parent
from edge_ocr.results import explain_empty_result

MISSING_PAGES = "missing_pages"
"""Key in the lines of an input some of whose pages could not be read: the `page_index` of each of these. --resume tries
them again."""

PAGE_COUNT = "page_count"
"""Key in the lines of an input of several pages: how many it has, with those that could not be read. It tells --resume
whether all lines of such an input are there."""

# Inputs handed out for each process: enough that none waits for the slowest of the others for long.
_AHEAD = 4


@dataclass(frozen=True)
class Outcome:
    """What came of one input."""

    source: Source
    lines: tuple[str, ...]
    """A JSON object for each page that could be read."""
    error: EdgeOcrError | None
    """Why it, or some of its pages, could not be read."""
    notes: tuple[str, ...] = ()
    """What to try for each page without text."""


def list_tree(folder: Path, failures: list[EdgeOcrError]) -> Iterator[Source]:
    """Yield the pictures in a folder and all folders below it, each folder's own first, by name; links to folders are
    not followed.

    A folder that cannot be read goes into `failures`, and the next is read.
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
        # A folder whose names may be listed but not followed. Who reads it tells.
        return True


def read_many(
    sources: Iterable[Source], config: PipelineConfig, *, jobs: int = 1, use_hpip: bool | None = None
) -> Iterator[Outcome]:
    """Read pictures in `jobs` processes, which share the cores where `config` leaves the threads open; yield what came
    of each in the order given.

    A process that dies, of a lack of memory or of a decoder that fails, takes nothing with it but the picture that it
    read: those it might have been are read again, one by one. Only a few pictures are under way at a time.

    Raises what `OcrPipeline` raises, before anything is read.
    """
    spec = PipelineSpec(config, use_hpip).share_cores(jobs, "--jobs")
    # With several jobs, too: what is wrong with the models is told once.
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
        # Of the whole input: no page of it counts.
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
                    # Which of them it was, nobody knows; some may be done, behind one that is not.
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
            # A process died since the last result was asked for; this one's turn tells.
            future = Future[Outcome]()
            future.set_exception(error)
            return future

    def _read_alone(self, source: Source) -> Outcome:
        with self._open(1) as pool:
            try:
                return pool.submit(_read_here, source).result()
            except BrokenProcessPool:
                error = InputError(
                    f"{source.input_path}: the process that read it died", "of a lack of memory? --jobs 1 needs less"
                )
                return Outcome(source, (), error)

    def _open(self, jobs: int) -> ProcessPoolExecutor:
        # Engines have threads, which a fork would leave behind.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(jobs, context, initializer=_set_up, initargs=(self._spec,))


_pipeline: OcrPipeline


def _set_up(spec: str) -> None:
    global _pipeline
    # A Ctrl-C at the terminal reaches every process; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    _pipeline = PipelineSpec.from_json(spec).build()


def _read_here(source: Source) -> Outcome:
    return _read(_pipeline, source)


# How a line of ours begins: with these two keys, as `Reading.describe` has them.
_LINE_HEAD, _AFTER_PATH = b'{"input_path": "', b'", "dt_polys": ['
_LINE_PATH = re.compile(rb'(?:[^"\\\x00-\x1f]|\\.)*')


def _is_cut_off(line: bytes) -> bool:
    """Tell whether a line without an end is the beginning of one of ours; its writing was then interrupted."""
    if not line.startswith(_LINE_HEAD):
        return _LINE_HEAD.startswith(line)
    rest = line[_find_path_end(line) :]
    # A backslash: the cut went through an escape in the path.
    return rest == b"\\" or _AFTER_PATH.startswith(rest[: len(_AFTER_PATH)])


def _find_path_end(line: bytes) -> int:
    path = _LINE_PATH.match(line, len(_LINE_HEAD))
    return path.end() if path else 0


def _read_line(line: bytes) -> tuple[str, int | None, int | None]:
    """Return the `input_path` of a line, its `page_index` and its PAGE_COUNT.

    Raises ValueError, KeyError, TypeError or RecursionError for what is not a result.
    """
    result = json.loads(line)
    path, page, count = result["input_path"], result.get("page_index"), result.get(PAGE_COUNT)
    if not isinstance(path, str):
        raise ValueError("no input_path")
    if not line.startswith(_LINE_HEAD) or not line.startswith(_AFTER_PATH, _find_path_end(line)):
        raise ValueError("it does not begin with input_path and dt_polys")
    if not isinstance(result["rec_text"], list):
        raise ValueError("no rec_text")
    if not isinstance(page, int | None) or not isinstance(count, int | None):
        raise ValueError("no page numbers")
    return path, page, count


class JsonLinesFile:
    """Results of many pictures, one JSON object a line; what is in it is always whole.

    The lines of one input are written together. A line that a process that was killed left half is removed when a later
    one resumes the file, and nothing else is; a file that holds anything else is refused and stays as it is.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        """Open a new file, or, with `resume`, go on with one that may be there.

        Raises UsageError for a file that is there without `resume`, that another process writes, that cannot be
        written, or holds something else; the file is then untouched.
        """
        self.path = path
        self.done: set[str] = set()
        """`input_path` of what is in it whole; never "-", as standard input is another picture each time."""
        self._pages: dict[str, set[int]] = {}
        """By `input_path`: `page_index` of what is in it of inputs that may lack pages."""
        try:
            # Not truncated by opening: the content may be days of work.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | (0 if resume else os.O_EXCL), 0o666)
        except FileExistsError:
            raise UsageError(f"{path} exists", "--resume goes on with it; or give another --output") from None
        except OSError as error:
            raise UsageError(f"--output {path}: {explain_os_error(error)}", "give a file that can be written") from None
        # Without a buffer: what could not be written must not be tried again at the end.
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UsageError(f"--output {path}: is no regular file", "give a file")
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(f"--output {path}: another process writes it", "wait for it to end") from None
            except OSError as error:
                # Without a lock, two processes could write over each other's results.
                raise UsageError(
                    f"--output {path}: cannot be locked: {explain_os_error(error)}", "write to a local disk"
                ) from None
            self._read_done()
        except BaseException:
            self._file.close()
            raise

    def write(self, lines: Iterable[str], input_path: str | None = None) -> None:
        """Add the lines of one input, but for pages of `input_path` that are in the file.

        Raises UsageError where they cannot be written, such as on a full disk; none of them is then in the file.
        """
        known = self._pages.get(input_path or "")
        if known:
            lines = [line for line in lines if json.loads(line).get("page_index") not in known]
        # An input's name may hold bytes that are no UTF-8, surrogates in Python; as backslash escapes they are JSON.
        content = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
        end = self._file.tell()
        left = memoryview(content)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._file.truncate(end)
            self._file.seek(end)
            hint = "free some space, then --resume goes on; or give another --output" if is_disk_full(error) else None
            raise UsageError(f"--output {self.path}: {explain_os_error(error)}", hint) from None

    def __enter__(self) -> JsonLinesFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _read_done(self) -> None:
        """Collect what is done, and cut off a last line that is half."""
        end = 0
        lines = io.BufferedReader(self._file)
        for number, line in enumerate(lines, 1):
            is_whole = line.endswith(b"\n")
            # Alone in a file, `{` is anybody's.
            if not is_whole and _is_cut_off(line) and (number > 1 or len(line) >= len(_LINE_HEAD)):
                break
            try:
                path, page, count = _read_line(line)
                if not is_whole:
                    raise ValueError("another key than dt_polys follows input_path")
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                reason = f"no {error}" if isinstance(error, KeyError) else error
                raise UsageError(
                    f"--output {self.path}: line {number} is not a result of predict: {reason}",
                    "give --resume a file that predict --output wrote, or another --output",
                ) from None
            self._add_done(path, page, count)
            end += len(line)
        lines.detach()
        self._file.seek(end)
        self._file.truncate()

    def _add_done(self, path: str, page: int | None, count: int | None) -> None:
        """Note a line: of an input of one page, or a page of one of `count`; without a count, pages may be missing."""
        if path == "-" or path in self.done:
            return
        # Only until it is whole: a file may have millions of lines.
        pages = self._pages.setdefault(path, set())
        if page is not None:
            pages.add(page)
        if page is None or (count is not None and len(pages) >= count):
            self.done.add(path)
            del self._pages[path]
