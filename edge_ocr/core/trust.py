"""Checks that a bundle is signed with a key that this machine trusts, and is not older than one that worked here.

Requires only Python's standard library and imports nothing from this package, so that a copy outside any bundle can
check one before any of its code runs: python3 -I trust.py check BUNDLE
"""

from __future__ import annotations

import base64
import binascii
import ctypes
import ctypes.util
import hashlib
import json
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

SYSTEM_FOLDER = Path("/etc/edge-ocr/trust")
"""The machine's trust folder. If it exists, all others are ignored, so that users cannot relax what root decided."""

TRUST_VARIABLE = "EDGE_OCR_TRUST"
"""Names the trust folder if there is no `SYSTEM_FOLDER`; the default is ~/.config/edge-ocr/trust."""

SEEN = "seen.json"
"""File in a trust folder with the highest counter of a bundle that worked, by release name."""

PROGRAM = "trust.py"
"""Name of this file in a bundle's package and in a trust folder."""

MAX_MANIFEST_BYTES = 16 << 20
"""Manifests have about 40 KB."""

RELEASE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

MAX_COUNTER = 2**53 - 1
"""The largest integer that every JSON reader represents exactly."""

SIGNATURE_BYTES = 64
KEY_BYTES = 32

# The prefix of a SubjectPublicKeyInfo with an Ed25519 key (RFC 8410).
_SPKI = bytes.fromhex("302a300506032b6570032100")
_EVP_PKEY_ED25519 = 1087
_MANIFEST, _SIGNATURE = "manifest.json", "manifest.sig"
_MAX_TEXT_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20
_FOUND_SHOWN = 5

# RFC 8032, 7.1, test 2.
_TEST_KEY = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
_TEST_CONTENT = b"\x72"
_TEST_SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


class UntrustedError(Exception):
    """A bundle that must not be used."""


class NoOpenSslError(Exception):
    """No OpenSSL that knows Ed25519 was found."""


@dataclass(frozen=True)
class Release:
    """The release that a signed manifest names."""

    name: str
    """The same for successive releases of one product."""
    counter: int
    """Increases with each release of that name."""


@dataclass(frozen=True)
class Trust:
    """The keys and counters of a machine."""

    folder: Path
    keys: tuple[bytes, ...]
    """Ed25519 public keys, 32 bytes each; at least one."""
    seen: Mapping[str, int]
    """Highest counter so far, by release name."""

    def check(self, folder: Path, manifest: bytes) -> Release:
        """Check signature and counter of a bundle's manifest; `manifest` is its content.

        Raises UntrustedError, NoOpenSslError.
        """
        return check_manifest(manifest, read_signature(folder), self.keys, self.seen)

    @property
    def is_writable(self) -> bool:
        """Whether counters can be recorded."""
        return os.access(self.folder, os.W_OK)

    def note(self, release: Release) -> bool:
        """Record the counter of a bundle that works; return whether it could be written.

        Only after it works: a failing bundle must not block its predecessor.
        """
        if _read_seen(self.folder).get(release.name, -1) >= release.counter:
            return True
        try:
            with _lock(self.folder):
                # Read again: another process may have written a counter.
                seen = _read_seen(self.folder)
                if seen.get(release.name, -1) < release.counter:
                    content = json.dumps({**seen, release.name: release.counter}, indent=2, sort_keys=True) + "\n"
                    _write_file(self.folder / SEEN, content.encode())
        except OSError:
            return False
        return True


def find_trust_folder() -> Path | None:
    """Return the folder with the keys that this machine trusts; None if it accepts every bundle."""
    named = os.environ.get(TRUST_VARIABLE)
    if _is_there(SYSTEM_FOLDER):
        return SYSTEM_FOLDER
    if named:
        return Path(named)
    try:
        own = Path.home() / ".config" / "edge-ocr" / "trust"
    except RuntimeError:  # a user without a home
        return None
    return own if _is_there(own) else None


def _is_there(folder: Path) -> bool:
    try:
        folder.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        # It may exist: an inaccessible parent folder must not disable the check.
        return True
    return True


def read_trust(folder: Path) -> Trust:
    """Read the keys (*.pem) and counters in `folder`.

    Raises UntrustedError if there is no key or any key cannot be read; nothing is trusted then.
    """
    try:
        # Skip hidden files: some systems create files such as ._name.pem.
        files = sorted(path for path in folder.glob("*.pem") if not path.name.startswith("."))
        if not files:
            folder.stat()
        keys = tuple(read_public_key(path) for path in files)
    except OSError as error:
        raise UntrustedError(f"the trusted keys cannot be read: {error.filename}: {error.strerror}") from None
    if not keys:
        raise UntrustedError(f"{folder} has no key (*.pem), so no bundle is trusted")
    return Trust(folder, keys, _read_seen(folder))


