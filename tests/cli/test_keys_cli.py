"""`edge-ocr keys`, and the options that use its keys."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest


def test_new_makes_both_files_and_prints_them(cli, tmp_path):
    done = cli("keys", "new", tmp_path / "factory.v1")
    assert done.code == 0
    private, public = map(Path, done.out.splitlines())
    assert (private.name, public.name) == ("factory.v1.key", "factory.v1.pub")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert b"BEGIN PUBLIC KEY" in public.read_bytes()
    again = cli("keys", "new", tmp_path / "factory.v1")
    assert (again.code, again.out) == (2, "")
    assert "factory.v1.key: File exists" in again.err


def test_a_password_is_asked_for_or_taken_from_the_environment(cli, tmp_path, monkeypatch):
    monkeypatch.delenv("EDGE_OCR_KEY_PASSWORD", raising=False)
    asked = cli("keys", "new", "--password", tmp_path / "a", stdin=b"secret\nsecret\n")
    assert asked.code == 0
    monkeypatch.setenv("EDGE_OCR_KEY_PASSWORD", "secret")
    assert cli("keys", "new", "--password", tmp_path / "b").code == 0
    for name in ("a", "b"):
        assert b"BEGIN ENCRYPTED PRIVATE KEY" in (tmp_path / f"{name}.key").read_bytes()


@pytest.mark.parametrize("option", [("--release", "demo"), ("--counter", "3")])
def test_a_release_without_a_key_is_refused(cli, tmp_path, option):
    done = cli("export", "--target", "arm", "--out", tmp_path / "bundle", *option)
    assert done.code == 2
    assert f"{option[0]}: " in done.err
    assert "--sign" in done.err


def test_a_signature_needs_the_name_of_a_release(cli, tmp_path):
    done = cli("export", "--target", "arm", "--out", tmp_path / "bundle", "--sign", tmp_path / "a.key")
    assert done.code == 2
    assert "--release" in done.err


def test_a_bad_key_is_refused_before_any_work(cli, tmp_path):
    done = cli(
        "export", "--target", "arm", "--out", tmp_path / "bundle", "--sign", tmp_path / "none.key", "--release", "a"
    )
    assert done.code == 2
    assert "edge-ocr keys new" in done.err
    assert "det:" not in done.err
    assert not (tmp_path / "bundle").exists()


def test_from_key_to_verdict(cli, tmp_path, opt, default_models):
    for name in ("ours", "theirs"):
        assert cli("keys", "new", tmp_path / name).code == 0
    bundle = tmp_path / "bundle"
    options = ("--sign", tmp_path / "ours.key", "--release", "receipts", "--counter", "8", "--no-verify")
    done = cli("export", "--target", "arm", "--out", bundle, *options)
    assert done.code == 0, done.err
    assert "release receipts, counter 8" in done.err
    good = cli("verify", bundle, "--trusted", tmp_path / "ours.pub", "--json")
    assert good.code == 0, good.err
    assert {"signature", "files"} <= {check["layer"] for check in json.loads(good.out)["checks"]}
    bad = cli("verify", bundle, "--trusted", tmp_path / "theirs.pub")
    assert bad.code == 8
    assert f"Hint: check that {tmp_path / 'theirs.pub'} " in bad.err
    (bundle / "more.txt").write_text("mine")
    stranger = cli("verify", bundle, "--trusted", tmp_path / "ours.pub")
    assert stranger.code == 8
    assert "do not use the bundle" in stranger.err.partition("Hint: ")[2]
    (bundle / "more.txt").unlink()
    unsigned = shutil.copytree(bundle, tmp_path / "unsigned")
    (unsigned / "manifest.sig").unlink()
    refused = cli("verify", unsigned, "--trusted", tmp_path / "ours.pub")
    assert refused.code == 8
    assert "--sign" in refused.err.partition("Hint: ")[2]
    page = tmp_path / "report.html"
    assert cli("verify", bundle, "--trusted", tmp_path / "theirs.pub", "--report", page).code == 8
    assert "signature" in page.read_text(encoding="utf-8")
    shutil.copy(tmp_path / "ours.key", tmp_path / "ours.pub")
    wrong = cli("verify", bundle, "--trusted", tmp_path / "ours.pub")
    assert (wrong.code, wrong.out) == (2, "")
    assert "private" in wrong.err
