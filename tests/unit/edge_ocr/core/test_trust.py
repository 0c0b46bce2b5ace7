"""Signed bundles: what host and boards accept and refuse. The cases that Kotlin shares are in tests/golden."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from converters.bundle.reader import inspect_bundle
from converters.export import export_bundle
from converters.plan import ExportOptions
from converters.signing import make_keys, make_signer, read_private_key, read_trusted_key
from converters.verify.verify import VerifyOptions, verify_bundle
from edge_ocr.config import load_config
from edge_ocr.core import bundle as bundle_module
from edge_ocr.core import trust as module
from edge_ocr.core.bundle import open_bundle
from edge_ocr.core.lite_ocr import LiteOCR
from edge_ocr.core.trust import Release, UntrustedError, read_trust
from edge_ocr.errors import ModelError, ToolchainError, UsageError

PROGRAM = Path(module.__file__)
GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "expected.json").read_text(encoding="utf-8"))["signatures"]


@pytest.fixture(scope="session")
def keys(tmp_path_factory) -> Path:
    """A folder with two pairs of keys."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        make_keys(folder / f"{name}.key", folder / f"{name}.pub")
    return folder


def sign(bundle: Path, key: Path, name: str = "demo", counter: int = 7) -> Path:
    """Sign a bundle again, as the exporter does."""
    content = json.loads((bundle / "manifest.json").read_bytes())
    content["release"] = {"name": name, "counter": counter}
    # Signs of the previous content.
    content.pop("manifest_sha256", None)
    (bundle / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    (bundle / "manifest.sig").write_bytes(read_private_key(key).sign((bundle / "manifest.json").read_bytes()))
    return bundle


@pytest.fixture
def signed(board_bundle, tmp_path, keys) -> Path:
    return sign(Path(shutil.copytree(board_bundle, tmp_path / "signed")), keys / "ours.key")


@pytest.fixture
def trusting(tmp_path, keys, monkeypatch) -> Path:
    """Let this machine trust our key."""
    folder = tmp_path / "trust"
    folder.mkdir()
    shutil.copy(keys / "ours.pub", folder / "ours.pem")
    monkeypatch.setenv(module.TRUST_VARIABLE, str(folder))
    return folder


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


# A change to a signed bundle, and the expected message.
ATTACKS: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "a changed model": (lambda bundle, keys: append(bundle / "models" / "rec.nb"), "rec.nb.* bytes, expected"),
    "changed code": (lambda bundle, keys: append(bundle / "runtime" / "edge_ocr_lite" / "files.py"), "files.py"),
    "a changed manifest": (
        lambda bundle, keys: append(bundle / "manifest.json"),
        "manifest.json was changed, or signed",
    ),
    "no signature": (lambda bundle, keys: (bundle / "manifest.sig").unlink(), "is not signed"),
    "another's signature": (lambda bundle, keys: sign(bundle, keys / "theirs.key"), "another key"),
    "a swapped signature": (
        lambda bundle, keys: (bundle / "manifest.sig").write_bytes(read_private_key(keys / "ours.key").sign(b"other")),
        "manifest.sig does not fit",
    ),
    "a signature that is a folder": (
        lambda bundle, keys: ((bundle / "manifest.sig").unlink(), (bundle / "manifest.sig").mkdir()),
        "manifest.sig cannot be read",
    ),
}


# --- boards


