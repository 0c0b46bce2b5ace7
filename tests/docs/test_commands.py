"""Every command and every Python block of the README and the docs works as written.

Each runs separately in a folder with what the pages name: photo.jpg (3 MB), scans/, my_model/, bundle/ and so on.
Commands that this machine cannot run are in `_PARSED`, with the reason, and are parsed by their program.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.main import get_command

from converters.export import export_bundle
from converters.plan import ExportOptions
from converters.signing import make_keys, make_signer
from edge_ocr.cli.app import make_app
from edge_ocr.config import find_config, load_config
from edge_ocr.core.commands import _parse as parse_board_command
from edge_ocr.models.resolve import locate_model

ROOT = Path(__file__).parents[2]
SERVICE = "http://127.0.0.1:8080"
ON_BOARD = ("sh install.sh", "sh uninstall.sh", "./edge-ocr-lite")

# --- the content of the pages

_BLOCK = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"""^((?:[^'"#]|'[^']*'|"[^"]*"|(?<=\S)#)*?)(?:(?:^|(?<=\s))#.*)?$""")

PAGES = [ROOT / "README.md", ROOT / "README.zh.md", *sorted(ROOT.glob("docs/**/*.md"))]
ENGLISH = [page for page in PAGES if not page.name.endswith(".zh.md")]


def list_blocks(page: Path, language: str) -> list[str]:
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, name, text in found if name == language]


def list_commands(page: Path) -> list[str]:
    """Return every line of the `sh` blocks of a page, without comments."""
    lines = [line for block in list_blocks(page, "sh") for line in block.splitlines()]
    assert not [line for line in lines if line.endswith("\\")]
    return [command for line in lines if (command := _COMMENT.match(line)[1].strip())]


def list_programs(page: Path) -> list[str]:
    """Return every `python` block of a page, without comments."""
    return [ast.unparse(ast.parse(block)) for block in list_blocks(page, "python")]


COMMANDS = list(dict.fromkeys(command for page in PAGES for command in list_commands(page)))
PROGRAMS = list(dict.fromkeys(program for page in PAGES for program in list_programs(page)))


# --- commands that are only parsed, and why


def parse_command(command: str) -> None:
    """Let Typer parse a command of `edge-ocr`, including values; raises if it does not know one."""
    parsed = get_command(make_app())
    _, *arguments = shlex.split(command)
    name = "edge-ocr"
    while hasattr(parsed, "commands"):
        name, *arguments = arguments
        parsed = parsed.commands[name]
    parsed.make_context(name, arguments)


def check_install(command: str) -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in re.findall(r"\.\[(\w+)\]", command):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE)
    assert re.search(r"pip install (\.|-e '\.\[dev\]'|'\.\[\w+\]')( |$)", command)


def check_packages(command: str) -> None:
    known = (ROOT / ".ci" / "run").read_text(encoding="utf-8").split()
    assert {name.strip('"') for name in known} >= set(command.split()[2:])


def check_adb(command: str) -> None:
    if "logcat" in command:
        assert f'"{command.split()[-1]}"' in "".join(map(_read, ROOT.glob("android_demo/**/*.kt")))
        return
    activity, action = re.search(r"-n \S+/(\S+) -a (\S+)", command).groups()
    assert activity in _read(ROOT / "android_demo/app/src/main/AndroidManifest.xml")
    assert action in _read(ROOT / "android_demo/app/src/main/AndroidManifest.xml")


def check_ray(command: str) -> None:
    _, script, *arguments = shlex.split(command)
    assert script in _read(ROOT / "tests/cli/test_ray_example.py")
    assert all(f'"{name}"' in _read(ROOT / script) for name in arguments if name.startswith("--"))


def check_ocrmypdf(command: str) -> None:
    assert "ocrmypdf --plugin examples/ocrmypdf_plugin.py --pdf-renderer sandwich" in command
    assert '"ocrmypdf_plugin.py"' in _read(ROOT / "tests/cli/test_ocrmypdf_example.py")


def check_docker(command: str) -> None:
    # A test of the Dockerfile follows its steps.
    assert command in _read(ROOT / "Dockerfile").splitlines()[0]


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def check_board_command(command: str) -> None:
    parse_board_command(shlex.split(command)[1:])


def check_workaround(command: str) -> None:
    known, by = re.match(r"sed s/(\w+)/(\w+)/ ", command).groups()
    assert f'text.replace("{known}", "{by}")' in _read(ROOT / "tests/unit/edge_ocr/core/test_processor.py")
    parse_board_command(re.search(r"exec \./edge-ocr-lite (.*)'$", command)[1].split())


