"""Keys that a board trusts, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from converters.deploy import trust as deploy_trust
from converters.deploy.trust import check_board_trust, describe_reach, settle_trust
from converters.signing import read_private_key
from edge_ocr.errors import ModelError, ParityError, ToolchainError


@pytest.fixture
def system(tmp_path, monkeypatch) -> Path:
    """The system's trust folder of a board where we are root; not that of this machine."""
    text = deploy_trust._PROGRAM.read_text(encoding="utf-8")
    place = 'SYSTEM_FOLDER = Path("/etc/edge-ocr/trust")'
    assert place in text
    folder = tmp_path / "etc" / "trust"
    (tmp_path / "trust.py").write_text(text.replace(place, f'SYSTEM_FOLDER = Path("{folder}")'), encoding="utf-8")
    monkeypatch.setattr(deploy_trust, "_PROGRAM", tmp_path / "trust.py")
    monkeypatch.delenv("EDGE_OCR_TRUST", raising=False)
    return folder


@pytest.fixture
def sign_files(make_files, pairs) -> Callable[..., dict[str, Path]]:
    def sign(key: str = "ours", counter: int = 1) -> dict[str, Path]:
        files = make_files(others=("runtime/edge_ocr_lite/trust.py",), name=f"{key} {counter}")
        manifest = json.loads(files["manifest.json"].read_bytes())
        manifest["files"] = {
            name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size_bytes": path.stat().st_size}
            for name, path in files.items()
            if name != "manifest.json"
        }
        manifest["release"] = {"name": "demo", "counter": counter}
        files["manifest.json"].write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        signature = read_private_key(pairs / f"{key}.key").sign(files["manifest.json"].read_bytes())
        files["manifest.sig"] = files["manifest.json"].with_name("manifest.sig")
        files["manifest.sig"].write_bytes(signature)
        return files

    return sign


def deploy_trusted(board, files: dict[str, Path], key: Path | None) -> str | None:
    """Deploy as `deploy_bundle` does, and return where the keys are, if any is trusted."""
    folder = files["manifest.json"].parent
    with board.open() as opened:
        trusts = check_board_trust(opened, folder, key)
        opened.copy(files)
        opened.switch()
        return settle_trust(opened, key) if trusts or key is not None else None


def test_the_first_signed_bundle_brings_its_key(board, system, sign_files, pairs):
    key = pairs / "ours.pub"
    assert deploy_trusted(board, sign_files(), key) == str(system)
    assert (system / "ours.pub.pem").read_bytes() == key.read_bytes()
    assert json.loads((system / "seen.json").read_bytes()) == {"demo": 1}
    assert (system / "trust.py").read_text() == "ours 1"
    assert {path.name: oct(path.stat().st_mode)[-3:] for path in (system, *system.iterdir())} == {
        "trust": "755",
        **dict.fromkeys(("ours.pub.pem", "seen.json", "trust.py"), "644"),
    }
    # From now on also without --trusted; counter and program are updated.
    assert deploy_trusted(board, sign_files(counter=2), None) == str(system)
    assert deploy_trusted(board, sign_files(counter=2), key) == str(system)
    assert json.loads((system / "seen.json").read_bytes()) == {"demo": 2}
    assert (system / "trust.py").read_text() == "ours 2"
    assert sorted(path.name for path in system.parent.iterdir()) == ["trust"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda sign, make: make(), "^board .*not signed"),
        (lambda sign, make: sign("theirs", 3), "^board .*another key"),
        (lambda sign, make: sign("ours", 1), "^board .*counter 1, expected 2"),
    ],
)
def test_a_refused_bundle_is_not_copied(board, system, sign_files, make_files, pairs, change, message):
    deploy_trusted(board, sign_files(counter=2), pairs / "ours.pub")
    with pytest.raises(ParityError, match=message) as caught:
        deploy_trusted(board, change(sign_files, make_files), None)
    assert str(system) in caught.value.hint
    assert board.list_home() == ["ocr"]
    assert board.read_name(board.home / "ocr") == "ours 2"


def test_a_board_does_not_learn_a_second_key(board, system, sign_files, pairs):
    deploy_trusted(board, sign_files(), pairs / "ours.pub")
    with pytest.raises(ParityError, match=r"^board .*theirs\.pub"):
        deploy_trusted(board, sign_files(counter=2), pairs / "theirs.pub")


def test_a_board_that_cannot_check_signatures_is_left_as_it_is(board, system, sign_files, pairs):
    board.put(
        "python3",
        f'case "$*" in *describe*) echo \'{{"problem": "no OpenSSL", "folder": null, "keys": [], '
        f'"seen": {{}}}}\';; *) exec {sys.executable} "$@";; esac',
    )
    with pytest.raises(ToolchainError, match=r"^board: .*: no OpenSSL"):
        deploy_trusted(board, sign_files(), pairs / "ours.pub")
    assert board.list_home() == []
    # Without signatures, OpenSSL is not needed.
    assert deploy_trusted(board, sign_files(), None) is None


def test_a_key_that_does_not_fit_is_not_installed(board, system, sign_files, pairs):
    files = sign_files()
    files["models/a b.nb"].write_bytes(b"changed")
    with pytest.raises(ModelError, match=r"a b\.nb has 7 bytes.*key"):
        deploy_trusted(board, files, pairs / "ours.pub")
    assert not system.parent.exists()


def test_a_board_whose_trust_is_damaged_is_reported(board, system, sign_files, pairs):
    deploy_trusted(board, sign_files(), pairs / "ours.pub")
    (system / "seen.json").write_text("rubbish")
    with pytest.raises(ModelError, match=r"seen\.json"):
        deploy_trusted(board, sign_files(counter=2), None)


def test_a_user_has_a_trust_folder_at_home(board, system, sign_files, pairs, tmp_path):
    text = deploy_trust._PROGRAM.read_text(encoding="utf-8")
    deploy_trust._PROGRAM.write_text(text.replace("os.geteuid()", "1000"), encoding="utf-8")
    place = board.home / ".config" / "edge-ocr" / "trust"
    assert deploy_trusted(board, sign_files(), pairs / "ours.pub") == str(place)
    assert describe_reach(str(place), "pi@board").startswith("pi@board, ")
    assert describe_reach("/etc/edge-ocr/trust", "root@board") == "the whole board (/etc/edge-ocr/trust)"
    files = sign_files(counter=2)
    files.pop("manifest.sig").unlink()
    with pytest.raises(ParityError, match=r"manifest\.sig"):
        deploy_trusted(board, files, None)