def test_a_board_that_trusts_no_key_accepts_every_bundle(board_bundle, signed, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(module.TRUST_VARIABLE, raising=False)
    assert open_bundle(board_bundle).manifest["release"] is None
    (signed / "manifest.sig").write_bytes(b"rubbish")
    assert open_bundle(signed).manifest["release"] == {"name": "demo", "counter": 7}


def test_a_trusted_bundle_works_and_its_counter_is_recorded(signed, trusting):
    reader = LiteOCR(signed)
    assert len(reader.predict(signed / "golden.png").lines) >= 4
    assert json.loads((trusting / "seen.json").read_bytes()) == {"demo": 7}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_board_refuses(signed, trusting, keys, attack):
    change, message = ATTACKS[attack]
    change(signed, keys)
    with pytest.raises(ModelError, match=message):
        open_bundle(signed)
    assert not (trusting / "seen.json").exists()


def test_a_board_refuses_a_bundle_that_is_older_than_one_that_worked(signed, trusting, keys):
    open_bundle(sign(signed, keys / "ours.key", counter=9)).note_release()
    with pytest.raises(ModelError, match=r"release demo .* 8, expected 9"):
        open_bundle(sign(signed, keys / "ours.key", counter=8))
    # A bundle of another release is accepted.
    open_bundle(sign(signed, keys / "ours.key", name="receipts", counter=1)).note_release()
    assert json.loads((trusting / "seen.json").read_bytes()) == {"demo": 9, "receipts": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda trust: (trust / "ours.pem").unlink(), "has no key"),
        (lambda trust: shutil.rmtree(trust), "cannot be read: .*No such file"),
        (lambda trust: (trust / "ours.pem").write_text("rubbish"), "is not an Ed25519 public key"),
        (lambda trust: (trust / "second.pem").write_bytes(b"\xff" * 100), "is not an Ed25519 public key"),
        (lambda trust: (trust / "seen.json").write_text("{"), r"seen\.json"),
        (lambda trust: (trust / "seen.json").write_text('{"demo": "7"}'), r"seen\.json"),
        (lambda trust: (trust / "seen.json").write_text("[]"), r"seen\.json"),
    ],
)
def test_an_incomplete_trust_folder_trusts_nothing(signed, trusting, change, message):
    change(trusting)
    with pytest.raises(ModelError, match=message):
        open_bundle(signed)


def test_the_machines_trust_folder_overrides_the_users(signed, trusting, keys, monkeypatch, tmp_path):
    system = tmp_path / "etc"
    system.mkdir()
    shutil.copy(keys / "theirs.pub", system / "theirs.pem")
    monkeypatch.setattr(module, "SYSTEM_FOLDER", system)
    with pytest.raises(ModelError, match="another key"):
        open_bundle(signed)


def test_the_home_has_a_trust_folder_too(signed, trusting, keys, monkeypatch, tmp_path):
    monkeypatch.delenv(module.TRUST_VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(trusting, tmp_path / ".config" / "edge-ocr" / "trust")
    (signed / "manifest.sig").unlink()
    with pytest.raises(ModelError, match="is not signed"):
        open_bundle(signed)


def test_an_app_names_its_own_trust_folder(signed, trusting, monkeypatch):
    monkeypatch.delenv(module.TRUST_VARIABLE)
    (signed / "manifest.sig").unlink()
    with pytest.raises(ModelError, match="is not signed"):
        LiteOCR(signed, trust=trusting)


def test_a_machine_that_cannot_check_signatures_refuses(signed, trusting, monkeypatch):
    monkeypatch.setattr(module, "_find_openssl", lambda: None)
    open_bundle(signed)  # the package cryptography is here
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(ToolchainError, match="OpenSSL"):
        open_bundle(signed)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_openssl_and_cryptography_agree(case, monkeypatch):
    assert module._find_openssl() is not None

    def check() -> Release | str:
        signature = None if case["signature"] is None else bytes.fromhex(case["signature"])
        keys = [bytes.fromhex(key) for key in case["keys"]]
        try:
            return module.check_manifest(case["manifest"].encode(), signature, keys, case["seen"])
        except UntrustedError as error:
            return str(error)

    by_openssl = check()
    monkeypatch.setattr(module, "_find_openssl", lambda: None)
    assert check() == by_openssl == (case["error"] or Release(**case["release"]))


@pytest.mark.parametrize("command", ["info", "selftest"])
def test_trying_a_bundle_does_not_block_older_ones(signed, trusting, keys, command, cli_board):
    sign(signed, keys / "ours.key", counter=9)
    assert cli_board(command, "--bundle", signed) == 0
    assert not (trusting / "seen.json").exists()
    open_bundle(sign(signed, keys / "ours.key", counter=5))


@pytest.fixture
def cli_board(capsys) -> Callable[..., int]:
    from edge_ocr.core.commands import main

    return lambda *arguments: main([str(argument) for argument in arguments])


def test_a_bundle_that_does_not_load_does_not_block_older_ones(signed, trusting, monkeypatch):
    monkeypatch.setattr(LiteOCR, "_load", lambda self: (_ for _ in ()).throw(ModelError("broken")))
    with pytest.raises(ModelError, match="broken"):
        LiteOCR(signed)
    assert not (trusting / "seen.json").exists()


def test_unwritable_counters_are_reported(signed, trusting, monkeypatch):
    assert open_bundle(signed).describe_trust() == f"release demo, counter 7, by the keys in {trusting}"
    monkeypatch.setattr(module.os, "access", lambda *_: False)
    assert "older releases" in open_bundle(signed).describe_trust()
    monkeypatch.setattr(module.Path, "replace", lambda *_: (_ for _ in ()).throw(PermissionError("no")))
    open_bundle(signed).note_release()
    assert sorted(path.name for path in trusting.iterdir()) == ["ours.pem"]


def test_processes_do_not_lose_each_others_counters(trusting):
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import trust; t = trust.read_trust(trust.find_trust_folder())\n"
    )
    program += "for counter in range(50): assert t.note(trust.Release(sys.argv[2], counter))"
    shutil.copy(PROGRAM, trusting)
    command = [sys.executable, "-c", program, trusting]
    started = [subprocess.Popen([*command, name]) for name in ("a", "b", "c", "a")]
    assert [process.wait() for process in started] == [0] * 4
    assert json.loads((trusting / "seen.json").read_bytes()) == {"a": 49, "b": 49, "c": 49}


