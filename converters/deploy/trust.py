"""The keys that a board trusts: checked before a bundle is copied, and set once a signed one is in place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import edge_ocr.core
from converters.deploy.board import Board
from converters.signing import read_trusted_key
from edge_ocr.core.bundle import MANIFEST
from edge_ocr.core.trust import SYSTEM_FOLDER, NoOpenSslError, UntrustedError, check_manifest, name_key, read_signature
from edge_ocr.errors import EdgeOcrError, NotVerifiedError, ParityError, ToolchainError

_PROGRAM = Path(edge_ocr.core.__file__).with_name("trust.py")


def check_board_trust(board: Board, folder: Path, trusted: Path | None) -> bool:
    """Check that a board would accept the bundle in `folder`, and return whether it trusts any keys.

    Raises ParityError if the board would refuse the bundle, or does not trust the key in the file `trusted`;
    ToolchainError if it cannot check signatures, or does not report what it trusts; NotVerifiedError if this machine
    cannot check signatures.
    """
    found = _read_answer(board)
    place = found["folder"]
    if found["problem"] and not (place is None and trusted is None):
        raise ToolchainError(
            f"{board.host}: signatures cannot be checked there: {found['problem']}",
            "run sudo apt install libssl3 on the board",
        )
    if place is None:
        return False
    keys = [bytes.fromhex(key) for key in found["keys"]]
    try:
        check_manifest((folder / MANIFEST).read_bytes(), read_signature(folder), keys, found["seen"])
    except UntrustedError as error:
        raise ParityError(
            f"{board.host} refuses the bundle: {error}",
            f"sign it with a key that the board trusts (edge-ocr export --sign); its keys are in {place} there",
        ) from None
    except NoOpenSslError as error:
        raise NotVerifiedError(f"signatures cannot be checked here: {error}", "run pip install cryptography") from None
    key = None if trusted is None else read_trusted_key(trusted)
    if key is not None and key not in keys:
        raise ParityError(
            f"{board.host} does not trust {trusted} ({name_key(key)}), but {', '.join(map(name_key, keys))}",
            f"copy it into {place} there, in addition to the other keys or instead of them",
        )
    return True


def settle_trust(board: Board, trusted: Path | None) -> str:
    """Let a board record the release of the bundle in place, and trust the key in `trusted` if it trusts none yet.

    Returns the folder of the keys there.

    Raises ModelError if the board does not trust the bundle, ToolchainError if that cannot be found out; the keys there
    are then unchanged.
    """
    key = () if trusted is None else (f"{trusted.name}.pem", trusted.read_text(encoding="ascii"))
    try:
        return _run(board, "settle", board.place, *key).strip()
    except EdgeOcrError as error:
        raise type(error)(f"{error.message}; the bundle is in place, but its key is not", error.hint) from None


def describe_reach(folder: str, login: str) -> str:
    """Return, as text, which users the keys in a trust folder apply to."""
    if folder == str(SYSTEM_FOLDER):
        return f"the whole board ({folder})"
    return f"{login}, but no other user or service there ({folder}; for all, put the key into {SYSTEM_FOLDER} as root),"


def _read_answer(board: Board) -> dict[str, Any]:
    said = _run(board, "describe")
    try:
        found: dict[str, Any] = json.loads(said)
        if not isinstance(found["folder"], (str, type(None))):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise ToolchainError(f"{board.host}: expected the keys that it trusts, got {said[:200]!r}") from None
    return found


def _run(board: Board, *arguments: str) -> str:
    # The program of this edge-ocr, not that of a bundle there.
    return board.run_beside("trust", _PROGRAM, *arguments).decode(errors="replace")
