"""`edge-ocr doctor`: what is installed, and how to get what is missing."""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path

import pytest

from edge_ocr.config import load_config
from edge_ocr.models.registry import REGISTRY

DEFAULT_MODELS = ("PP-OCRv4_mobile_det", "PP-OCRv4_mobile_rec", "ch_ppocr_mobile_v2_cls")


@pytest.fixture
def diagnose(cli):
    """Return the findings of doctor, by name."""

    def run() -> dict[str, dict[str, str | None]]:
        done = cli("doctor", "--json")
        assert (done.code, done.err) == (0, "")
        return {finding["name"]: finding for finding in json.loads(done.out)}

    return run


def test_everything_is_checked(diagnose):
    findings = diagnose()
    wanted = {"python", "openvino", "paddle", "onnxruntime", "pdf", "font for Chinese", "opt (paddlelite)", "uv"}
    wanted.add("paddle2onnx (for PIR models)")
    wanted |= {
        "qemu-aarch64-static",
        "qemu-arm-static",
        "qemu-aarch64",
        "aarch64-linux-gnu-g++",
        "arm-linux-gnueabihf-g++",
    }
    wanted |= {"adb", "ANDROID_HOME"}
    wanted |= {*DEFAULT_MODELS, "others"}
    assert wanted <= set(findings)
    assert all(set(finding) == {"area", "name", "found", "remedy"} for finding in findings.values())


def test_models_that_are_not_here_are_only_counted(diagnose, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path))
    folder = tmp_path / "models/PP-OCRv6_tiny_det"
    folder.mkdir(parents=True)
    (folder / "inference.onnx").write_bytes(b"damaged")
    found = {name: finding for name, finding in diagnose().items() if finding["area"] == "models"}
    assert set(found) == {*DEFAULT_MODELS, "PP-OCRv6_tiny_det", "others"}
    assert "193bab7a" in found["PP-OCRv6_tiny_det"]["remedy"]
    assert found["others"]["found"].startswith(f"{len(REGISTRY) - 4}, ")


@pytest.mark.parametrize("is_used", [False, True])
def test_the_model_of_page_orientation_is_needed_if_it_is_used(diagnose, tmp_path, monkeypatch, is_used):
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path))
    used = load_config().with_values({"Pipeline.use_page_orientation": is_used}, "test")
    monkeypatch.setattr("edge_ocr.config.load_config", lambda: used)
    assert (used.page_model in diagnose()) == is_used


def test_missing_tools_have_a_hint(diagnose):
    for finding in diagnose().values():
        assert finding["found"] or finding["remedy"], finding["name"]


def test_installed_tools_are_found(diagnose, default_models):
    import openvino

    findings = diagnose()
    assert platform.python_version() in findings["python"]["found"]
    assert findings["openvino"]["found"]
    assert findings["openvino"]["found"] in openvino.__version__
    assert all(findings[name]["found"] for name in default_models)
    assert Path(findings["uv"]["found"]).exists()


def test_programs_on_the_path_are_found_and_others_are_not(diagnose, tmp_path, monkeypatch):
    program = tmp_path / "adb"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("ANDROID_HOME", "/sdk")
    findings = diagnose()
    assert findings["adb"]["found"] == str(program)
    assert findings["ANDROID_HOME"]["found"] == "/sdk"
    assert findings["qemu-arm-static"]["found"] is None
    assert "qemu-user-static" in findings["qemu-arm-static"]["remedy"]
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("ANDROID_HOME")
    findings = diagnose()
    assert findings["adb"]["found"] is None
    assert findings["ANDROID_HOME"]["found"] is None


def test_text_is_a_line_a_finding(cli):
    done = cli("doctor")
    assert (done.code, done.err) == (0, "")
    names = [line.split("\t")[1] for line in done.out.splitlines()]
    assert names == [finding["name"] for finding in json.loads(cli("doctor", "--json").out)]
    if not shutil.which("adb"):
        assert "android\tadb\tmissing: " in done.out


def test_a_terminal_of_80_columns_breaks_no_command_or_path(monkeypatch, capsys):
    from edge_ocr.cli import doctor

    home = str(Path.home())
    findings = [
        doctor.Finding("host", "python", "3.11", ""),
        doctor.Finding("export", "paddle2onnx (for PIR models)", f"2.1.0 ({home}/{'a' * 40}/bin/python)", ""),
        doctor.Finding("boards", "arm-linux-gnueabihf-g++", None, "apt-get install g++-arm-linux-gnueabihf"),
        doctor.Finding("android", "ANDROID_HOME", None, " ".join(["words"] * 30)),
    ]
    monkeypatch.setenv("COLUMNS", "80")
    doctor._print_by_area(findings)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if not line.startswith(" ")] == ["Host", "Export", "Boards", "Android"]
    assert f"(~/{'a' * 40}/bin/python)" in lines[4]
    assert lines[6].endswith("apt-get install g++-arm-linux-gnueabihf")