_FETCHED = {
    r"edge-ocr .*(OCR-v6|predict .*--lang)": ("PP-OCRv6_small_det", "PP-OCRv6_small_rec"),
    r"edge-ocr predict .*--orientation (page|both)": ("PP-LCNet_x1_0_doc_ori",),
}
_PARSED: list[tuple[str, str, Callable[[str], None]]] = [
    (r".*pip install ", "installs this project; .ci/run does", check_install),
    (r"apt-get ", "installs packages; .ci/run does", check_packages),
    (r"adb ", "needs a phone", check_adb),
    (r"edge-ocr deploy .*--adb", "needs a Paddle-Lite library, and a phone", parse_command),
    (r"python examples/ray_batch.py ", "starts Ray; tests/cli/test_ray_example.py does", check_ray),
    (r"ocrmypdf ", "needs OCRmyPDF; tests/cli/test_ocrmypdf_example.py runs it", check_ocrmypdf),
    (r"docker ", "needs Docker", check_docker),
    (r"sed .*/proc/cpuinfo", "needs a Paddle-Lite library, and namespaces", check_workaround),
    (r"\./edge-ocr-lite camera", "needs a camera", check_board_command),
    (r"edge-ocr (libs fetch|models pull) ", "fetches from the internet", parse_command),
    (r"edge-ocr export .*--lang", "fetches a model of a language", parse_command),
    (r"edge-ocr libs (add|path) ", "needs a Paddle-Lite library", parse_command),
    (r"edge-ocr bench ", "needs a Paddle-Lite library", parse_command),
    (r"edge-ocr verify .*--runner (qemu|ssh)", "needs a Paddle-Lite library, or a board", parse_command),
]


def find_obstacle(command: str) -> tuple[str, Callable[[str], None]] | None:
    for pattern, reason, check in _PARSED:
        if re.match(pattern, command):
            return reason, check
    for pattern, models in _FETCHED.items():
        for name in models:
            if re.match(pattern, command) and locate_model(name) is None:
                return f"fetches {name}, which is not on this machine", parse_command
    return None


# --- where they run


@pytest.fixture(scope="module")
def home(opt, make_home) -> Path:
    return make_home()


@pytest.fixture(scope="module")
def environment(home, tmp_path_factory) -> dict[str, str]:
    programs = tmp_path_factory.mktemp("bin")
    for name, arguments in {"edge-ocr": "-m edge_ocr", "python": "", "python3": ""}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGE_OCR_")}
    return {
        **kept,
        "EDGE_OCR_HOME": str(home),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }


def make_photo(path: Path) -> None:
    """Write a JPEG of about 3 MB: the sign as a camera of some megapixels takes it, including noise."""
    picture = cv2.resize(cv2.imread(str(ROOT / "examples/images/sign.png")), None, fx=5, fy=5)
    noise = np.random.default_rng(0).normal(0, 9, picture.shape)
    picture = np.clip(picture + noise, 0, 255).astype(np.uint8)
    for quality in range(98, 50, -1):
        _, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if content.nbytes < 3.2e6:
            break
    assert content.nbytes > 2.6e6
    path.write_bytes(content.tobytes())


