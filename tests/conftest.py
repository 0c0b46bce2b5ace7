"""Shared by all tests: pipelines that are built once, and the comparison of readings with labels."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import pwd
import re
import shutil
import signal
import socket
import subprocess
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from converters.export import export_bundle
from converters.lite.toolchain import LITE_VERSION, OptToolchain, find_opt_interpreter, find_wheel
from converters.plan import ExportOptions, ExportReport
from converters.processes.interpreters import describe_interpreter, list_interpreters
from converters.sources.pir import TOOL, Paddle2Onnx, find_paddle2onnx
from edge_ocr import OcrPipeline, OcrResult, create_pipeline
from edge_ocr.config import load_config
from edge_ocr.errors import ToolchainError
from edge_ocr.models import store as model_store
from edge_ocr.models.resolve import locate_model
from edge_ocr.models.store import store_root
from edge_ocr.models.types import PADDLE_CARRIER

# A second process fits if this much memory is available.
BYTES_FOR_TWO = 12 * 2**30

DEFAULT_MODELS = ("PP-OCRv4_mobile_det", "PP-OCRv4_mobile_rec", "ch_ppocr_mobile_v2_cls")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole suite in two processes, file by file, if there is room and neither `-n` nor `--pdb` is given."""
    option = config.option
    if not config.pluginmanager.hasplugin("xdist") or "PYTEST_XDIST_WORKER" in os.environ:
        return
    if config.args != ["tests"] or option.numprocesses is not None or option.usepdb or option.collectonly:
        return
    memory = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text(encoding="utf-8"))
    if len(os.sched_getaffinity(0)) > 1 and memory is not None and int(memory[1]) * 1024 >= BYTES_FOR_TWO:
        option.numprocesses, option.dist = 2, "loadfile"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests recorded as `figures`."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    for report in reports:
        if getattr(report, "when", None) == "call":
            for figures in [value for name, value in report.user_properties if name == "figures"]:
                terminalreporter.write_line(figures)


