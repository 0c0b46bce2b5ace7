"""A bundle as boards read it: damaged and foreign bundles are refused, and reasons are reported."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import cpuinfo

import edge_ocr.core
from converters.bundle.manifest import describe_settings
from edge_ocr.config import load_config
from edge_ocr.core import bundle as module
from edge_ocr.core.bundle import describe_machine, find_abi, find_own_bundle, iterate_files, open_bundle
from edge_ocr.core.processor import parse_processor
from edge_ocr.errors import ModelError, ToolchainError

CONFIG = load_config("OCR")
CORE = Path(edge_ocr.core.__file__).parent
LIBRARY = "lib/armv8/libpaddle_light_api_shared.so"
SHIM = "lib/armv8/libedge_ocr_lite.so"
FILES = {
    "dict.txt": "a\n字\n \n".encode(),
    "models/det.nb": b"det",
    "models/rec.nb": b"rec",
    "onnx/det.onnx": b"onnx det",
    "onnx/rec.onnx": b"onnx rec",
    LIBRARY: b"\x7fELF built from v2.13-rc1\0v2.13-rc\0abc1234",
    SHIM: b"\x7fELF",
}


def describe_bundle() -> dict[str, Any]:
    """A manifest as `converters.bundle.manifest` makes it, of `FILES`."""
    return {
        "schema_version": 3,
        "edge_ocr_version": "0.1.0",
        "target": "arm",
        "precision": "fp32",
        "lite": {
            "runtime_version": "v2.13-rc",
            "libraries": {
                "armv8": {"file": LIBRARY, "version": "v2.13-rc", "version_matches": True, "shim": SHIM},
                "armv7hf": {"file": None, "url": "https://example.com"},
            },
        },
        "charset": {"file": "dict.txt", "classes": 4},
        "models": {kind: {"file": f"models/{kind}.nb"} for kind in ("det", "rec")},
        "onnx": {kind: {"file": f"onnx/{kind}.onnx"} for kind in ("det", "rec")},
        "settings": describe_settings(CONFIG),
        "golden": {
            "image": "golden.png",
            "lines": [{"polygon": [[0, 0]] * 4, "det_score": 1, "text": "a", "rec_score": 0.5}],
        },
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)} for name, data in FILES.items()
        },
    }


@pytest.fixture
def write_bundle(tmp_path) -> Callable[..., Path]:
    """Write a bundle whose manifest was changed by `edit`."""

    def write(edit: Callable[[Any], object] = lambda manifest: None) -> Path:
        for name, data in FILES.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
        manifest = describe_bundle()
        edit(manifest)
        (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        return tmp_path

    return write


def set_value(path: str, value: object) -> Callable[[Any], None]:
    def edit(manifest: Any) -> None:
        *parents, last = path.split(".")
        for name in parents:
            manifest = manifest[name]
        manifest[last] = value

    return edit


def remove(path: str) -> Callable[[Any], None]:
    def edit(manifest: Any) -> None:
        *parents, last = path.split(".")
        for name in parents:
            manifest = manifest[name]
        del manifest[last]

    return edit


def test_a_bundle_is_read(write_bundle):
    bundle = open_bundle(write_bundle())
    assert (bundle.detection, bundle.recognition, bundle.orientation) == (
        CONFIG.detection,
        CONFIG.recognition,
        CONFIG.orientation,
    )
    assert bundle.kinds == ("det", "rec")
    assert bundle.runtime_version == "v2.13-rc"
    assert bundle.read_charset().classes == ("", "a", "字", " ")
    assert bundle.find_model("det", "paddle_lite").name == "det.nb"
    assert bundle.find_model("rec", "onnxruntime").name == "rec.onnx"
    assert bundle.check_files() == len(FILES)


def test_a_dictionary_with_empty_lines_and_repeats_is_read(write_bundle, monkeypatch):
    monkeypatch.setitem(FILES, "dict.txt", "a\n\n字\na\n\n\n".encode())
    bundle = open_bundle(write_bundle(set_value("charset.classes", 7)))
    assert bundle.read_charset().classes == ("", "a", "", "字", "a", "", "")


@pytest.mark.parametrize("path", ["onnx", "golden", "lite.libraries.armv8.shim", "lite.libraries.armv8.version"])
def test_keys_that_older_bundles_lack_are_optional(write_bundle, path):
    assert open_bundle(write_bundle(remove(path))).kinds == ("det", "rec")
    assert open_bundle(write_bundle(set_value(path, None))).kinds == ("det", "rec")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "manifest.json: No such file or directory"),
        (b"", r"manifest\.json .*JSON"),
        (b'{"schema_version": 1', r"manifest\.json .*JSON"),
        (b"\xff\xfe", r"manifest\.json .*JSON"),
        (b"[" * 100_000, r"manifest\.json .*JSON"),
        (b"[]", r"manifest\.json .* \[\]"),
        (b"{}", r"manifest\.json .*schema_version"),
        # Such as that of an Android app.
        (b'{"name": "app", "start_url": "/"}', r"manifest\.json .*schema_version"),
        (b'{"schema_version": "1", "target": "arm"}', r'manifest\.json .*schema_version is "1"'),
        (b'{"schema_version": 4, "target": "arm"}', "schema_version 4, .*3$"),
        (b'{"schema_version": 1, "target": "arm"}', "schema_version 1, .*3$"),
        (b'{"schema_version": 3, "target": "android"}', "android, expected arm"),
        (b'{"schema_version": 3, "target": "arm"}', r"manifest\.json .*edge_ocr_version"),
    ],
    ids=lambda value: value[:40].decode(errors="replace") if isinstance(value, bytes) else "",
)
def test_an_invalid_manifest_is_refused(tmp_path, content, words):
    if content is not None:
        (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ModelError, match=words):
        open_bundle(tmp_path)


def test_a_file_is_not_a_bundle(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelError, match=r"file .*manifest\.json: Not a directory"):
        open_bundle(tmp_path / "file")


REQUIRED = [
    "edge_ocr_version",
    "precision",
    "lite.runtime_version",
    "lite.libraries",
    "charset.file",
    "charset.classes",
    "models.det",
    "models.rec.file",
    "onnx.det.file",
    "settings.detection.limit_side_len",
    "settings.detection.mean",
    "settings.recognition.text_score",
    "settings.recognition.direction",
    "settings.orientation",
    "golden.lines",
]


@pytest.mark.parametrize("path", REQUIRED)
def test_a_key_that_is_missing_is_named(write_bundle, path):
    with pytest.raises(ModelError, match=rf"manifest\.json .*: {path} is missing") as caught:
        open_bundle(write_bundle(remove(path)))
    assert caught.value.hint == "copy the bundle again"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("lite", [], r"lite is \[\]"),
        ("lite.libraries", None, "lite.libraries is null"),
        ("lite.libraries.armv8", "x", 'lite.libraries.armv8 is "x"'),
        ("lite.libraries.armv8.file", 1, "lite.libraries.armv8.file is 1"),
        ("charset.classes", "4", 'charset.classes is "4"'),
        ("models.cls", {}, "models.cls.file is missing"),
        ("onnx", "yes", 'onnx is "yes"'),
        ("onnx", {}, "onnx.det is missing"),
        ("settings.detection.limit_side_len", 960.5, "settings.detection.limit_side_len is 960.5"),
        ("settings.detection.limit_type", 1, "settings.detection.limit_type is 1"),
        ("settings.detection.bin_threshold", "0.3", 'settings.detection.bin_threshold is "0.3"'),
        ("settings.detection.mean", 0.5, "settings.detection.mean is 0.5"),
        ("settings.detection.std", [1, None, 1], r"settings.detection.std\[1\] is null"),
        ("golden", [], r"golden is \[\]"),
        ("golden.lines", [{"text": "a"}], r"golden.lines\[0\].polygon is missing"),
        ("files", [], r"files is \[\]"),
        ("settings.detection.limit_type", "foo", "settings.detection.limit_type is 'foo'"),
        ("settings.recognition.direction", "up", "settings.recognition.direction is 'up'"),
        ("settings.detection.std", [], "settings.detection.std has 0 numbers, expected 3"),
        ("lite.libraries.armv8.min_glibc", 2.17, "lite.libraries.armv8.min_glibc is 2.17"),
        ("models.cls", {"file": "cls.nb"}, "onnx has no cls"),
        *(
            ("files", {name: {"sha256": "x", "size_bytes": 1}}, "the file .*")
            for name in ("../a", "/etc/passwd", "a/../../b", "a\\b", "a\0b")
        ),
        ("files", {"a": {"sha256": "x"}}, "files.a.size_bytes is missing"),
    ],
)
def test_a_value_of_another_type_is_named(write_bundle, path, value, words):
    with pytest.raises(ModelError, match=rf"manifest\.json .*: {words}$"):
        open_bundle(write_bundle(set_value(path, value)))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), r"rec\.nb cannot be read: No such file or directory"),
        (lambda path: path.write_bytes(b"re"), r"rec\.nb has 2 bytes, expected 3"),
        (lambda path: path.write_bytes(b"rex"), r"rec\.nb .*sha256"),
        (lambda path: (path.unlink(), path.mkdir()), r"rec\.nb (has \d+ bytes, expected 3|cannot be read)"),
    ],
    ids=["missing", "short", "changed", "a folder"],
)
def test_a_damaged_file_is_refused(write_bundle, damage, words):
    folder = write_bundle()
    damage(folder / "models" / "rec.nb")
    bundle = open_bundle(folder)
    for check in (bundle.check_files, lambda: bundle.find_model("rec", "paddle_lite")):
        with pytest.raises(ModelError, match=words) as caught:
            check()
        assert caught.value.hint == "copy the bundle again"
    assert bundle.find_model("det", "paddle_lite").read_bytes() == b"det"


def test_an_unlisted_file_is_refused(write_bundle):
    def edit(manifest: Any) -> None:
        del manifest["files"]["models/det.nb"]

    with pytest.raises(ModelError, match=r"models/det\.nb .*manifest"):
        open_bundle(write_bundle(edit)).find_model("det", "paddle_lite")


@pytest.mark.parametrize("classes", [3, 5])
def test_a_dictionary_of_another_length_is_refused(write_bundle, classes):
    with pytest.raises(ModelError, match=rf"dict\.txt .*4 classes, expected {classes}"):
        open_bundle(write_bundle(set_value("charset.classes", classes))).read_charset()


@pytest.mark.parametrize(
    ("content", "classes", "words"),
    [
        ("a\n字\n".encode("utf-16"), 3, r"dict\.txt .*UTF-8: invalid start byte"),
        (b"a\nb\nc", 3, r"dict\.txt: .*last line"),
        # As the host counts them: a carriage return ends no line.
        (b"a\rb\n", 3, r"dict\.txt .*2 classes, expected 3"),
    ],
)
def test_a_dictionary_that_the_host_would_not_read_is_refused(write_bundle, monkeypatch, content, classes, words):
    monkeypatch.setitem(FILES, "dict.txt", content)
    with pytest.raises(ModelError, match=words):
        open_bundle(write_bundle(set_value("charset.classes", classes))).read_charset()


def test_a_carriage_return_in_a_dictionary_is_a_character(write_bundle, monkeypatch):
    monkeypatch.setitem(FILES, "dict.txt", b"a\n\r\nb\r\n")
    bundle = open_bundle(write_bundle(set_value("charset.classes", 4)))
    assert bundle.read_charset().classes == ("", "a", "\r", "b\r")


def test_an_impossible_file_name_is_refused(write_bundle):
    def edit(manifest: Any) -> None:
        manifest["files"]["\ud800"] = manifest["files"]["dict.txt"]

    with pytest.raises(ModelError, match="surrogates not allowed"):
        open_bundle(write_bundle(edit)).check_files()


@pytest.mark.parametrize("version", ["2.x", "2.", "", "٢", "9" * 5000])
def test_an_invalid_glibc_version_is_refused(write_bundle, monkeypatch, version):
    monkeypatch.setattr(module, "find_abi", lambda: "armv8")
    folder = write_bundle(set_value("lite.libraries.armv8.min_glibc", version))
    if version == "":
        assert open_bundle(folder).explain_engines()
        return
    with pytest.raises(ModelError, match=r"lite\.libraries\.armv8\.min_glibc is "):
        open_bundle(folder)


def test_an_impossible_runtime_version_is_refused(write_bundle):
    for version in ("v2.13 rc", "\ud800", ""):
        with pytest.raises(ModelError, match=r"lite\.runtime_version is '"):
            open_bundle(write_bundle(set_value("lite.runtime_version", version)))


@pytest.mark.parametrize(
    "place",
    ["lite.libraries.armv8.min_glibc", "lite.runtime_version", "settings.detection.limit_type", "target"],
)
def test_a_long_value_makes_no_long_message(write_bundle, place):
    with pytest.raises(ModelError) as caught:
        open_bundle(write_bundle(set_value(place, "x" * 5000)))
    assert "xxx" in caught.value.message
    assert len(caught.value.message) < 800


# --- what runs here

ON_ARM64 = ("aarch64", 2**63 - 1, "aarch64-linux-gnu")


@pytest.mark.parametrize(
    ("machine", "largest", "multiarch", "abi"),
    [
        (*ON_ARM64, "armv8"),
        ("arm64", 2**63 - 1, None, "armv8"),
        ("AARCH64", 2**63 - 1, "", "armv8"),
        # A 32-bit system on a 64-bit kernel.
        ("aarch64", 2**31 - 1, "arm-linux-gnueabihf", "armv7hf"),
        ("armv8l", 2**31 - 1, "arm-linux-gnueabihf", "armv7hf"),
        ("armv7l", 2**31 - 1, "arm-linux-gnueabihf", "armv7hf"),
        ("armv7l", 2**31 - 1, None, "armv7hf"),
        # Floats are passed in other registers.
        ("armv7l", 2**31 - 1, "arm-linux-gnueabi", None),
        ("aarch64", 2**31 - 1, "arm-linux-gnueabi", None),
        # The first Raspberry Pi.
        ("armv6l", 2**31 - 1, "arm-linux-gnueabihf", None),
        ("x86_64", 2**63 - 1, "x86_64-linux-gnu", None),
        ("x86_64", 2**31 - 1, "i386-linux-gnu", None),
        ("riscv64", 2**63 - 1, "riscv64-linux-gnu", None),
        ("", 2**63 - 1, None, None),
    ],
)
def test_the_abi_is_that_of_the_interpreter(machine, largest, multiarch, abi):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(platform, "machine", lambda: machine)
        patch.setattr(sys, "maxsize", largest)
        patch.setattr(sysconfig, "get_config_var", {"MULTIARCH": multiarch}.get)
        found = find_abi()
    assert found == abi


def with_onnxruntime(monkeypatch, is_there: bool) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: object() if is_there else None)


@pytest.mark.parametrize(
    ("abi", "edit", "words"),
    [
        ("armv8", set_value("precision", "int8"), None),
        (None, set_value("precision", "int8"), ".*armv8, armv7hf, .* 64-bit Python"),
        ("armv7hf", set_value("precision", "int8"), ".* armv7hf"),
        ("armv7hf", remove("lite.libraries.armv7hf"), ".*armv8, .* armv7hf"),
        ("armv8", set_value("lite.libraries.armv8.file", None), ".* armv8"),
        (
            "armv8",
            lambda manifest: manifest["lite"]["libraries"]["armv8"].update(version="v2.12", version_matches=False),
            r".*v2\.12, .* v2\.13-rc",
        ),
        (
            "armv8",
            set_value("lite.libraries.armv8.shim", None),
            r"libedge_ocr_lite\.so .*\./install\.sh\)",
        ),
    ],
)
def test_the_reason_why_paddle_lite_cannot_be_used_is_reported(write_bundle, monkeypatch, abi, edit, words):
    monkeypatch.setattr(module, "find_abi", lambda: abi)
    with_onnxruntime(monkeypatch, True)
    bundle = open_bundle(write_bundle(edit))
    reason = bundle.explain_engines()["paddle_lite"]
    if words is None:
        assert reason is None
        assert bundle.choose_engine("auto") == bundle.choose_engine("paddle_lite") == "paddle_lite"
        return
    assert reason is not None
    with pytest.raises(ToolchainError, match=f": paddle_lite: {words}$"):
        bundle.choose_engine("paddle_lite")
    # The other one still runs it.
    assert bundle.choose_engine("auto") == "onnxruntime"


@pytest.mark.parametrize(
    ("edit", "is_there", "words"),
    [
        (set_value("onnx", None), True, "the bundle has no ONNX graphs"),
        (set_value("precision", "int8"), False, f"onnxruntime is not installed for {sys.executable}"),
    ],
)
def test_all_reasons_are_reported_if_nothing_runs(write_bundle, monkeypatch, edit, is_there, words):
    monkeypatch.setattr(module, "find_abi", lambda: None)
    with_onnxruntime(monkeypatch, is_there)
    bundle = open_bundle(write_bundle(edit))
    assert bundle.explain_engines()["onnxruntime"] == words
    with pytest.raises(ToolchainError, match=f"paddle_lite: .*; onnxruntime: {words}") as caught:
        bundle.choose_engine("auto")
    assert "--with-onnx" in (caught.value.hint or "")


def test_a_shim_that_was_built_on_the_board_comes_first(write_bundle, monkeypatch):
    monkeypatch.setattr(module, "find_abi", lambda: "armv8")
    folder = write_bundle(set_value("lite.libraries.armv8.shim", None))
    bundle = open_bundle(folder)
    assert bundle.find_shim("armv8") is None
    built = folder / ".installed" / "lib" / "armv8" / "libedge_ocr_lite.so"
    built.parent.mkdir(parents=True)
    built.write_bytes(b"\x7fELF built")
    assert bundle.find_shim("armv8") == built
    assert bundle.explain_engines()["paddle_lite"] is None
    shutil.rmtree(folder / ".installed")
    assert open_bundle(write_bundle()).find_shim("armv8") == folder / SHIM


@pytest.mark.parametrize(
    ("content", "is_taken"),
    [
        (FILES[LIBRARY], True),
        (b"\x7fELF\0v2.12\0abc1234", False),
        (b"\x7fELF\0v2.13-rc1\0abc1234", False),
        (b"\x7fELF\0v2.13\0abc1234", False),
        (b"\x7fELF", False),
    ],
)
def test_a_library_of_another_version_is_refused_by_its_bytes(write_bundle, content, is_taken):
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    folder = write_bundle(lambda manifest: manifest["files"].update({LIBRARY: entry}))
    (folder / LIBRARY).write_bytes(content)
    bundle = open_bundle(folder)
    if is_taken:
        assert bundle.find_library("armv8") == folder / LIBRARY
        return
    with pytest.raises(ModelError, match=r"not Paddle-Lite v2\.13-rc"):
        bundle.find_library("armv8")


def test_a_machine_is_described_in_plain_values(write_bundle, monkeypatch):
    monkeypatch.setattr(module, "find_abi", lambda: "armv8")
    monkeypatch.setattr(module, "read_processor", lambda: parse_processor(cpuinfo.RK3588))
    described = describe_machine(open_bundle(write_bundle()))
    assert json.loads(json.dumps(described)) == described
    assert list(described) == [
        *("bundle", "edge_ocr_version", "precision", "abi", "python", "glibc"),
        *("processor", "modules", "engines", "trust"),
    ]
    assert described["abi"] == "armv8"
    assert described["processor"]["cores"] == {"Cortex-A55": 4, "Cortex-A76": 4}
    assert described["modules"].keys() == {"numpy", "cv2", "pyclipper", "onnxruntime"}
    assert described["engines"]["paddle_lite"] is None


# --- the code in a bundle


@pytest.fixture(scope="module")
def runtime(tmp_path_factory) -> Path:
    """The files that go into a bundle, as a package there."""
    folder = tmp_path_factory.mktemp("bundle") / "runtime"
    for path in iterate_files(CORE):
        place = folder / "edge_ocr_lite" / path.relative_to(CORE)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    return folder


def run_runtime(runtime: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Modules of this repository cannot be found.
    env = {**os.environ, "PYTHONPATH": str(runtime), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, env=env, cwd=runtime, capture_output=True, text=True, check=False)


# Also if argparse ends the process.
START = """
import atexit, runpy, sys
atexit.register(lambda: print(sorted({"numpy", "cv2", "pyclipper", "edge_ocr"} & set(sys.modules))))
sys.argv[0] = "edge-ocr-lite"
runpy.run_module("edge_ocr_lite", run_name="__main__")
"""


@pytest.mark.parametrize("command", ["", "predict", "bench", "selftest", "camera", "info"])
def test_help_imports_neither_numpy_nor_opencv(runtime, command):
    done = run_runtime(runtime, START, *filter(None, [command, "--help"]))
    assert done.stdout.startswith(f"usage: {f'edge-ocr-lite {command}'.strip()} ")
    assert done.stdout.endswith("\n[]\n")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_check_sees_what_is_imported(runtime):
    # Without this, the test above would pass whatever --help imports.
    assert run_runtime(runtime, f"import cv2\n{START}", "--help").stdout.endswith("['cv2', 'numpy']\n")


def test_every_module_of_the_runtime_can_be_imported(runtime):
    names = [path.relative_to(runtime).with_suffix("").parts for path in (runtime / "edge_ocr_lite").rglob("*.py")]
    modules = sorted(".".join(parts) for parts in names if parts[-1] not in ("__init__", "__main__"))
    assert len(modules) > 20
    done = run_runtime(runtime, f"import sys, {', '.join(modules)}; print('edge_ocr' in sys.modules)")
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_the_runtime_is_small_and_has_the_shims_sources(runtime):
    package = runtime / "edge_ocr_lite"
    assert sum(path.stat().st_size for path in package.rglob("*.py")) <= 217_500
    others = sorted(path.name for path in package.rglob("*") if path.is_file() and path.suffix != ".py")
    assert others == ["edge_ocr_lite.cpp", "edge_ocr_lite.h"]


def test_code_outside_a_bundle_says_so(runtime):
    with pytest.raises(ModelError, match=r"manifest\.json") as caught:
        find_own_bundle()
    assert "--bundle" in caught.value.hint
    done = run_runtime(runtime, START, "info")
    assert done.returncode == ModelError.exit_code
    assert done.stderr.startswith(f"Error: {runtime.parent} is not a bundle")
