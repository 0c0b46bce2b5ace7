import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from support.libraries import CXX

from converters.lite.toolchain import PYTHON_VARIABLE
from edge_ocr.models.resolve import resolve_model
from edge_ocr.models.store import store_root

COMMAND = [sys.executable, "-W", "error", "-c", "from edge_ocr.cli import main; main()", "export"]


@pytest.fixture
def bad_det(tmp_path):
    """A detection model that is a Paddle program, but one that opt refuses."""
    det = resolve_model("PP-OCRv4_mobile_det", "det")
    folder = tmp_path / "bad_det"
    folder.mkdir()
    shutil.copy(det.params, folder / "inference.pdiparams")
    data = det.program.read_bytes().replace(b"hard_swish", b"hard_swosh")
    (folder / "inference.pdmodel").write_bytes(data)
    return folder


def run_export(*options):
    return subprocess.run([*COMMAND, *map(str, options)], capture_output=True, text=True, timeout=120, check=False)


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_export_prints_the_bundle_only(opt, tmp_path):
    out = tmp_path / "bundle"
    ended = run_export("--target", "arm", "--out", out, "--orientation", "line")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{out}\n"
    assert list_names(out / "models") == ["cls.nb", "det.nb", "rec.nb"]
    for words in (
        "det: PP-OCRv4_mobile_det (",
        "det: passes, 312 ops → 239",
        "rec: opt, ",
        "writing the bundle",
        "weights fp32, for Paddle-Lite v2.13-rc",
    ):
        assert words in ended.stderr
    assert re.search(r"det: PP-OCRv4_mobile_det +│ 312 → 1\d\d │ +4\.86 → 4\.\d\d │ +\d+\.\d\d ", ended.stderr)
    assert re.search(r"total +│ +│ +17\.96 → \d\d\.\d\d │", ended.stderr)

    again = run_export("--target", "arm", "--out", out)
    assert again.returncode == 2
    assert "--force" in again.stderr
    assert again.stdout == ""

    (out / "mine").touch()
    forced = run_export("--target", "arm", "--out", out, "--force", "--no-verify")
    assert forced.returncode == 0, forced.stderr
    assert list_names(out / "models") == ["det.nb", "rec.nb"]
    assert "kept 1 " in forced.stderr
    assert (out / "mine").exists()
    assert list_names(tmp_path) == ["bundle"]

    with (out / "pipeline.yaml").open("a") as file:
        file.write("# mine\n")
    refused = run_export("--target", "arm", "--out", out, "--force")
    assert refused.returncode == 2
    assert ": pipeline.yaml" in refused.stderr
    assert "looking for an interpreter" not in refused.stderr


def test_every_option_reaches_the_bundle(opt, tmp_path):
    out = tmp_path / "bundle"
    options = ["--cls-model", "ch_ppocr_mobile_v2_cls", "--abi", "arm64-v8a, armeabi-v7a", "--quantize", "int16"]
    options += ["--charset", "digits", "--no-optimize", "--lite-version", "v2.13-rc", "--zip", "--engine", "both"]
    ended = run_export("--target", "android", "--out", out, *options)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{out}\n{out}.zip\n"
    assert "charset: 18 characters of digits" in ended.stderr
    assert (
        "`edge-ocr libs fetch --platform android.armv8` and `edge-ocr libs fetch --platform android.armv7`"
        in ended.stderr
    )
    bundle = out / "ocr" / "src" / "main" / "assets" / "edge-ocr"
    assert (bundle / "models" / "cls.nb").is_file()
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    assert (manifest["target"], manifest["precision"]) == ("android", "int16")
    assert sorted(manifest["lite"]["libraries"]) == manifest["app"]["abis"] == ["arm64-v8a", "armeabi-v7a"]
    assert manifest["app"]["engines"] == ["onnxruntime", "paddle_lite"]
    assert (manifest["charset"]["classes"], manifest["charset"]["selection"]) == (19, "digits")
    steps = [step["name"] for step in manifest["models"]["rec"]["passes"]]
    assert steps == ["restore_attributes", "keep_scales", "prune_charset"]

    # Like the bundle, the archive is in the way of the next one.
    shutil.rmtree(out)
    ended = run_export("--target", "arm", "--out", out, "--zip")
    assert ended.returncode == 2
    assert "bundle.zip exists" in ended.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--target", "arm", "--abi", "arm64-v8a"], "--abi arm64-v8a: "),
        (["--target", "android", "--arch", "armv8"], "--arch armv8: "),
        (["--target", "arm", "--arch", "armv6"], "--arch armv6: the target arm has no such ABI"),
        (["--target", "arm", "--arch", ""], "--arch '': the target arm has no such ABI"),
        (["--target", "android", "--abi", "mips,arm64-v8a"], "--abi mips: the target android has no such ABI"),
        (["--target", "android", "--engine", "paddle_lite", "--abi", "x86"], "--abi x86: Paddle-Lite has no library"),
        (["--target", "arm", "--engine", "both"], "--engine both: not for --target arm"),
        (["--target", "android", "--with-onnx"], "--with-onnx"),
        (["--target", "arm", "--lite-version", "2.9"], "Paddle-Lite 2.9\nHint: choose one of: 2.13-rc ("),
        (["--target", "arm", "--quantize", "int4"], "--quantize"),
        (
            ["--target", "arm", "--charset", "klingon"],
            "--charset klingon",
        ),
        *(
            (["--target", "arm", f"--{kind}-model", "mine", "--orientation", what], f"--{kind}-model mine: ")
            for kind, useless in (("cls", ("page", "none")), ("page", ("line", "none")))
            for what in useless
        ),
    ],
)
def test_an_invalid_option_exits_2(cli, tmp_path, options, words):
    ended = cli("export", "--out", tmp_path / "bundle", *options)
    assert ended.code == 2
    assert words in ended.err
    assert list_names(tmp_path) == []


