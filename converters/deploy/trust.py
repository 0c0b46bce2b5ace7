"""What a board trusts: asked before a bundle is copied, and set once a signed one is in its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import edge_ocr.core
from converters.signing import read_trusted_key
from edge_ocr.core.bundle import MANIFEST
from edge_ocr.core.trust import SYSTEM_FOLDER, NoOpenSslError, UntrustedError, check_manifest, name_key, read_signature
from edge_ocr.errors import EdgeOcrError, NotVerifiedError, ParityError, ToolchainError

if TYPE_CHECKING:
    from converters.deploy.board import Board

_PROGRAM = Path(edge_ocr.core.__file__).with_name("trust.py")


def check_board_trust(board: Board, folder: Path, trusted: Path | None) -> bool:
    """Return whether a board trusts keys; it would take the bundle in `folder`.

    Raises ParityError where the board would refuse the bundle, or does not trust the key in the file `trusted`;
    ToolchainError where it cannot check signatures, or tell what it trusts.
    """
    found = _read_answer(board)
    place = found["folder"]
    if found["problem"] and not (place is None and trusted is None):
        raise ToolchainError(
            f"{board.host}: signatures cannot be checked there: {found['problem']}",
            "sudo apt install libssl3 on the board",
        )
    if place is None:
        return False
    keys = [bytes.fromhex(key) for key in found["keys"]]
    try:
        check_manifest((folder / MANIFEST).read_bytes(), read_signature(folder), keys, found["seen"])
    except UntrustedError as error:
        raise ParityError(
            f"{board.host} refuses it: {error}",
            f"sign it with a key that the board trusts (edge-ocr export --sign); its keys are in {place} there",
        ) from None
    except NoOpenSslError as error:
        raise NotVerifiedError(f"signatures cannot be checked here: {error}", "pip install cryptography") from None
    key = None if trusted is None else read_trusted_key(trusted)
    if key is not None and key not in keys:
        raise ParityError(
            f"{board.host} does not trust {trusted} ({name_key(key)}), but {', '.join(map(name_key, keys))}",
            f"copy it into {place} there, beside or instead of the others",
        )
    return True


def settle_trust(board: Board, trusted: Path | None) -> str:
    """Let a board note the bundle that is in place, and trust the key in `trusted` where it trusts none yet.

    Returns the folder of the keys there.

    Raises ModelError where the bundle is not trusted there, ToolchainError where that cannot be found out; what the
    board trusts is then as before.
    """
    key = () if trusted is None else (f"{trusted.name}.pem", trusted.read_text(encoding="ascii"))
    try:
        return _run(board, "settle", board.place, *key).strip()
    except EdgeOcrError as error:
        raise type(error)(f"{error.message}; the bundle is in place, its key is not", error.hint) from None


def describe_reach(folder: str, login: str) -> str:
    """Tell for whom the keys in a trust folder count."""
    if folder == str(SYSTEM_FOLDER):
        return f"the whole board ({folder})"
    return f"{login}, and no other user or service there ({folder}; for all, put the key into {SYSTEM_FOLDER} as root),"


def _read_answer(board: Board) -> dict[str, Any]:
    said = _run(board, "describe")
    try:
        found: dict[str, Any] = json.loads(said)
        if not isinstance(found["folder"], (str, type(None))):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise ToolchainError(f"{board.host}: could not be asked what it trusts: it said {said[:200]!r}") from None
    return found


def _run(board: Board, *arguments: str) -> str:
    # Of ours, not of any bundle there.
    return board.run_beside("trust", _PROGRAM, *arguments).decode(errors="replace")