@pytest.fixture
def hangups() -> Iterator[None]:
    """Let programs that a test starts receive SIGHUP, even if nohup started the tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def mount_small_disk(tmp_path) -> Iterator[Callable[[str], Path]]:
    """Mount a file system of a size such as `64k`; skips if that is not allowed."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        folder = tmp_path / f"disk of {size}"
        folder.mkdir()
        try:
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
            )
        except OSError:
            done = None
        if done is None or done.returncode != 0:
            pytest.skip("mount: a file system cannot be mounted here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).parent.parent


def _starts(python: Path) -> bool:
    with contextlib.suppress(ToolchainError):
        return bool(describe_interpreter(python))
    return False


@pytest.fixture(scope="session")
def opt() -> OptToolchain:
    """The real opt tool; skips if this machine has no Python for its wheels, and none can be fetched."""
    if platform.machine() != "x86_64":
        pytest.skip("no opt: paddlelite has no wheel for this machine")
    try:
        return find_opt_interpreter()
    except ToolchainError:
        if any(map(_starts, list_interpreters(find_wheel(LITE_VERSION)))):
            raise
        pytest.skip("no opt: this machine has no Python 3.8 to 3.10, and uv could not fetch one")


@pytest.fixture(scope="session")
def paddle2onnx() -> Paddle2Onnx:
    """The real paddle2onnx; skips as `opt` does."""
    if (platform.system(), platform.machine()) not in TOOL.platforms:
        pytest.skip("no paddle2onnx: it has no wheel for this machine")
    try:
        return find_paddle2onnx()
    except ToolchainError:
        if any(map(_starts, list_interpreters(TOOL))):
            raise
        pytest.skip(f"no paddle2onnx: this machine has no {TOOL.pythons}, and uv could not fetch one")


@pytest.fixture(scope="session")
def examples(repository) -> Path:
    return repository / "examples" / "images"


@pytest.fixture(scope="session")
def default_models(tmp_path_factory):
    """Skips if the default models are not on this machine; tests download nothing."""
    with pytest.MonkeyPatch.context() as patch:
        if model_store.find_carrier(PADDLE_CARRIER) is not None:
            # The user's own store must not affect the tests.
            patch.setenv("EDGE_OCR_HOME", str(tmp_path_factory.mktemp("home")))
        found = {name: locate_model(name) for name in DEFAULT_MODELS}
        missing = [name for name, model in found.items() if model is None]
        if missing:
            pytest.skip(f"models not on this machine: {', '.join(missing)}")
        return found


@pytest.fixture(scope="session")
def open_pipeline(default_models, tmp_path_factory) -> Callable[..., OcrPipeline]:
    """Build a pipeline, or return the one that was built with the same arguments."""
    built: dict[str, OcrPipeline] = {}

    def build(engine: str = "openvino", **overrides: Any) -> OcrPipeline:
        # Keywords cannot contain dots: Detection__thresh is Detection.thresh.
        paths = {name.replace("__", "."): value for name, value in overrides.items()}
        key = json.dumps([engine, paths], sort_keys=True)
        if key not in built:
            with pytest.MonkeyPatch.context() as patch:
                if model_store.find_carrier(PADDLE_CARRIER) is not None:
                    patch.setenv("EDGE_OCR_HOME", str(tmp_path_factory.mktemp("home")))
                built[key] = create_pipeline(engine=engine, overrides=paths)
        return built[key]

    return build


@pytest.fixture(scope="session")
def read_example(open_pipeline, examples) -> Callable[..., OcrResult]:
    """Read a picture of `examples/images`, once for each set of arguments."""
    read: dict[str, OcrResult] = {}

    def read_picture(picture: str, engine: str = "openvino", **overrides: Any) -> OcrResult:
        key = json.dumps([picture, engine, overrides], sort_keys=True)
        if key not in read:
            (read[key],) = open_pipeline(engine, **overrides).predict(examples / picture)
        return read[key]

    return read_picture


@pytest.fixture(scope="session")
def make_mixed_pdf() -> Callable[[Path, Path], Path]:
    """Write a PDF of three pages with a picture each, the second of them larger than the limit."""
    pytest.importorskip("pypdfium2")

    def make(path: Path, picture: Path) -> Path:
        page = Image.open(picture).convert("RGB")
        pages = [page.resize((page.width, page.height + index)) for index in range(3)]
        pages[0].save(path, "PDF", save_all=True, append_images=pages[1:], resolution=144)
        boxes = list(re.finditer(rb"/MediaBox \[[^]]*\]", path.read_bytes()))
        assert len(boxes) == 3
        content = path.read_bytes()
        # The length is unchanged, so nothing moves.
        large = b"/MediaBox [0 0 14400 14400".ljust(len(boxes[1][0]) - 1) + b"]"
        path.write_bytes(content[: boxes[1].start()] + large + content[boxes[1].end() :])
        return path

    return make


@pytest.fixture(scope="session")
def make_home(default_models, tmp_path_factory) -> Callable[[], Path]:
    """Make a store with the models and tools of this machine's store, but without libraries."""
    # Shared: 30 MB, which some 200 tests would compile and store again.
    compiled = tmp_path_factory.mktemp("compiled")

    def make() -> Path:
        home = tmp_path_factory.mktemp("home")
        for area in ("models", "opt", "paddle2onnx", "quantise"):
            (store_root() / area).mkdir(parents=True, exist_ok=True)
            (home / area).symlink_to(store_root().absolute() / area, target_is_directory=True)
        (home / "compiled").symlink_to(compiled, target_is_directory=True)
        return home

    return make


@pytest.fixture(scope="session")
def export(opt, make_home, tmp_path_factory) -> Callable[..., ExportReport]:
    """Export the default models, or return the bundle that was made with the same arguments; do not change it."""
    home = make_home()

    @functools.cache
    def make(target: str = "arm", *, with_cls: bool = False, **options: object) -> ExportReport:
        config = load_config("OCR", {"Pipeline.use_text_line_orientation": with_cls})
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EDGE_OCR_HOME", str(home))
            patch.delenv("EDGE_OCR_LITE_LIB", raising=False)
            out = tmp_path_factory.mktemp("export") / "bundle"
            # Tests of verification request it; it would cost the others a second each.
            return export_bundle(target, out, config, ExportOptions(**{"verify": False, **options}))

    return make


@pytest.fixture(scope="session")
def board_bundle(export) -> Path:
    """A bundle without a Paddle-Lite library, with graphs for ONNX Runtime and the classifier; do not change it."""
    return export(with_cls=True, with_onnx=True).out_dir


@pytest.fixture
def edit_bundle(board_bundle, tmp_path) -> Callable[[Callable[[Any], object]], Path]:
    """Return a copy of it whose manifest was edited; other files are hard links: replace, never write."""

    def copy(edit: Callable[[Any], object]) -> Path:
        folder = tmp_path / "edited"
        shutil.copytree(board_bundle, folder, copy_function=os.link)
        manifest = json.loads((folder / "manifest.json").read_bytes())
        edit(manifest)
        (folder / "manifest.json").unlink()
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        return folder

    return copy


@dataclass(frozen=True)
class Match:
    """How a result matches its labels."""

    wanted: int
    """Labelled lines that count."""
    found: int
    """How many of these a box matches at IoU 0.5."""
    exact: int
    """How many of these are read exactly (NFKC-folded, lower-case, without spaces)."""
    spurious: int
    """Boxes that match no label."""


class Judge:
    """Compares results with labels by the rules of the shared `score.py`."""

    @staticmethod
    def fold(text: str) -> str:
        return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if not c.isspace())

    @staticmethod
    def measure_iou(a: Any, b: Any) -> float:
        hulls = [cv2.convexHull(np.array(polygon, dtype=np.float32)) for polygon in (a, b)]
        shared = cv2.intersectConvexConvex(*hulls)[0]
        union = sum(map(cv2.contourArea, hulls)) - shared
        return float(shared / union) if union else 0.0

    def match(self, words: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> Match:
        taken: set[int] = set()
        wanted = found = exact = 0
        for word in words:
            overlaps = {
                i: self.measure_iou(word["poly"], polygon)
                for i, polygon in enumerate(result["dt_polys"])
                if i not in taken
            }
            best = max(overlaps, key=overlaps.__getitem__, default=None)
            hit = best is not None and overlaps[best] >= 0.5
            if hit:
                taken.add(best)
            if word.get("ignore"):
                continue
            wanted += 1
            found += hit
            exact += hit and self.fold(word["text"]) == self.fold(result["rec_text"][best])
        return Match(wanted, found, exact, len(result["dt_polys"]) - len(taken))

    def count_texts(self, words: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> int:
        """How many of the texts occur anywhere in the reading."""
        whole = "".join(map(self.fold, result["rec_text"]))
        return sum(self.fold(word["text"]) in whole for word in words)

    @staticmethod
    def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
        """Assert that two results have the same texts in the same order; return the largest distance of corners."""
        assert a["rec_text"] == b["rec_text"]
        if not a["dt_polys"]:
            return 0.0
        return float(np.abs(np.array(a["dt_polys"]) - np.array(b["dt_polys"])).max())


@pytest.fixture(scope="session")
def judge() -> Judge:
    return Judge()


def read_labels(folder: Path) -> dict[str, dict[str, Any]]:
    rows = map(json.loads, (folder / "gt.jsonl").read_text(encoding="utf-8").splitlines())
    return {row["image"]: row for row in rows}


@pytest.fixture(scope="session")
def example_labels(examples) -> dict[str, dict[str, Any]]:
    return read_labels(examples)


@pytest.fixture(scope="session")
def write_recognizer() -> Callable[..., Path]:
    """Write a folder with an ONNX recogniser that reads each dark place of a line as a class of its own."""

    def write(
        folder: Path,
        *,
        classes: int,
        dark_class: int = 1,
        height: int | str = 32,
        width: int | str = "W",
        dictionary: str | bytes | None = None,
    ) -> Path:
        folder.mkdir(parents=True)
        rows = height if isinstance(height, int) else 32
        # Means of 8 columns, of which white is 1 and black -1, with the opposite sign.
        kernel = np.full((4, 3, rows, 8), -1 / (3 * rows * 8), np.float32)
        weight, bias = np.zeros((4, classes), np.float32), np.full(classes, -50, np.float32)
        weight[:, dark_class], bias[dark_class], bias[0] = 5, 16, 0
        nodes = [
            helper.make_node("Conv", ["x", "kernel"], ["columns"], kernel_shape=[rows, 8], strides=[rows, 8]),
            helper.make_node("Squeeze", ["columns", "two"], ["squeezed"]),
            helper.make_node("Transpose", ["squeezed"], ["steps"], perm=[0, 2, 1]),
            helper.make_node("MatMul", ["steps", "weight"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["y"], axis=2),
        ]
        constants = {"kernel": kernel, "two": np.array([2], np.int64), "weight": weight, "bias": bias}
        graph = helper.make_graph(
            nodes,
            "recognizer",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, height, width])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "T", classes])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.save(model, folder / "inference.onnx")
        if dictionary is not None:
            data = dictionary.encode() if isinstance(dictionary, str) else dictionary
            (folder / "dict.txt").write_bytes(data)
        return folder

    return write