def read_public_key(path: Path) -> bytes:
    """Return the 32 bytes of an Ed25519 public key in a PEM file, as written by `edge-ocr keys new` and OpenSSL.

    Raises UntrustedError if the file is not such a key, OSError if it cannot be read.
    """
    text = read_file(path, _MAX_TEXT_BYTES)
    lines = [line.strip() for line in text.decode("ascii", "replace").splitlines() if line.strip()]
    try:
        if lines[0] != "-----BEGIN PUBLIC KEY-----" or lines[-1] != "-----END PUBLIC KEY-----":
            raise ValueError
        content = base64.b64decode("".join(lines[1:-1]), validate=True)
        if not content.startswith(_SPKI) or len(content) != len(_SPKI) + KEY_BYTES:
            raise ValueError
    except (ValueError, IndexError, binascii.Error):
        raise UntrustedError(f"{path} is not an Ed25519 public key in PEM form") from None
    return content[len(_SPKI) :]


def name_key(key: bytes) -> str:
    """Return a short name for a public key: the first 16 hexadecimal digits of its sha256."""
    return hashlib.sha256(key).hexdigest()[:16]


def read_signature(folder: Path) -> bytes | None:
    """Return the content of a bundle's manifest.sig, at most one byte more than a signature; None if it is missing.

    Raises UntrustedError if it cannot be read.
    """
    try:
        return read_file(folder / _SIGNATURE, SIGNATURE_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UntrustedError(f"{folder / _SIGNATURE} cannot be read: {error.strerror}") from None


def check_manifest(manifest: bytes, signature: bytes | None, keys: Sequence[bytes], seen: Mapping[str, int]) -> Release:
    """Check that one of `keys` signed a manifest and that it is not older than in `seen`; return its release.

    Raises UntrustedError if either check fails, NoOpenSslError if it cannot be made.
    """
    if signature is None:
        raise UntrustedError(f"the bundle is not signed: there is no {_SIGNATURE}")
    if len(signature) != SIGNATURE_BYTES or not any(is_signed_by(key, manifest, signature) for key in keys):
        names = ", ".join(map(name_key, keys))
        raise UntrustedError(
            f"{_SIGNATURE} does not fit: {_MANIFEST} was changed, or signed with another key than {names}"
        )
    try:
        release = read_release(json.loads(manifest))
    except (ValueError, RecursionError):
        raise UntrustedError(f"{_MANIFEST} is signed, but is not JSON") from None
    if release is None:
        raise UntrustedError(f"{_MANIFEST} is signed, but names no release")
    least = seen.get(release.name, 0)
    if release.counter < least:
        raise UntrustedError(
            f"the bundle is older than one that was here: release {release.name} has counter {release.counter}, "
            f"expected {least} or more"
        )
    return release


def read_release(manifest: Any) -> Release | None:
    """Return the release that a manifest names; None if it is missing or invalid."""
    found = manifest.get("release") if isinstance(manifest, dict) else None
    name, counter = (found.get("name"), found.get("counter")) if isinstance(found, dict) else (None, None)
    is_name = isinstance(name, str) and RELEASE_NAME.fullmatch(name) is not None
    # True is an int, too.
    if not is_name or type(counter) is not int or not 0 <= counter <= MAX_COUNTER:
        return None
    return Release(str(name), counter)


def is_signed_by(key: bytes, content: bytes, signature: bytes) -> bool:
    """Return whether `signature` (64 bytes) is valid for `content` and the public `key` (32 bytes); Ed25519, RFC 8032.

    Raises NoOpenSslError.
    """
    library = _find_openssl()
    if library is None:
        return _ask_cryptography(key, content, signature)
    return _ask_openssl(library, key, content, signature)


def _ask_openssl(library: Any, key: bytes, content: bytes, signature: bytes) -> bool:
    public = library.EVP_PKEY_new_raw_public_key(_EVP_PKEY_ED25519, None, key, len(key))
    context = library.EVP_MD_CTX_new()
    try:
        if not public or not context:
            return False
        if library.EVP_DigestVerifyInit(context, None, None, None, public) != 1:
            return False
        return bool(library.EVP_DigestVerify(context, signature, len(signature), content, len(content)) == 1)
    finally:
        library.EVP_MD_CTX_free(context)
        library.EVP_PKEY_free(public)
        # Errors left in this thread's queue would confuse other code that reads it, such as ssl.
        library.ERR_clear_error()


@lru_cache(maxsize=1)
def _find_openssl() -> Any:
    """Return OpenSSL's libcrypto, 1.1.1 or newer, after a known-answer test; None if there is none."""
    names: list[str | None] = []
    with suppress(ImportError, AttributeError):
        import _hashlib  # part of Python, linked with its libcrypto

        names.append(_hashlib.__file__)
    names += ["libcrypto.so.3", "libcrypto.so.1.1"]
    if sys.platform != "darwin":  # there, loading the system's libcrypto ends the process
        names.append(None)
    for given in names:
        # find_library is slow: it starts programs.
        name = given or ctypes.util.find_library("crypto")
        if name is None:
            continue
        try:
            library = ctypes.CDLL(name)
            _declare(library)
        except (OSError, AttributeError):
            continue
        if _ask_openssl(library, _TEST_KEY, _TEST_CONTENT, _TEST_SIGNATURE) and not _ask_openssl(
            library, _TEST_KEY, b"", _TEST_SIGNATURE
        ):
            return library
    return None


def _declare(library: Any) -> None:
    pointer, size, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
    for name, result, arguments in (
        ("EVP_PKEY_new_raw_public_key", pointer, (ctypes.c_int, pointer, text, size)),
        ("EVP_PKEY_free", None, (pointer,)),
        ("EVP_MD_CTX_new", pointer, ()),
        ("EVP_MD_CTX_free", None, (pointer,)),
        ("EVP_DigestVerifyInit", ctypes.c_int, (pointer, pointer, pointer, pointer, pointer)),
        ("EVP_DigestVerify", ctypes.c_int, (pointer, text, size, text, size)),
        ("ERR_clear_error", None, ()),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments


def _ask_cryptography(key: bytes, content: bytes, signature: bytes) -> bool:
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise NoOpenSslError("there is no OpenSSL 1.1.1 or newer (libcrypto), nor the package cryptography") from None
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, content)
    except InvalidSignature:
        return False
    except UnsupportedAlgorithm:
        raise NoOpenSslError("the package cryptography is built without Ed25519") from None
    return True


def check_folder(folder: Path, trust: Trust) -> Release:
    """Check a bundle that has not run yet: signature, counter, every file, and that it has no other files.

    Raises UntrustedError for the first failure, NoOpenSslError.
    """
    release, files = _check_listed(folder, trust)
    try:
        strangers = sorted(list_strangers(folder, files))
    except OSError as error:
        raise UntrustedError(f"{error.filename} cannot be read: {error.strerror}") from None
    if strangers:
        raise UntrustedError(describe_strangers(strangers))
    return release


def _check_listed(folder: Path, trust: Trust) -> tuple[Release, Mapping[str, Any]]:
    """Check signature, counter and every listed file; return the release and the list."""
    try:
        content = read_file(folder / _MANIFEST, MAX_MANIFEST_BYTES)
    except OSError as error:
        raise UntrustedError(f"{folder} is not a bundle: {_MANIFEST}: {error.strerror}") from None
    release = trust.check(folder, content)
    files = json.loads(content)["files"]
    for name in sorted(files):
        _check_file(folder, name, files[name])
    return release, files


def list_strangers(folder: Path, files: Mapping[str, Any]) -> Iterator[str]:
    """Yield the files in a bundle besides its manifest, signature and listed `files`.

    Raises OSError if a folder cannot be read.
    """
    needed = {_MANIFEST, _SIGNATURE, *files}
    for parent, folders, names in os.walk(folder, onerror=_raise):
        # os.walk lists links to folders among the folders; they lead to unsigned files.
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in (*names, *links):
            found = Path(parent, name).relative_to(folder).as_posix()
            if found not in needed:
                yield found


def describe_strangers(names: Sequence[str]) -> str:
    """Describe the unsigned files of a bundle."""
    more = f" and {len(names) - _FOUND_SHOWN} more" if len(names) > _FOUND_SHOWN else ""
    if all(name.startswith(".installed/") or "__pycache__/" in name for name in names):
        more += "; was it used already? check a fresh copy"
    return f"not in the signed manifest: {', '.join(names[:_FOUND_SHOWN])}{more}"


def _raise(error: OSError) -> None:
    raise error


def _check_file(folder: Path, name: str, entry: Mapping[str, Any]) -> None:
    if name.startswith("/") or ".." in name.split("/"):
        raise UntrustedError(f"the file {name!r} is outside the bundle")
    path = folder / name
    digest = hashlib.sha256()
    try:
        if path.resolve() != folder.resolve() / name:
            raise UntrustedError(f"{path} is reached through a link")
        with _open_file(path) as file:
            size_bytes = os.fstat(file.fileno()).st_size
            if size_bytes != entry["size_bytes"]:
                raise UntrustedError(f"{path} has {size_bytes} bytes, expected {entry['size_bytes']}")
            for chunk in iter(lambda: file.read(_CHUNK_BYTES), b""):
                digest.update(chunk)
    except OSError as error:
        raise UntrustedError(f"{path} cannot be read: {error.strerror}") from None
    if digest.hexdigest() != entry["sha256"]:
        raise UntrustedError(f"{path} was changed: its sha256 differs from the manifest's")


def _open_file(path: Path) -> Any:
    # Opening a pipe would block forever.
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(22, "not a file")
    return file


def read_file(path: Path, most: int) -> bytes:
    """Return the content of a file, or the first `most` + 1 bytes of a longer one.

    Raises OSError if it cannot be read or is not a regular file.
    """
    with _open_file(path) as file:
        content = file.read(most + 1)
    return bytes(content)


def _read_seen(folder: Path) -> dict[str, int]:
    path = folder / SEEN
    try:
        content = json.loads(read_file(path, _MAX_TEXT_BYTES))
        if not all(isinstance(counter, int) for counter in content.values()):
            raise ValueError
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, RecursionError):
        # Ignoring it would accept older bundles.
        raise UntrustedError(
            f"{path} cannot be read or is damaged, so no bundle is trusted; deleting it allows older releases"
        ) from None
    return {str(name): counter for name, counter in content.items()}