def test_a_classifier_that_the_orientation_does_not_use_is_refused(cli, tmp_path):
    ended = cli("export", "--out", tmp_path / "bundle", "--target", "arm", "--cls-model", "a", "--orientation", "page")
    assert "--orientation page\nHint: use --orientation line or both, or omit --cls-model" in ended.err


def test_set_reaches_the_bundle(opt, tmp_path, write_recognizer):
    write_recognizer(tmp_path / "2024", classes=4, dictionary="a\n\n\n")
    out = tmp_path / "bundle"
    settings = [f"Pipeline.text_rec_model={tmp_path / '2024'}", "Detection.thresh=1e-1", "Detection.box_thresh=0.5"]
    settings += ["Pipeline.text_rec_batch_size=4", "Recognition.image_shape=[3, 32, 640]"]
    options = [text for setting in settings for text in ("--set", setting)]
    ended = run_export("--target", "arm", "--out", out, *options, "--no-verify")
    assert ended.returncode == 0, ended.stderr
    manifest = json.loads((out / "manifest.json").read_bytes())
    assert manifest["models"]["rec"]["source"]["name"] == "2024"
    detection, recognition = manifest["settings"]["detection"], manifest["settings"]["recognition"]
    assert (detection["bin_threshold"], detection["box_threshold"]) == (0.1, 0.5)
    assert (recognition["image_height"], recognition["min_width"], recognition["batch_size"]) == (32, 640, 4)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("Detection.thresh", "--set Detection.thresh: expected KEY=VALUE"),
        ("Detection.tresh=1", "--set: unknown key Detection.tresh\nHint: did you mean Detection.thresh?"),
        ("Detection.thresh=2", "--set: Detection.thresh: expected a number from 0 to 1, got 2"),
    ],
)
def test_a_bad_set_exits_2(cli, tmp_path, setting, words):
    ended = cli("export", "--target", "arm", "--out", tmp_path / "bundle", "--set", setting)
    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err
    assert list_names(tmp_path) == []


def test_a_named_option_wins_over_set(cli, tmp_path):
    options = ["--det-model", "no-such-model", "--set", "Pipeline.text_det_model=PP-OCRv4_mobile_det"]
    ended = cli("export", "--target", "arm", "--out", tmp_path / "bundle", *options)
    assert ended.code == 5
    assert "unknown model no-such-model" in ended.err


def test_a_height_that_is_not_the_models_exits_5(cli, tmp_path, write_recognizer):
    folder = write_recognizer(tmp_path / "my_rec", classes=4, dictionary="a\nb\n")
    options = ["--rec-model", folder, "--set", "Recognition.image_shape=[3, 48, 320]"]
    ended = cli("export", "--target", "arm", "--out", tmp_path / "bundle", *options)
    assert ended.code == 5
    for words in ("my_rec: ", " 32, ", "Recognition.image_shape has 48 (--set)"):
        assert words in ended.err


def test_a_bad_file_of_characters_exits_5(tmp_path):
    file = tmp_path / "characters.txt"
    file.write_text("a\na\n")
    ended = run_export("--target", "arm", "--out", tmp_path / "bundle", "--charset", file)
    assert ended.returncode == 5
    assert f"Error: the dictionary {file} holds 'a' twice, in lines 1 and 2\n" in ended.stderr