@pytest.fixture(scope="module")
def template(default_models, home, tmp_path_factory) -> Path:
    """A folder with everything that the pages name."""
    folder = tmp_path_factory.mktemp("docs")
    pictures = ROOT / "examples" / "images"
    make_photo(folder / "photo.jpg")
    shutil.copy(pictures / "sign.png", folder / "small.png")
    shutil.copy(pictures / "upside_down.png", folder / "page.png")
    shutil.copy(pictures / "upside_down.png", folder / "label.png")
    cv2.imwrite(str(folder / "page.jpg"), cv2.rotate(cv2.imread(str(pictures / "receipt.jpg")), cv2.ROTATE_180))
    for place in ("scans", "archive/2026/11"):
        (folder / place).mkdir(parents=True)
        shutil.copy(pictures / "sign.png", folder / place)
    shutil.copy(pictures / "label.png", folder / "scans")
    shutil.copy(pictures / "gt.jsonl", folder / "scans")
    (folder / "list.txt").write_text("photo.jpg\nscans/sign.png\n", encoding="utf-8")
    shutil.copytree(default_models["PP-OCRv4_mobile_rec"].program.parent, folder / "my_model")
    shutil.copy(find_config("OCR"), folder / "OCR.yaml")
    (folder / "examples").symlink_to(ROOT / "examples")
    make_keys(folder / "factory.key", folder / "factory.pub", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_OCR_HOME", str(home))
        patch.delenv("EDGE_OCR_LITE_LIB", raising=False)
        options = ExportOptions(
            precision="int8", with_onnx=True, verify=False, signer=make_signer(folder / "factory.key", "receipts", 1)
        )
        export_bundle("arm", folder / "bundle", load_config("OCR"), options)
        export_bundle("android", folder / "reader", load_config("OCR"), ExportOptions(precision="int8", verify=False))
    (folder / "trust").mkdir()
    shutil.copy(folder / "factory.pub", folder / "trust" / "factory.pem")
    shutil.copy(folder / "bundle/runtime/edge_ocr_lite/trust.py", folder / "trust")
    return folder


@pytest.fixture
def scratch(template, tmp_path) -> Path:
    """A copy of it; its files are hard links, so they are replaced, not written to."""
    return shutil.copytree(template, tmp_path / "docs", symlinks=True, copy_function=os.link)


@pytest.fixture(scope="module")
def start_service(environment, template) -> Iterator[Callable[[str], str]]:
    """Start `edge-ocr serve` with some options, on a free port; return its address."""
    started: list[subprocess.Popen[bytes]] = []

    @functools.cache
    def start(command: str) -> str:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command} --port 0"], env=environment, cwd=template, stderr=subprocess.PIPE
        )
        started.append(process)
        said = []
        for line in process.stderr:
            said.append(line.decode())
            if found := re.search(r"http://127\.0\.0\.1:[0-9]+", said[-1]):
                return found[0]
        pytest.fail("".join(said))

    yield start
    for process in started:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def run(command: list[str] | str, folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    shell = ["bash", "-e", "-o", "pipefail", "-c", command] if isinstance(command, str) else command
    done = subprocess.run(shell, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert "Traceback" not in done.stderr
    return done


def clear_outputs(command: str, folder: Path) -> None:
    """Remove what the command makes and refuses to replace."""
    if found := re.match(r"edge-ocr export .*--out (\S+)/", command):
        shutil.rmtree(folder / found[1], ignore_errors=True)
    elif found := re.match(r"edge-ocr keys new (\S+)", command):
        for file in folder.glob(f"{found[1]}.*"):
            file.unlink()
    elif found := re.search(r"--searchable-pdf (\S+)", command):
        (folder / found[1]).unlink(missing_ok=True)
    elif found := re.match(r"edge-ocr config get (\S+)", command):
        (folder / f"{found[1]}.yaml").unlink()


# --- the tests


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command, scratch, environment, start_service, record):
    if obstacle := find_obstacle(command):
        reason, check = obstacle
        check(command)
        record(reason)
        return
    if command.startswith("edge-ocr serve"):
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{start_service(command)}/health", timeout=30) as answer:
            assert answer.status == 200
        record("ran")
        return
    folder, wanted, outcome = scratch, command, "ran"
    if command.startswith(ON_BOARD):
        folder = scratch / "bundle"
        os.link(scratch / "photo.jpg", folder / "photo.jpg")
    elif command.startswith("curl "):
        wanted = command.replace("curl ", "curl -sS --noproxy '*' ", 1)
        wanted = wanted.replace(SERVICE, start_service("edge-ocr serve"))
    elif command.startswith("edge-ocr deploy ") and "--dry-run" not in command:
        wanted, outcome = f"{command} --dry-run", "needs a board: run with --dry-run"
    elif "/etc/edge-ocr/" in command:
        wanted = command.replace("/etc/edge-ocr/", f"{scratch}/")
    clear_outputs(command, scratch)
    done = run(wanted, folder, environment)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    if command.startswith("curl "):
        answer = json.loads(done.stdout)
        assert answer["errorCode"] == 0
        assert answer["result"]["texts"][0]["text"] == "山茶书店"
    record(outcome)


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_programs(program, scratch, environment, record):
    env = {**environment, "PYTHONPATH": f"{ROOT}:{scratch / 'bundle' / 'runtime'}"}
    done = run([sys.executable, "-c", program], scratch, env)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout or "print" not in program
    record("ran")


@pytest.mark.parametrize("page", ENGLISH, ids=lambda page: str(page.relative_to(ROOT)))
def test_chinese_page_has_the_same_commands(page):
    chinese = page.with_name(f"{page.stem}.zh.md")
    assert list_commands(chinese) == list_commands(page)
    assert list_programs(chinese) == list_programs(page)


def test_options_in_the_text_exist():
    known = {"--help", "--version", "--debug"}
    commands = [get_command(make_app())]
    while commands:
        command = commands.pop()
        commands += getattr(command, "commands", {}).values()
        known |= {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for place in ("edge_ocr/core/commands/__init__.py", "converters/bundle/board/install.sh"):
        known |= set(re.findall(r"--[a-z][a-z-]+", _read(ROOT / place)))
    known |= set(re.findall(r"--[a-z][a-z-]+", _read(ROOT / "examples/ray_batch.py")))
    unknown = {
        (str(page.relative_to(ROOT)), option)
        for page in PAGES
        for code in re.findall(r"`([^`\n]+)`", _BLOCK.sub("", _read(page)))
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", code)
        if option not in known
    }
    assert not unknown


def test_an_unknown_command_or_option_is_found():
    for wrong in ("edge-ocr predict photo.jpg --no-such-option", "edge-ocr verify", "edge-ocr nothing"):
        with pytest.raises(Exception, match=r"nothing|such|BUNDLE|[Mm]issing"):
            parse_command(wrong)