def test_recorded_counters_are_world_readable(trusting):
    old = os.umask(0o077)
    try:
        read_trust(trusting).note(Release("demo", 1))
    finally:
        os.umask(old)
    assert stat.S_IMODE((trusting / "seen.json").stat().st_mode) == 0o644


def test_hidden_files_are_not_keys(signed, trusting):
    (trusting / "._ours.pem").write_bytes(b"\0\5\x16\7")
    open_bundle(signed)


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig"])
def test_a_pipe_does_not_hang_a_board(signed, trusting, name):
    (signed / name).unlink()
    os.mkfifo(signed / name)
    with pytest.raises(ModelError, match="not a file"):
        open_bundle(signed)


def test_a_huge_manifest_is_not_read(signed):
    os.truncate(signed / "manifest.json", 10 << 30)
    with pytest.raises(ModelError, match="16777216 bytes"):
        open_bundle(signed)


def test_an_unsigned_shim_is_not_loaded(signed, trusting, monkeypatch):
    manifest = json.loads((signed / "manifest.json").read_bytes())
    abi = next(iter(manifest["lite"]["libraries"]))
    planted = signed / ".installed" / "lib" / abi / "libedge_ocr_lite.so"
    planted.parent.mkdir(parents=True)
    planted.touch()
    assert open_bundle(signed).find_shim(abi) is None
    # In the bundle that holds the code, install.sh has built it.
    monkeypatch.setattr(bundle_module, "__file__", str(signed / "runtime" / "edge_ocr_lite" / "bundle.py"))
    assert open_bundle(signed).find_shim(abi) == planted
    monkeypatch.undo()
    monkeypatch.delenv(module.TRUST_VARIABLE, raising=False)
    assert open_bundle(signed).find_shim(abi) == planted


# --- the program that no bundle can change


def check_alone(bundle: Path, trust: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, module.TRUST_VARIABLE: str(trust)}
    command = [sys.executable, "-I", str(trust / "trust.py"), "check", str(bundle)]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def alone(trusting) -> Path:
    shutil.copy(PROGRAM, trusting)
    return trusting


def test_alone_it_accepts_a_signed_bundle(signed, alone):
    done = check_alone(signed, alone)
    assert (done.returncode, done.stdout) == (0, "trusted: release demo, counter 7\n")
    # A bundle that is not installed yet does not block older ones.
    assert not (alone / "seen.json").exists()