@pytest.mark.usefixtures("paddle2onnx")
def test_a_pir_model_that_cannot_be_converted_exits_7_with_the_commands_to_export_it_again(tmp_path):
    folder = tmp_path / "new_det"
    folder.mkdir()
    (folder / "inference.json").write_text('{"base_code": {"magic": "pir"}}')
    (folder / "inference.pdiparams").write_bytes(b"")
    ended = run_export("--target", "arm", "--out", tmp_path / "bundle", "--det-model", folder)
    assert ended.returncode == 7
    assert f"paddle2onnx could not convert {folder}/inference.json" in ended.stderr
    for words in (
        "python tools/export_model.py -c CONFIG -o Global.export_with_pir=False",
        "FLAGS_json_format_model=0",
        "FLAGS_enable_pir_api=0",
    ):
        assert words in ended.stderr
    assert list_names(tmp_path) == ["new_det"]


def test_a_library_of_another_version_exits_5(opt, tmp_path, monkeypatch):
    if shutil.which("aarch64-linux-gnu-g++") is None:
        pytest.skip("aarch64-linux-gnu-g++ is not installed")
    monkeypatch.setenv(PYTHON_VARIABLE, str(opt.python))
    library = compile_library(tmp_path / "libpaddle_light_api_shared.so")
    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to(store_root().absolute() / "models", target_is_directory=True)
    monkeypatch.setenv("EDGE_OCR_HOME", str(home))
    options = ["--target", "arm", "--out", tmp_path / "bundle", "--lite-lib", library]
    ended = run_export(*options)
    assert ended.returncode == 5
    assert "v2.12, expected v2.13-rc" in ended.stderr
    assert "--allow-version-mismatch" in ended.stderr
    assert not (tmp_path / "bundle").exists()
    ended = run_export(*options, "--allow-version-mismatch", "--no-verify")
    assert ended.returncode == 0, ended.stderr
    assert "WARNING: armv8: VERSION MISMATCH: the library is v2.12" in ended.stderr


def compile_library(out):
    source = CXX + 'extern "C" const char version[] = "\\0v2.12";'
    command = ["aarch64-linux-gnu-g++", "-shared", "-fPIC", "-nostdlib", "-w", "-Wl,--no-as-needed", "-x", "c++", "-"]
    subprocess.run([*command, "-x", "none", "-lc", "-o", out], input=source.encode(), check=True)
    return out


def test_an_unknown_target_exits_2(tmp_path):
    ended = run_export("--target", "toaster", "--out", tmp_path / "bundle")
    assert ended.returncode == 2
    assert "unknown target 'toaster'" in ended.stderr
    assert "arm" in ended.stderr


def test_an_unusable_interpreter_exits_6(tmp_path, monkeypatch):
    monkeypatch.setenv(PYTHON_VARIABLE, str(tmp_path / "none"))
    ended = run_export("--target", "arm", "--out", tmp_path / "bundle")
    assert ended.returncode == 6
    assert PYTHON_VARIABLE in ended.stderr
    assert list_names(tmp_path) == []


def test_a_model_that_opt_refuses_exits_7_with_its_last_lines(opt, tmp_path, bad_det):
    ended = run_export("--target", "arm", "--out", tmp_path / "out" / "bundle", "--det-model", bad_det)
    assert ended.returncode == 7
    assert "opt could not convert" in ended.stderr
    assert "These unsupported ops are: 'hard_swosh'" in ended.stderr
    assert "hard_sigmoid     Y      Y" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_export_leaves_nothing(opt, tmp_path, monkeypatch, how):
    started = tmp_path / "started"
    slow = tmp_path / "slow-python"
    # Answers the first call like the real interpreter, and hangs in the next one.
    slow.write_text(
        f'#!/bin/sh\nif [ -e "{started}.once" ]; then touch "{started}"; exec sleep 20; fi\n'
        f'touch "{started}.once"\nexec "{opt.python}" "$@"\n'
    )
    slow.chmod(0o755)
    monkeypatch.setenv(PYTHON_VARIABLE, str(slow))
    out = tmp_path / "out" / "bundle"
    process = subprocess.Popen(
        [*COMMAND, "--target", "arm", "--out", str(out)], stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 60
        while not started.exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        partial = list(out.parent.iterdir())
        assert [path.suffix for path in partial] == [".partial"]
        # To the whole group, as Ctrl-C and a service manager do.
        (os.kill if how == signal.SIGKILL else os.killpg)(process.pid, how)
        # An opt that was just being started may have missed the signal; the export waits until it has ended.
        _, stderr = process.communicate(timeout=60)
        assert not out.exists()
        if how != signal.SIGKILL:
            assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[how], stderr
            assert not out.parent.exists()
    finally:
        # We must end what a killed export left.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom edge_ocr.cli import export\n"
        "heavy = {'numpy', 'cv2', 'paddle', 'openvino', 'rich.console', 'converters', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