def _describe() -> dict[str, Any]:
    """Return keys and counters of this machine as JSON values, for `edge-ocr deploy`."""
    folder = find_trust_folder()
    trust = None if folder is None else read_trust(folder)
    try:
        is_signed_by(_TEST_KEY, _TEST_CONTENT, _TEST_SIGNATURE)
        problem = ""
    except NoOpenSslError as error:
        problem = str(error)
    return {
        "problem": problem,
        "folder": None if folder is None else str(folder),
        "keys": [] if trust is None else [key.hex() for key in trust.keys],
        "seen": {} if trust is None else dict(trust.seen),
    }


def _settle(bundle: Path, name: str = "", pem: str = "") -> Path | None:
    """Record a deployed bundle, which must be trusted, and return the trust folder.

    If this machine trusts no key yet, it trusts the one in `pem` from now on, in a file called `name`; without `pem`,
    nothing is done.
    """
    folder = find_trust_folder()
    if folder is not None:
        trust = read_trust(folder)
        release, _ = _check_listed(bundle, trust)
        if trust.is_writable:
            trust.note(release)
            if (folder / PROGRAM).exists():
                _write_file(folder / PROGRAM, _read_program(bundle))
        return folder
    if not pem:
        return None
    folder = SYSTEM_FOLDER if os.geteuid() == 0 else Path.home() / ".config" / "edge-ocr" / "trust"
    made = [parent for parent in folder.parents if not parent.exists()]
    new = folder.with_name(f".trust.{secrets.token_hex(4)}")
    try:
        new.mkdir(parents=True)
        for made_folder in (new, *made):
            # Regardless of the umask: programs of other users must be able to read it.
            made_folder.chmod(0o755)
        _write_file(new / name, pem.encode())
        trust = read_trust(new)
        release, _ = _check_listed(bundle, trust)
        _write_file(new / PROGRAM, _read_program(bundle))
        trust.note(release)
        new.rename(folder)
    except BaseException:
        for path in new.glob("*"):
            path.unlink()
        for left in (new, *made):
            with suppress(OSError):
                left.rmdir()
        raise
    return folder


