"""Keys and signatures of bundles: Ed25519 over the manifest, which contains the sha256 of every file."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from edge_ocr.core.trust import MAX_COUNTER, RELEASE_NAME, Release, UntrustedError, name_key, read_public_key
from edge_ocr.errors import UsageError

PASSWORD_VARIABLE = "EDGE_OCR_KEY_PASSWORD"  # noqa: S105 (a name)
"""Environment variable that holds the password of a private key."""


@dataclass(frozen=True)
class Signer:
    """Signs a bundle as one release."""

    key: Ed25519PrivateKey
    release: Release

    @property
    def key_name(self) -> str:
        """Return the name of its public key."""
        return name_key(self.key.public_key().public_bytes_raw())


def make_keys(private: Path, public: Path, password: str | None = None) -> str:
    """Write a new pair of keys in PEM form and return the name of the public one.

    The private key is in PKCS #8, readable only by its owner, and encrypted if a `password` is given.

    Raises UsageError if a file exists or cannot be written; neither is then left behind.
    """
    key = Ed25519PrivateKey.generate()
    encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    contents = {
        private: key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption),
        public: key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    }
    made = []
    try:
        for path, content in contents.items():
            # Never overwrite a key: everything that it has signed would become worthless.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if path == private else 0o644)
            made.append(path)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
    except OSError as error:
        for path in made:
            path.unlink(missing_ok=True)
        hint = "choose another name" if isinstance(error, FileExistsError) else None
        raise UsageError(f"cannot write {error.filename or private}: {error.strerror}", hint) from None
    return name_key(key.public_key().public_bytes_raw())


def read_private_key(path: Path, password: str | None = None) -> Ed25519PrivateKey:
    """Return the private key in a PEM file; the default password is that in `PASSWORD_VARIABLE`.

    Raises UsageError if it cannot be read, is not an Ed25519 key, or the password is wrong.
    """
    password = password or os.environ.get(PASSWORD_VARIABLE) or None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"--sign {path}: cannot be read: {error.strerror}", "make a key with edge-ocr keys new"
        ) from None
    try:
        key = load_pem_private_key(content, None if password is None else password.encode())
    except TypeError:
        # The library's way to say that only one of the two, key or call, has a password.
        if password is not None:
            return _read_plain_key(path, content)
        raise UsageError(f"--sign {path}: the key has a password", f"set {PASSWORD_VARIABLE} to it") from None
    except (ValueError, UnsupportedAlgorithm):
        what = "the password is wrong, or " if b"ENCRYPTED" in content else ""
        hint = "give the private key, which ends with .key; this is a public one" if b"PUBLIC KEY" in content else None
        raise UsageError(f"--sign {path}: {what}it is not a private key in PEM form", hint) from None
    return _expect_ed25519(path, key)


def _read_plain_key(path: Path, content: bytes) -> Ed25519PrivateKey:
    """Return the key in a file without a password."""
    return _expect_ed25519(path, load_pem_private_key(content, None))


def _expect_ed25519(path: Path, key: object) -> Ed25519PrivateKey:
    if not isinstance(key, Ed25519PrivateKey):
        kind = type(key).__name__.strip("_").removesuffix("PrivateKey")
        raise UsageError(f"--sign {path}: is a {kind} key, expected Ed25519", "make a key with edge-ocr keys new")
    return key


def read_trusted_key(path: Path) -> bytes:
    """Return the 32 bytes of a public key that `--trusted` names.

    Raises UsageError if it cannot be read or is not such a key.
    """
    try:
        return read_public_key(path)
    except OSError as error:
        raise UsageError(f"--trusted {path}: cannot be read: {error.strerror}") from None
    except UntrustedError:
        is_private = b"PRIVATE KEY" in path.read_bytes()
        hint = "give its public key, the .pub next to it, and never share the private key" if is_private else None
        raise UsageError(f"--trusted {path}: is not an Ed25519 public key in PEM form", hint) from None


def make_signer(key: Path, name: str, counter: int | None = None) -> Signer:
    """Return the signer of a release, with the private key in the file `key`.

    `counter` must grow from release to release. It defaults to SOURCE_DATE_EPOCH if that is set, else to the time in
    seconds since 1970.

    Raises UsageError as `read_private_key`, and for an invalid name or counter.
    """
    if RELEASE_NAME.fullmatch(name) is None:
        raise UsageError(f"--release {name}: expected up to 64 letters, digits, dots, dashes and underscores")
    if counter is None:
        given = os.environ.get("SOURCE_DATE_EPOCH", "")
        counter = int(given) if given.isdecimal() else int(time.time())
    if not 0 <= counter <= MAX_COUNTER:
        raise UsageError(f"--counter {counter}: expected 0 to {MAX_COUNTER}")
    return Signer(read_private_key(key), Release(name, counter))
