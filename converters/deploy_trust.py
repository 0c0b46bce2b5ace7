"""What a board trusts: asked before a bundle is copied, and set once a signed one is in its place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import edge_ocr.core
from converters.signing import read_trusted_key
from edge_ocr.core.bundle import MANIFEST
from edge_ocr.core.trust import NoOpenSslError, UntrustedError, check_manifest, name_key, read_signature
from edge_ocr.errors import EdgeOcrError, NotVerifiedError, ParityError, ToolchainError

if TYPE_CHECKING:
    from converters.deploy_board import Board

_PROGRAM = Path(edge_ocr.core.__file__).with_name("trust.py")


@dataclass(frozen=True)
class BoardTrust:
    """What a board trusts."""

    folder: str
    """Absolute, there."""
    keys: tuple[bytes, ...]
    """Public keys, 32 bytes each."""
    seen: Mapping[str, int]
    """Highest counter so far by name of release."""


def read_board_trust(board: Board, folder: Path, trusted: Path | None) -> BoardTrust | None:
    """Return what a board trusts, None where it takes every bundle; the bundle in `folder` is one that it would take.

    Raises ParityError where the board would refuse the bundle, or does not trust the key in the file `trusted`;
    ToolchainError where it cannot check signatures, or tell what it trusts.
    """
    found = _read_answer(board)
    if found["folder"] is None:
        if trusted is not None and found["problem"]:
            raise _refuse_to_check(board, found["problem"])
        return None
    if found["problem"]:
        raise _refuse_to_check(board, found["problem"])
    trust = BoardTrust(
        str(found["folder"]),
        tuple(bytes.fromhex(key) for key in found["keys"]),
        {str(name): int(counter) for name, counter in found["seen"].items()},
    )
    try:
        check_manifest((folder / MANIFEST).read_bytes(), read_signature(folder), trust.keys, trust.seen)
    except UntrustedError as error:
        raise ParityError(
            f"{board.host} refuses it: {error}",
            f"sign it with a key that the board trusts (edge-ocr export --sign); its keys are in {trust.folder} there",
        ) from None
    except NoOpenSslError as error:
        raise NotVerifiedError(f"signatures cannot be checked here: {error}", "pip install cryptography") from None
    key = None if trusted is None else read_trusted_key(trusted)
    if key is not None and key not in trust.keys:
        raise ParityError(
            f"{board.host} does not trust {trusted} ({name_key(key)}), but {', '.join(map(name_key, trust.keys))}",
            f"copy it into {trust.folder} there, beside or instead of the others",
        )
    return trust


def install_key(board: Board, trusted: Path) -> str:
    """Let a board trust a key from now on; the bundle that is in place there is checked with it first.

    Returns the folder of the key there.

    Raises ToolchainError or ParityError where that fails; nothing is then trusted, and every bundle taken as before.
    """
    try:
        said = _run(board, "install", board.place, trusted.name + ".pem", trusted.read_text(encoding="ascii"))
    except EdgeOcrError as error:
        raise type(error)(f"{error.message}; the bundle is in place, the key is not", error.hint) from None
    return said.strip()


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


def _refuse_to_check(board: Board, problem: str) -> ToolchainError:
    return ToolchainError(
        f"{board.host}: signatures cannot be checked there: {problem}", "sudo apt install libssl3 on the board"
    )