SSH_SERVER = "/usr/sbin/sshd"


class SshServer:
    """An OpenSSH server on this machine that only this test run can log in to."""

    def __init__(self, folder: Path, programs: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
        for tool in ("ssh", "ssh-keygen", SSH_SERVER):
            if shutil.which(tool) is None:
                pytest.skip(f"{tool} is not installed (apt install openssh-client openssh-server)")
        self.folder = folder
        self.root = folder / "a folder's root"
        self.home = folder / "home"
        self.path = folder / "server-bin"
        bin_folder = folder / "bin"
        for made in (self.root, self.home, self.path, bin_folder):
            made.mkdir()
        for name in ("host", "user", "other"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        shutil.copy(folder / "user.pub", folder / "authorized_keys")
        for name in programs:
            (self.path / name).symlink_to(shutil.which(name) or pytest.skip(f"{name} is not installed"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nAuthorizedKeysFile {folder / 'authorized_keys'}\n"
            "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"PermitRootLogin prohibit-password\nSetEnv PATH={self.path} HOME={self.home}\n",
            encoding="utf-8",
        )
        self.know(self.folder / "host.pub")
        self.use_key("user")
        # ssh looks for its files in the home of the password entry, so they must be named.
        ssh = bin_folder / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F "{folder}/ssh_config" "$@"\n', encoding="utf-8")
        ssh.chmod(0o755)
        monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        command = [SSH_SERVER, "-D", "-e", "-f", folder / "sshd_config", "-p", str(self.port)]
        with (folder / "sshd.log").open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log)
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        pytest.fail((folder / "sshd.log").read_text(encoding="utf-8"))

    @property
    def login(self) -> str:
        return f"{pwd.getpwuid(os.geteuid()).pw_name}@127.0.0.1"

    @property
    def runner(self) -> str:
        return f"ssh://{self.login}:{self.port}{str(self.root).replace(' ', '%20')}"

    def know(self, public_key: Path) -> None:
        kind, key, _ = public_key.read_text(encoding="utf-8").split(maxsplit=2)
        line = f"[127.0.0.1]:{self.port} {kind} {key}\n"
        (self.folder / "known_hosts").write_text(line, encoding="utf-8")

    def use_key(self, name: str) -> None:
        (self.folder / "ssh_config").write_text(
            f'IdentityFile "{self.folder / name}"\nIdentitiesOnly yes\nIdentityAgent none\n'
            f'UserKnownHostsFile "{self.folder / "known_hosts"}"\nGlobalKnownHostsFile /dev/null\n',
            encoding="utf-8",
        )

    def put(self, name: str, script: str) -> None:
        """Let the server find a program of ours first."""
        (self.path / name).unlink(missing_ok=True)
        (self.path / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (self.path / name).chmod(0o755)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


@pytest.fixture
def start_ssh_server(tmp_path, monkeypatch) -> Iterator[Callable[[Sequence[str]], SshServer]]:
    """Start a server that finds only the named programs of this machine."""
    started: list[SshServer] = []

    def start(programs: Sequence[str]) -> SshServer:
        started.append(SshServer(tmp_path, programs, monkeypatch))
        return started[-1]

    yield start
    for server in started:
        server.close()