@pytest.mark.parametrize("attack", ATTACKS)
def test_alone_it_refuses(signed, alone, keys, attack):
    change, message = ATTACKS[attack]
    change(signed, keys)
    done = check_alone(signed, alone)
    assert done.returncode == 5
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert re.search(message, done.stderr)


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (lambda b: (b / "runtime" / "numpy.py").touch(), r"not in the signed manifest: runtime/numpy\.py"),
        (lambda b: (b / ".installed").mkdir() or (b / ".installed" / "python").touch(), r"\.installed/python"),
        (lambda b: (b / "more").symlink_to("/etc"), "not in the signed manifest: more"),
        (lambda b: ((b / "dict.txt").rename(b.parent / "d"), (b / "dict.txt").symlink_to(b.parent / "d")), "a link"),
        (lambda b: ((b / "dict.txt").unlink(), os.mkfifo(b / "dict.txt")), "not a file"),
    ],
)
def test_alone_it_refuses_unsigned_files(signed, alone, plant, message):
    plant(signed)
    done = check_alone(signed, alone)
    assert done.returncode == 5
    assert re.search(message, done.stderr)


def test_alone_it_refuses_folders_that_it_cannot_read(signed, alone, monkeypatch):
    hidden = signed / "runtime" / "__pycache__"
    hidden.mkdir(mode=0o111)
    walk = os.walk

    def refuse(folder, onerror=None):
        if os.geteuid() == 0:  # root can read everything
            onerror(PermissionError(13, "Permission denied", str(hidden)))
        yield from walk(folder, onerror=onerror)

    monkeypatch.setattr(module.os, "walk", refuse)
    with pytest.raises(UntrustedError, match=r"__pycache__ .*Permission denied"):
        module.check_folder(signed, read_trust(alone))
    hidden.chmod(0o755)


def test_alone_it_needs_a_key(signed, tmp_path, alone):
    (alone / "ours.pem").unlink()
    assert "has no key" in check_alone(signed, alone).stderr


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 100_000, b'{"release": 1}'])
def test_alone_it_survives_an_invalid_manifest(signed, alone, content):
    (signed / "manifest.json").write_bytes(content)
    done = check_alone(signed, alone)
    assert done.returncode == 5
    assert "Traceback" not in done.stderr


# --- the host


def find_failures(bundle: Path, key: Path) -> str:
    inspection = inspect_bundle(bundle, key)
    assert (inspection.bundle is None) == any(not check.passed for check in inspection.checks)
    return "; ".join(f"{check.layer} {check.name} {check.detail}" for check in inspection.checks if not check.passed)


def test_the_host_accepts_a_signed_bundle(signed, keys):
    inspection = inspect_bundle(signed, keys / "ours.pub")
    assert inspection.bundle is not None
    assert {check.layer for check in inspection.checks} >= {"signature", "files"}
    assert "release demo, counter 7" in inspection.checks[0].detail
    (note,) = inspect_bundle(signed).bundle.notes
    assert "--trusted KEY.pub" in note


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_host_refuses(signed, keys, attack):
    change, message = ATTACKS[attack]
    change(signed, keys)
    assert re.search(message, find_failures(signed, keys / "ours.pub"))


def test_the_host_refuses_what_is_not_signed(signed, keys):
    planted = signed / "runtime" / "edge_ocr_lite" / "__pycache__"
    planted.mkdir()
    (planted / "files.cpython-311.pyc").touch()
    assert "not in the signed manifest: runtime/edge_ocr_lite/__pycache__" in find_failures(signed, keys / "ours.pub")


def test_an_unsigned_manifest_is_not_parsed(signed, keys):
    (signed / "manifest.json").write_bytes(b"[" * 100_000)
    assert find_failures(signed, keys / "ours.pub").startswith("signature manifest manifest.sig does not fit")


def test_verify_says_so(signed, keys):
    options = VerifyOptions(trusted=keys / "theirs.pub")
    report = verify_bundle(signed, options)
    assert not report.passed
    assert [check.layer for check in report.failures] == ["signature"]


def test_an_export_is_signed_and_the_same_twice(opt, default_models, keys, tmp_path):
    config = load_config("OCR")
    signer = make_signer(keys / "ours.key", "receipts", 3)
    for name in ("a", "b"):
        export_bundle("arm", tmp_path / name, config, ExportOptions(verify=False, signer=signer))
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "a", tmp_path / "b")
    )
    assert first == second
    assert len(first[Path("manifest.sig")]) == 64
    inspection = inspect_bundle(tmp_path / "a", keys / "ours.pub")
    assert inspection.manifest["release"] == {"name": "receipts", "counter": 3}
    assert "release receipts, counter 3" in inspection.checks[0].detail


