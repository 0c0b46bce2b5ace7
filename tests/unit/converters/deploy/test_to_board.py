"""Plans of deployments, where a bundle runs, and a whole deployment with its figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from support import cpuinfo

from converters.deploy.to_board import DeployOptions, DeployReport, _check_engines, deploy_bundle, plan_deployment
from converters.processes.ssh import SshAddress
from converters.signing import read_private_key
from edge_ocr.core.processor import parse_processor
from edge_ocr.errors import ModelError, NotVerifiedError, ParityError, ToolchainError, UsageError

ADDRESS = SshAddress("pi", "board", None, "ocr")


def test_a_plan_has_every_file_and_step(bundle):
    options = DeployOptions(python="/opt/python3", pip=True, engine="onnxruntime", threads=3, runs=7)
    plan = plan_deployment(bundle, SshAddress("pi", "board", 2222, "my ocr"), options)
    sizes = {path.relative_to(bundle).as_posix(): path.stat().st_size for path in bundle.rglob("*") if path.is_file()}
    assert plan.files == sizes
    assert plan.size_bytes == sum(sizes.values())
    assert plan.needed_bytes == pytest.approx(1.2 * plan.size_bytes, abs=1)
    text = "\n".join(plan.steps)
    for part in (
        "ssh -p 2222 pi@board",
        "~/my ocr",
        f"copy {len(sizes)} files",
        "./install.sh --python /opt/python3 --pip --engine onnxruntime",
        "bench --json --warmup 2 --runs 7 --engine onnxruntime --threads 3",
    ):
        assert part in text
    assert json.loads(json.dumps(plan.to_json()))["size_bytes"] == plan.size_bytes


def test_a_damaged_bundle_is_refused_with_what_is_wrong(own_bundle):
    with (own_bundle / "models" / "det.nb").open("r+b") as file:
        file.write(b"x")
    with pytest.raises(ParityError, match=r": models/det\.nb: sha256 .*, expected") as caught:
        plan_deployment(own_bundle, ADDRESS)
    assert "export it again" in caught.value.hint


def test_a_folder_that_is_not_a_bundle_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"manifest\.json"):
        plan_deployment(tmp_path, ADDRESS)


def change_manifest(bundle: Path, change: Callable[[dict], None]) -> None:
    content = json.loads((bundle / "manifest.json").read_bytes())
    change(content)
    (bundle / "manifest.json").write_text(json.dumps(content, sort_keys=True), encoding="utf-8")


def test_a_bundle_for_phones_is_refused(export):
    with pytest.raises(UsageError, match=r"android, expected .*arm"):
        plan_deployment(export("android").out_dir, ADDRESS)


def test_a_bundle_without_installer_is_refused(own_bundle):
    change_manifest(own_bundle, lambda content: [content["files"].pop(name) for name in ("install.sh", "bom.cdx.json")])
    with pytest.raises(ModelError, match=r"install\.sh") as caught:
        plan_deployment(own_bundle, ADDRESS)
    assert "export it again" in caught.value.hint


def test_a_newer_bundle_is_refused(own_bundle):
    change_manifest(own_bundle, lambda content: content.update(schema_version=99))
    with pytest.raises(NotVerifiedError, match="schema_version 99"):
        plan_deployment(own_bundle, ADDRESS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (DeployOptions(python="env/bin/python"), "--python env/bin/python: "),
        (DeployOptions(python=""), "--python : "),
        (DeployOptions(runs=0), "--runs 0: .*1 to"),
        (DeployOptions(threads=0), "--threads 0: .*1 to 256"),
        (DeployOptions(threads=257), "--threads 257: .*1 to 256"),
    ],
)
def test_invalid_options_are_refused(bundle, options, message):
    with pytest.raises(UsageError, match=message):
        plan_deployment(bundle, ADDRESS, options)


@pytest.mark.parametrize(
    ("change", "engine", "message"),
    [
        (
            {"onnx": None},
            "auto",
            "paddle_lite: .*armv8; onnxruntime: .*ONNX",
        ),
        ({"onnx": None}, "onnxruntime", ": onnxruntime: .*ONNX"),
        ({}, "paddle_lite", ": paddle_lite: .*armv8"),
    ],
)
@pytest.mark.parametrize("pip", [False, True])
def test_a_bundle_without_an_engine_is_refused(own_bundle, change, engine, message, pip):
    change_manifest(own_bundle, lambda content: content.update(change))
    with pytest.raises(ModelError, match=message) as caught:
        plan_deployment(own_bundle, ADDRESS, DeployOptions(engine=engine, pip=pip))
    assert caught.value.message.startswith(f"{own_bundle}: ")
    for words in ("edge-ocr libs fetch --platform armlinux.armv8", "export --with-onnx"):
        assert words in caught.value.hint


def test_a_plan_shows_where_the_bundle_runs(bundle):
    (step,) = [step for step in plan_deployment(bundle, ADDRESS).steps if "runs there" in step]
    assert "(onnxruntime: " in step
    assert "paddle_lite" not in step


LIBRARY = {
    "file": "lib/armv8/libpaddle_light_api_shared.so",
    "version": "v2.13-rc",
    "version_matches": True,
    "min_glibc": "2.31",
    "shim": None,
}


@dataclass
class Manifest:
    """The parts of a bundle that decide where it runs."""

    folder: Path
    manifest: dict


@pytest.mark.parametrize(
    ("facts", "options", "content", "reasons"),
    [
        ({}, {}, {"onnx": {}}, None),
        ({"has_onnxruntime": False}, {}, {}, None),
        (
            {"has_onnxruntime": False},
            {},
            {"lite": {}, "onnx": {}},
            ["onnxruntime is not installed for /usr/bin"],
        ),
        ({"has_onnxruntime": False}, {"pip": True}, {"lite": {}, "onnx": {}}, None),
        (
            {"has_onnxruntime": False},
            {"pip": True},
            {"lite": {}},
            ["no Paddle-Lite library for", "no ONNX graphs"],
        ),
        ({"bits": 32, "multiarch": "arm-linux-gnueabihf"}, {}, {}, ["for armv8, this machine is armv7hf"]),
        ({"bits": 32, "multiarch": "arm-linux-gnueabi"}, {}, {}, ["this machine is aarch64 with 32-bit Python"]),
        ({"machine": "x86_64"}, {}, {}, ["this machine is x86_64 with 64-bit Python"]),
        ({"machine": "x86_64"}, {}, {"onnx": {}}, None),
        (
            {"machine": "x86_64"},
            {"engine": "paddle_lite"},
            {"onnx": {}},
            [": paddle_lite: the bundle is for"],
        ),
        ({}, {"engine": "onnxruntime"}, {}, [": onnxruntime: the bundle has no ONNX graphs"]),
        ({"glibc": "2.28"}, {}, {}, ["it needs glibc 2.31, this system has 2.28"]),
        ({"glibc": None}, {}, {}, ["another C library"]),
    ],
)
def test_a_board_that_has_no_engine_for_the_bundle_is_reported(board, facts, options, content, reasons):
    library = {"file": None} if "lite" in content else LIBRARY
    manifest = {"lite": {"runtime_version": "v2.13-rc", "libraries": {"armv8": library}}, "onnx": content.get("onnx")}
    board.use_python(**facts)
    with board.open() as opened:
        bundle = Manifest(Path("bundle"), manifest)
        if reasons is None:
            assert _check_engines(bundle, DeployOptions(**options), opened)
        else:
            with pytest.raises(ToolchainError) as caught:
                _check_engines(bundle, DeployOptions(**options), opened)
            assert caught.value.message.startswith("board: cannot run bundle: ")
            for reason in reasons:
                assert reason in caught.value.message
            assert ("install onnxruntime there" in caught.value.hint) == ("onnxruntime is" in reasons[0])


def test_a_board_without_an_engine_is_reported_before_anything_is_copied(board, bundle):
    board.use_python(has_onnxruntime=False)
    board.put("tar", "touch copied")
    with pytest.raises(ToolchainError, match=r"onnxruntime .*/usr/bin/python3") as caught:
        deploy_bundle(bundle, ADDRESS)
    assert "--pip" in caught.value.hint
    assert board.list_home() == []
    # A Python that reports nothing is left to the installer.
    board.put("python3", f'case $2 in *onnxruntime*) exit 1;; esac; exec {sys.executable} "$@"')
    with board.open() as opened:
        assert opened.facts is None


FIGURES = {
    "edge_ocr_version": "0.1.0",
    "machine": "aarch64",
    "engine": "paddle_lite",
    "threads": 4,
    "power_mode": "no-bind",
    "precision": "int8",
    "load_ms": 123.4,
    "images": 1,
    "lines": 4,
    "runs": 10,
    "warmup": 2,
    "stages_ms": {"detection": {"p50": 500.0, "p95": 600.5}, "total": {"p50": 900.0, "p95": 1000.0}},
    "rss_mb": {"first": 100.0, "last": 101.0, "peak": 150.5},
    "temperature_c": 51.2,
    "governor": "ondemand",
    "processor": asdict(parse_processor(cpuinfo.RK3588)),
}


def replace_programs(board, launcher: str) -> None:
    """Let the board unpack a bundle and then replace its programs with fakes."""
    real = (board.programs / "tar").readlink()
    board.put(
        "tar",
        f"{real} \"$@\" || exit\nprintf '#!/bin/sh\\nexit 0\\n' >install.sh\n"
        f"cat >edge-ocr-lite <<'END'\n#!/bin/sh\n{launcher}\nEND",
    )


def test_a_deployment_reports_figures_of_board_and_host(board, bundle):
    figures = board.home.parent / "figures.json"
    figures.write_text(json.dumps(FIGURES))
    replace_programs(board, f'echo "$@" >arguments; cat {figures}')
    steps: list[str] = []
    report = deploy_bundle(bundle, ADDRESS, DeployOptions(runs=1, threads=1), report=steps.append)
    assert isinstance(report, DeployReport)
    assert report.place == str(board.home / "ocr")
    assert not report.replaced
    expected = "bench --json --warmup 2 --runs 1 --engine auto --threads 1\n"
    assert (board.home / "ocr" / "arguments").read_text() == expected
    assert report.board.engine == "paddle_lite"
    assert report.board.stages_ms["detection"].p95 == 600.5
    assert report.board.peak_rss_mb == 150.5
    assert (report.board.temperature_c, report.board.governor) == (51.2, "ondemand")
    assert report.board.processor == parse_processor(cpuinfo.RK3588)
    assert report.host is not None
    assert report.host.processor is None
    assert report.host.threads == 1
    assert report.host.lines == 4
    assert set(report.host.stages_ms) == {"decode", "detection", "crop", "recognition", "total"}
    assert report.host.stages_ms["total"].p50 > report.host.stages_ms["detection"].p50 > 0
    content = json.loads(json.dumps(report.to_json()))
    assert content["board"]["stages_ms"]["total"] == {"p50": 900.0, "p95": 1000.0}
    assert content["board"]["processor"]["unlisted"] == ["Cortex-A76 (part 0xd0b)"]
    assert content["login"] == "pi@board"
    assert [step.split()[0] for step in steps] == ["connecting", "board:", "copying", "installing", "in", "measuring"]
    copied = {path.relative_to(board.home / "ocr").as_posix() for path in (board.home / "ocr").rglob("*.nb")}
    assert copied == {"models/det.nb", "models/rec.nb"}


def test_files_that_are_not_the_bundles_are_not_copied(board, own_bundle):
    (own_bundle / ".installed").mkdir()
    (own_bundle / ".installed" / "python").touch()
    replace_programs(board, "exit 0")
    with pytest.raises(ToolchainError, match="bench"):
        deploy_bundle(own_bundle, ADDRESS)
    assert not (board.home / "ocr" / ".installed").exists()
    assert (board.home / "ocr" / "manifest.json").exists()


@pytest.mark.parametrize("name", ["RK3588", "an older bundle"])
def test_the_report_says_what_the_boards_processor_gets(board, bundle, repository, name):
    figures = dict(FIGURES)
    if name != "RK3588":
        del figures["processor"]
    replace_programs(board, f"cat <<'FIGURES'\n{json.dumps(figures)}\nFIGURES")
    command = [sys.executable, "-c", "from edge_ocr.cli import main; main()", "deploy", bundle, "--ssh", "pi@board:ocr"]
    env = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run([*command, "--runs", "1"], env=env, capture_output=True, text=True, check=True)
    said = parse_processor(cpuinfo.RK3588).describe()
    assert [line in done.stdout.splitlines() for line in said] == [name == "RK3588"] * 2
    assert "governor ondemand" in done.stdout


DAMAGED = [
    {**FIGURES, "threads": None},
    {**FIGURES, "processor": "Cortex-A76"},
    {**FIGURES, "processor": {**FIGURES["processor"], "cores": ["Cortex-A76"]}},
    {**FIGURES, "processor": {**FIGURES["processor"], "unlisted": [1]}},
]


@pytest.mark.parametrize("answer", ["", "[]", "{}", *map(json.dumps, DAMAGED), "Segmentation fault"])
def test_invalid_figures_are_reported(board, bundle, answer):
    replace_programs(board, f"printf '%s' '{answer}'")
    with pytest.raises(ToolchainError, match=r"^board: .*bench") as caught:
        deploy_bundle(bundle, ADDRESS)
    assert "bench --json" in caught.value.hint
    assert board.list_home() == ["ocr"]


def test_a_bench_that_fails_is_reported_and_the_bundle_stays(board, bundle):
    replace_programs(board, "echo 'Error: paddle_lite cannot be used' >&2; echo 'Hint: no library' >&2; exit 6")
    message = "^board: .*: paddle_lite cannot be used$"
    with pytest.raises(ToolchainError, match=message) as caught:
        deploy_bundle(bundle, ADDRESS, DeployOptions(engine="onnxruntime"))
    assert caught.value.hint == "no library"
    assert board.list_home() == ["ocr"]


def test_a_host_that_cannot_measure_is_a_note(board, bundle, monkeypatch):
    monkeypatch.setattr("converters.lite.graph_engines.is_installed", lambda name: False)
    replace_programs(board, f"cat <<'FIGURES'\n{json.dumps(FIGURES)}\nFIGURES")
    report = deploy_bundle(bundle, ADDRESS)
    assert report.host is None
    assert report.to_json()["host"] is None
    assert report.notes == ("no figures of this machine: no engine for ONNX is installed",)


def test_a_plan_for_a_signed_bundle(bundle, own_bundle, pairs):
    options = DeployOptions(trusted=pairs / "ours.pub")
    with pytest.raises(ParityError, match=r"manifest\.sig") as caught:
        plan_deployment(bundle, ADDRESS, options)
    change_manifest(own_bundle, lambda content: content.update(release={"name": "demo", "counter": 1}))
    content = (own_bundle / "manifest.json").read_bytes()
    (own_bundle / "manifest.sig").write_bytes(read_private_key(pairs / "ours.key").sign(content))
    plan = plan_deployment(own_bundle, ADDRESS, options)
    assert plan.files["manifest.sig"] == 64
    assert any("trust" in step for step in plan.steps)
    # It is also copied without the option.
    assert "manifest.sig" in plan_deployment(own_bundle, ADDRESS).files
    assert caught.value.hint