def _read_program(bundle: Path) -> bytes:
    # Its signature was just checked.
    return (bundle / "runtime" / "edge_ocr_lite" / PROGRAM).read_bytes()


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes that lock it."""
    import fcntl  # boards and servers have it

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_file(path: Path, content: bytes) -> None:
    """Write a world-readable file atomically, even if power fails."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def main(arguments: Sequence[str]) -> int:
    """Run `check BUNDLE`, or a command of `edge-ocr deploy`; return the exit code, 5 if the bundle is not trusted."""
    usage = f"python3 -I {Path(sys.argv[0]).name} check BUNDLE"
    try:
        command, *rest = arguments or ["--help"]
        if command == "describe" and not rest:
            sys.stdout.write(f"{json.dumps(_describe())}\n")
            return 0
        if command == "settle" and len(rest) in (1, 3):
            sys.stdout.write(f"{_settle(Path(rest[0]), *rest[1:])}\n")
            return 0
        if command != "check" or len(rest) != 1:
            sys.stderr.write(f"Usage: {usage}\n")
            return 2
        own = Path(__file__).resolve().parent
        folder = find_trust_folder() or (own if any(own.glob("*.pem")) else None)
        if folder is None:
            raise UntrustedError(f"no key is trusted here: put one into {SYSTEM_FOLDER}")
        release = check_folder(Path(rest[0]), read_trust(folder))
        sys.stdout.write(f"trusted: release {release.name}, counter {release.counter}\n")
        return 0
    except UntrustedError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 5
    except NoOpenSslError as error:
        sys.stderr.write(f"Error: signatures cannot be checked here: {error}\n")
        return 6
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        sys.stderr.write(f"Error: the bundle cannot be read: {error}\n")
        return 5


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