def test_the_signature_of_a_project_is_in_its_record(opt, default_models, keys, tmp_path):
    export_bundle(
        "android",
        tmp_path / "app",
        load_config("OCR"),
        ExportOptions(verify=False, signer=make_signer(keys / "ours.key", "demo")),
    )
    record = json.loads((tmp_path / "app" / "edge-ocr-project.json").read_bytes())["files"]
    assert "ocr/src/main/assets/edge-ocr/manifest.sig" in record
    assert inspect_bundle(tmp_path / "app", keys / "ours.pub").checks[0].passed


def test_openssl_checks_it_as_well(signed, keys):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", keys / "ours.pub", "-rawin"]
    command += ["-in", signed / "manifest.json", "-sigfile", signed / "manifest.sig"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    append(signed / "manifest.json")
    assert subprocess.run(command, check=False, capture_output=True).returncode != 0


# --- keys


def test_keys_are_made_once_and_for_their_owner(tmp_path):
    private, public = tmp_path / "a.key", tmp_path / "a.pub"
    old = os.umask(0)
    try:
        make_keys(private, public)
    finally:
        os.umask(old)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    before = private.read_bytes()
    with pytest.raises(UsageError, match=r"cannot write .*a\.key: File exists"):
        make_keys(private, public)
    with pytest.raises(UsageError, match=r"cannot write .*a\.pub: File exists"):
        make_keys(tmp_path / "b.key", public)
    assert private.read_bytes() == before
    assert not (tmp_path / "b.key").exists()


def test_a_key_may_have_a_password(tmp_path, monkeypatch):
    private, public = tmp_path / "a.key", tmp_path / "a.pub"
    make_keys(private, public, "secret")
    monkeypatch.delenv("EDGE_OCR_KEY_PASSWORD", raising=False)
    with pytest.raises(UsageError, match="the key has a password"):
        read_private_key(private)
    with pytest.raises(UsageError, match="the password is wrong"):
        read_private_key(private, "other")
    monkeypatch.setenv("EDGE_OCR_KEY_PASSWORD", "secret")
    assert read_private_key(private).public_key().public_bytes_raw() == read_trusted_key(public)


def test_a_password_is_ignored_for_a_key_without_one(keys, monkeypatch):
    monkeypatch.setenv("EDGE_OCR_KEY_PASSWORD", "secret")
    read_private_key(keys / "ours.key")


def test_other_keys_are_refused(keys, tmp_path):
    curve = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "p256.key").write_bytes(curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "p256.pub").write_bytes(
        curve.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(UsageError, match="expected Ed25519"):
        read_private_key(tmp_path / "p256.key")
    with pytest.raises(UsageError, match="is not an Ed25519 public key"):
        read_trusted_key(tmp_path / "p256.pub")
    with pytest.raises(UsageError, match="not a private key") as caught:
        read_private_key(keys / "ours.pub")
    assert "public" in caught.value.hint
    with pytest.raises(UsageError, match="is not an Ed25519 public key") as caught:
        read_trusted_key(keys / "ours.key")
    assert "private key" in caught.value.hint
    for read in (read_private_key, read_trusted_key):
        with pytest.raises(UsageError, match="cannot be read: No such file"):
            read(tmp_path / "missing")


@pytest.mark.parametrize("name", ["", "a b", "../a", ".a", "x" * 65, "a\n"])
def test_names_of_releases_are_plain(keys, name):
    with pytest.raises(UsageError, match="--release"):
        make_signer(keys / "ours.key", name)


@pytest.mark.parametrize("counter", [-1, 2**53])
def test_counters_fit_into_every_reader(keys, counter):
    with pytest.raises(UsageError, match="--counter"):
        make_signer(keys / "ours.key", "demo", counter)


def test_the_counter_defaults_to_the_time(keys, monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert make_signer(keys / "ours.key", "demo").release.counter > 1_700_000_000
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "123")
    assert make_signer(keys / "ours.key", "demo").release == Release("demo", 123)


def test_a_key_of_openssl_works(tmp_path):
    key = ed25519.Ed25519PrivateKey.generate()
    (tmp_path / "a.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert read_private_key(tmp_path / "a.key").public_key().public_bytes_raw() == key.public_key().public_bytes_raw()
