"""Deployments without a server: a program called ssh runs the board's side in a folder of this machine."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from converters.bundle.ownership import SEAL
from converters.deploy import board as deploy_board
from converters.deploy import trust as deploy_trust
from converters.deploy.board import open_board
from converters.deploy.to_board import DeployOptions, DeployReport, _check_engines, deploy_bundle, plan_deployment
from converters.deploy.trust import check_board_trust, describe_reach, settle_trust
from converters.processes.ssh import SshAddress, explain_ssh, parse_place
from converters.signing import make_keys, read_private_key
from edge_ocr.errors import EdgeOcrError, ModelError, NotVerifiedError, ParityError, ToolchainError, UsageError

PROGRAMS = (
    "cat",
    "cp",
    "cut",
    "df",
    "grep",
    "ls",
    "mkdir",
    "mv",
    "readlink",
    "rm",
    "sed",
    "sleep",
    "sync",
    "tail",
    "tar",
    "uname",
)


# --- addresses


@pytest.mark.parametrize(
    ("place", "address"),
    [
        ("board", SshAddress(None, "board", None, "edge-ocr")),
        ("pi@board.local", SshAddress("pi", "board.local", None, "edge-ocr")),
        ("pi@board:", SshAddress("pi", "board", None, "edge-ocr")),
        ("pi@board:apps/my ocr/", SshAddress("pi", "board", None, "apps/my ocr")),
        ("pi@board:~/ocr", SshAddress("pi", "board", None, "ocr")),
        ("board:/opt/ocr", SshAddress(None, "board", None, "/opt/ocr")),
        ("board:../文字;'$(id)", SshAddress(None, "board", None, "../文字;'$(id)")),
        ("board:-rf", SshAddress(None, "board", None, "-rf")),
        ("pi@[fe80::1]:ocr", SshAddress("pi", "fe80::1", None, "ocr")),
        ("[::1]", SshAddress(None, "::1", None, "edge-ocr")),
    ],
)
def test_places_are_read(place, address):
    assert parse_place(place, default_path="edge-ocr") == address


def test_the_port_is_kept():
    address = parse_place("pi@board", port=2222, default_path="edge-ocr")
    assert address == SshAddress("pi", "board", 2222, "edge-ocr")
    assert address.by_hand == "ssh -p 2222 pi@board"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("", "is no host"),
        (":ocr", "is no host"),
        ("-oProxyCommand=x", "is no host"),
        ("$(id):ocr", "is no host"),
        ("a b:ocr", "is no host"),
        ("@board:ocr", "is no user"),
        ("-l@board:ocr", "is no user"),
        ("pi:secret@board:ocr", "without `:`"),
        ("ssh://pi@board/ocr", r"expected \[user@\]host"),
        ("fe80::1", "around an address of IPv6"),
        ("pi@2001:db8::1", "around an address of IPv6"),
        ("[fe80::g]:ocr", r"expected \[user@\]host"),
        ("board:/", "name of a folder"),
        ("board:~", "name of a folder"),
        ("board:~/", "name of a folder"),
        ("board:~pi/ocr", "name of a folder"),
        ("board:.", "name of a folder"),
        ("board:ocr/..", "name of a folder"),
        ("board:a:b", "name of a folder"),
        ("board:a\nb", "name of a folder"),
    ],
)
def test_places_that_make_no_sense_are_refused(place, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse_place(place, default_path="edge-ocr")
    assert caught.value.hint


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_ports_that_make_no_sense_are_refused(port):
    with pytest.raises(UsageError, match=f"--port {port}: expected 1 to 65535"):
        parse_place("board", port=port, default_path="edge-ocr")


@pytest.mark.parametrize(
    ("stderr", "message", "hint"),
    [
        (b"REMOTE HOST IDENTIFICATION HAS CHANGED", "not the one that ssh knows", "see: ssh -p 22 pi@board"),
        (b"Host key verification failed.", "does not know its host key", "connect once by hand"),
        (b"pi@board: Permission denied (publickey).", "refuses our key", "ssh-copy-id -p 22 pi@board"),
        (b"ssh: connect to host board port 22: Connection timed out", "cannot be reached", "does this work"),
        (b"client_loop: send disconnect: Broken pipe", "the connection failed", "does this work"),
    ],
)
def test_each_failure_of_ssh_is_told_with_a_way_out(stderr, message, hint):
    error = explain_ssh(SshAddress("pi", "board", 22, "ocr"), stderr, ": said")
    assert error.message.startswith("board: ")
    assert message in error.message
    assert error.message.endswith(": said")
    assert hint in error.hint


# --- the bundle


@pytest.fixture(scope="session")
def bundle(export) -> Path:
    """A real bundle, which is not to be changed."""
    return export("arm", precision="int8", with_onnx=True).out_dir


@pytest.fixture
def own_bundle(bundle, tmp_path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "own"))


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
    with pytest.raises(ParityError, match=r"not what it should be: models/det\.nb: sha256 .*, expected") as caught:
        plan_deployment(own_bundle, ADDRESS)
    assert "export it again" in caught.value.hint


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"is not a bundle: there is no manifest\.json"):
        plan_deployment(tmp_path, ADDRESS)


def change_manifest(bundle: Path, change: Callable[[dict], None], indent: int | None = None) -> None:
    content = json.loads((bundle / "manifest.json").read_bytes())
    change(content)
    (bundle / "manifest.json").write_text(json.dumps(content, indent=indent, sort_keys=True), encoding="utf-8")


def seal(manifest: Path) -> None:
    """Seal a manifest as the exporter does."""
    content = {**json.loads(manifest.read_bytes()), SEAL: ""}
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    content[SEAL] = hashlib.sha256(text.encode()).hexdigest()
    manifest.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def test_a_bundle_for_phones_is_refused(export):
    with pytest.raises(UsageError, match="is for android, expected a bundle for arm"):
        plan_deployment(export("android").out_dir, ADDRESS)


def test_a_bundle_without_installer_is_refused(own_bundle):
    change_manifest(own_bundle, lambda content: [content["files"].pop(name) for name in ("install.sh", "bom.cdx.json")])
    with pytest.raises(ModelError, match=r"has no install\.sh, so boards cannot run it") as caught:
        plan_deployment(own_bundle, ADDRESS)
    assert "export it again" in caught.value.hint


def test_a_newer_bundle_is_refused(own_bundle):
    change_manifest(own_bundle, lambda content: content.update(schema_version=99))
    with pytest.raises(NotVerifiedError, match="schema_version 99"):
        plan_deployment(own_bundle, ADDRESS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (DeployOptions(python="env/bin/python"), "expected an absolute path on the board, or a name"),
        (DeployOptions(python=""), "expected an absolute path on the board, or a name"),
        (DeployOptions(runs=0), "--runs 0: expected 1 to"),
        (DeployOptions(threads=0), "--threads 0: expected 1 to 256"),
        (DeployOptions(threads=257), "--threads 257: expected 1 to 256"),
    ],
)
def test_options_that_make_no_sense_are_refused(bundle, options, message):
    with pytest.raises(UsageError, match=message):
        plan_deployment(bundle, ADDRESS, options)


@pytest.mark.parametrize(
    ("change", "engine", "message"),
    [
        (
            {"onnx": None},
            "auto",
            "no Paddle-Lite library for armv8; onnxruntime: the bundle has no ONNX graphs",
        ),
        ({"onnx": None}, "onnxruntime", "any board: onnxruntime: the bundle has no ONNX graphs"),
        ({}, "paddle_lite", "any board: paddle_lite: the bundle has no Paddle-Lite library for armv8"),
    ],
)
@pytest.mark.parametrize("pip", [False, True])
def test_a_bundle_without_an_engine_is_refused(own_bundle, change, engine, message, pip):
    change_manifest(own_bundle, lambda content: content.update(change))
    with pytest.raises(ModelError, match=message) as caught:
        plan_deployment(own_bundle, ADDRESS, DeployOptions(engine=engine, pip=pip))
    assert caught.value.message.startswith(f"{own_bundle}: nothing runs it on any board: ")
    for words in ("edge-ocr libs fetch --platform armlinux.armv8", "export --with-onnx"):
        assert words in caught.value.hint


def test_a_plan_tells_where_the_bundle_runs(bundle):
    (step,) = [step for step in plan_deployment(bundle, ADDRESS).steps if "runs there" in step]
    assert "(onnxruntime: any that has it, or with --pip)" in step
    assert "paddle_lite" not in step


# --- the board's side


class FakeBoard:
    """A board whose ssh is a program on this machine."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = folder / "home"
        self.programs = folder / "programs"
        here = folder / "bin"
        for made in (self.home, self.programs, here):
            made.mkdir()
        for name in PROGRAMS:
            (self.programs / name).symlink_to(shutil.which(name) or pytest.skip(f"{name} is not installed"))
        self.use_shell("sh")
        self.use_python()
        ssh = here / "ssh"
        # Only the command, the last argument, matters.
        ssh.write_text(
            "#!/bin/sh\nfor command; do :; done\ncd /\n"
            f'HOME="{self.home}" PATH="{self.programs}" exec "{self.programs}/sh" -c "$command"\n',
            encoding="utf-8",
        )
        ssh.chmod(0o755)
        monkeypatch.setenv("PATH", f"{here}:{os.environ['PATH']}")
        self.steps: list[str] = []

    def use_shell(self, name: str) -> None:
        (self.programs / "sh").unlink(missing_ok=True)
        (self.programs / "sh").symlink_to(shutil.which(name) or pytest.skip(f"{name} is not installed"))

    def use_python(self, **facts: object) -> None:
        """Let the board have this Python, which says that it is a board's."""
        facts = {
            "machine": "aarch64",
            "bits": 64,
            "multiarch": "aarch64-linux-gnu",
            "glibc": "2.36",
            "python": "/usr/bin/python3",
            "has_onnxruntime": True,
            **facts,
        }
        # What is called python3 may be a script that looks for one.
        answer = f"cat <<'END'\n{json.dumps(facts)}\nEND\n"
        self.put("python3", f'case $2 in *onnxruntime*) {answer}exit;; esac\nexec {sys.executable} "$@"')

    def put(self, name: str, script: str) -> None:
        (self.programs / name).unlink(missing_ok=True)
        (self.programs / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (self.programs / name).chmod(0o755)

    def open(self, path: str = "ocr", needed_bytes: int = 1, python: str = "python3"):
        return open_board(SshAddress("pi", "board", None, path), python, needed_bytes, self.steps.append)

    def list_home(self) -> list[str]:
        return sorted(path.name for path in self.home.iterdir())


@pytest.fixture
def board(tmp_path, monkeypatch) -> FakeBoard:
    return FakeBoard(tmp_path, monkeypatch)


@pytest.fixture
def make_files(tmp_path) -> Callable[..., dict[str, Path]]:
    """Make what is taken for a bundle there, with an installer of our own."""

    def make(
        install: str = "exit 0", launcher: str = "exit 0", name: str = "new", others: tuple[str, ...] = ()
    ) -> dict[str, Path]:
        folder = tmp_path / f"files of {name}"
        contents = {
            "install.sh": f"#!/bin/sh\n{install}\n",
            "edge-ocr-lite": f"#!/bin/sh\n{launcher}\n",
            "models/a b.nb": "x" * 100_000,
            **dict.fromkeys(others, name),
        }
        manifest = {
            "edge_ocr_version": name,
            "files": {
                file: {"sha256": hashlib.sha256(text.encode()).hexdigest(), "size_bytes": len(text)}
                for file, text in contents.items()
            },
            # As deep as the names of files.
            "lite": {"libraries": {"armv8": None}, "photos": {"a": 1}},
        }
        # As the exporter writes it.
        contents["manifest.json"] = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for file, content in contents.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(content, encoding="utf-8")
        return {file: folder / file for file in contents}

    return make


def deploy(
    board: FakeBoard,
    files: dict[str, Path],
    path: str = "ocr",
    arguments: tuple[str, ...] = (),
    *,
    force: bool = False,
) -> list[str]:
    with board.open(path) as opened:
        opened.check_old(files, force=force)
        opened.copy(files)
        opened.install(arguments)
        return opened.switch(force=force)


def read_name(place: Path) -> str:
    return json.loads((place / "manifest.json").read_bytes())["edge_ocr_version"]


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_a_bundle_comes_into_its_place_and_replaces_the_one_before(board, make_files, shell):
    board.use_shell(shell)
    install = "echo one; echo two >&2; pwd >where; printf '%s|' \"$@\" >arguments; ls -A >names"
    assert deploy(board, make_files(install, name="1"), "my ocr", ("--python", "a b")) == []
    place = board.home / "my ocr"
    assert board.list_home() == ["my ocr"]
    assert (place / "arguments").read_text() == "--python|a b|"
    assert (place / "where").read_text().startswith(f"{place}.new-")
    assert board.steps[1:] == ["one", "two"]
    assert os.access(place / "install.sh", os.X_OK)
    assert not os.access(place / "manifest.json", os.X_OK)
    assert not (place / ".deploy-job").exists()
    assert (place / "models" / "a b.nb").stat().st_size == 100_000
    (place / "mine").touch()
    assert deploy(board, make_files(name="2"), "my ocr") == ["kept 4 files of yours"]
    assert board.list_home() == ["my ocr"]
    assert read_name(place) == "2"
    assert (place / "mine").exists()


def write_files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"mine: {name}", encoding="utf-8")


def list_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or path.is_file()}


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_files_of_the_user_are_taken_along(board, make_files, shell):
    board.use_shell(shell)
    place = board.home / "ocr"
    deploy(board, make_files(name="1", others=("gone.txt", "lib/old/x.so", "runtime/a.py")))
    mine = (
        "photo 1.jpg",
        "-rf",
        ".hidden",
        "..two",
        "results/a/b.json",
        "results/.c",
        "photos/x.jpg",  # the name of another key of the manifest
        "models/*.nb",  # in a folder of the bundle
        "lib/old/mine.so",  # in one that the new bundle has not
        "two\nlines/manifest.json",
        "fonts/of/mine.ttf",  # in one that only the new bundle has
        ".installed.txt",
    )
    write_files(place, *mine, ".installed/python", ".installed.old/python", "runtime/__pycache__/a.pyc")
    (place / "empty").mkdir()
    os.mkfifo(place / "results" / "pipe")
    inode = (place / "photo 1.jpg").stat().st_ino
    outside = board.home.parent / "outside"
    write_files(outside, "not ours.jpg", "gone.txt")
    for name in ("pictures", "results/link", "models/broken"):
        (place / name).symlink_to(outside if name != "models/broken" else "nowhere")
    new = make_files(name="2", others=("fonts/a.ttf", "fonts/of/b.ttf"))
    assert deploy(board, new) == ["kept 16 files of yours"]
    assert list_files(place) == {*new, *mine, "pictures", "results/link", "models/broken"}
    assert (place / "empty").is_dir()
    assert (place / "results" / "pipe").is_fifo()
    assert (place / "photo 1.jpg").stat().st_ino == inode
    assert {(place / name).read_text() for name in mine} == {f"mine: {name}" for name in mine}
    assert (place / "pictures").readlink() == outside
    assert list_files(outside) == {"not ours.jpg", "gone.txt"}
    assert board.list_home() == ["ocr"]
    # Next time, too.
    assert deploy(board, make_files(name="3")) == ["kept 16 files of yours"]


def change_link(place: Path, outside: Path) -> None:
    (place / "models").rename(outside)
    (place / "models").symlink_to(outside)


CHANGES = {
    "edited": ("models/a b.nb", lambda place, outside: (place / "models" / "a b.nb").write_text("mine")),
    "linked": ("models", change_link),
    "added where the new one has a file": ("onnx/det.onnx", lambda place, outside: write_files(place, "onnx/det.onnx")),
    "added where the new one has a folder": ("plan", lambda place, outside: write_files(place, "plan")),
    "edited manifest": (
        "manifest.json",
        lambda place, outside: change_manifest(place, lambda content: content.update(lite={}), indent=2),
    ),
}
"""What would be lost, and how it comes about."""


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
@pytest.mark.parametrize("kind", CHANGES)
def test_what_the_user_changed_stops_a_deployment_before_anything_is_copied(board, make_files, kind, shell):
    board.use_shell(shell)
    place, outside = board.home / "ocr", board.home.parent / "outside"
    old = make_files(name="1")
    if kind == "edited manifest":
        seal(old["manifest.json"])
    deploy(board, old)
    name, change = CHANGES[kind]
    change(place, outside)
    before = list_files(place)
    new = make_files(name="2", others=("onnx/det.onnx", "plan/b"))
    # What the board would copy with is not there any more.
    (board.programs / "tar").rename(board.programs / "star")
    board.put("tar", "exit 1")
    with pytest.raises(UsageError) as caught:
        deploy(board, new)
    assert caught.value.message == f"board: what you changed or added in {place} would be lost: {name}"
    assert "--force leaves the whole old bundle beside the new one" in caught.value.hint
    assert list_files(place) == before
    assert board.list_home() == ["ocr"]


@pytest.mark.parametrize("kind", CHANGES)
def test_with_force_what_the_user_changed_is_beside_the_new_bundle(board, make_files, kind):
    place, outside = board.home / "ocr", board.home.parent / "outside"
    old = make_files(name="1")
    if kind == "edited manifest":
        seal(old["manifest.json"])
    deploy(board, old)
    name, change = CHANGES[kind]
    change(place, outside)
    write_files(place, "mine")
    before = list_files(place)
    new = make_files(name="2", others=("onnx/det.onnx", "plan/b"))
    kept, note = deploy(board, new, force=True)
    assert kept == "kept 1 file of yours"
    _, beside = board.list_home()
    assert beside.startswith("ocr.old-")
    assert note == (
        f"{board.home / beside} on board stays, as you changed or added there what is not in the new one: {name}"
    )
    assert list_files(board.home / beside) == before
    assert list_files(place) == {*new, "mine"}


def test_what_is_changed_while_it_is_installed_stops_the_switch(board, make_files):
    place = board.home / "ocr"
    deploy(board, make_files(name="1"))
    new = make_files(f"echo mine >'{place}/models/a b.nb'", name="2")
    with pytest.raises(UsageError, match=rf"in {place} would be lost: models/a b\.nb$"):
        deploy(board, new)
    assert board.list_home() == ["ocr"]
    assert (place / "models" / "a b.nb").read_text() == "mine\n"
    assert read_name(place) == "1"


def test_what_comes_while_it_is_switched_is_kept(board, make_files):
    deploy(board, make_files(name="1"))
    write_files(board.home / "ocr", "results/1")
    real = (board.programs / "mv").readlink()
    board.put("mv", f'case $2 in */ocr) echo mine >"$2/results/2"; esac; exec {real} "$@"')
    assert deploy(board, make_files(name="2")) == ["kept 1 file of yours"]
    assert list_files(board.home / "ocr") == {*make_files(), "results/1", "results/2"}
    assert board.list_home() == ["ocr"]


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_what_is_changed_while_it_is_switched_stays_in_the_old_bundle(board, make_files, shell):
    board.use_shell(shell)
    place = board.home / "ocr"
    deploy(board, make_files(name="1"))
    write_files(place, "results.json", "deep/er/results.json", "log.txt", "same")
    # Between what was taken along and the rename, be it minutes.
    real = (board.programs / "sync").readlink()
    changes = (
        "for name in results.json deep/er/results.json; do echo new >.tmp && mv .tmp $name; done",
        "cat same >.tmp && mv .tmp same",
        "echo more >>log.txt",
        "echo edited >>'models/a b.nb'",
        "mkdir new; echo new >new/late",
    )
    board.put("sync", f"cd '{place}' || exit 1\n" + "\n".join(changes) + f"\nexec {real}")
    kept, note = deploy(board, make_files(name="2"))
    assert kept == "kept 4 files of yours"
    _, beside = board.list_home()
    old = board.home / beside
    named = "models/a b.nb, deep/er/results.json, results.json"
    assert note == f"{old} on board stays, as you changed or added there what is not in the new one: {named}"
    assert [(old / name).read_text() for name in ("results.json", "deep/er/results.json")] == ["new\n"] * 2
    assert (old / "models" / "a b.nb").read_text().endswith("edited\n")
    assert read_name(place) == "2"
    assert (place / "results.json").read_text() == "mine: results.json"
    assert (place / "log.txt").read_text().endswith("more\n")
    assert (place / "new" / "late").read_text() == "new\n"


@pytest.mark.parametrize("change", ["rm manifest.json", "rm -r models *.json *.sh edge-*; echo mine >photo.jpg"])
def test_what_is_no_bundle_any_more_once_it_is_moved_away_stays(board, make_files, change):
    place = board.home / "ocr"
    deploy(board, make_files(name="1"))
    real = (board.programs / "mv").readlink()
    board.put("mv", f'case $2 in */ocr) (cd "$2" && {change});; esac; exec {real} "$@"')
    (note,) = deploy(board, make_files(name="2"))
    _, beside = board.list_home()
    assert note.startswith(f"{board.home / beside} on board stays: ")
    assert note.endswith("/manifest.json: No such file or directory")
    assert read_name(place) == "2"


def test_a_foreign_folder_that_comes_while_the_disk_is_written_is_not_replaced(board, make_files):
    place = board.home / "ocr"
    deploy(board, make_files(name="1"))
    real = (board.programs / "sync").readlink()
    board.put("sync", f"cd '{board.home}' && mv ocr mine && mkdir ocr && echo cat >ocr/cat.jpg\nexec {real}")
    with pytest.raises(UsageError, match="is there and is not a bundle"):
        deploy(board, make_files(name="2"))
    assert board.list_home() == ["mine", "ocr"]
    assert (place / "cat.jpg").exists()


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", ["disk", "folder of the same disk"])
def test_what_is_mounted_in_a_bundle_stops_a_deployment_before_anything_is_copied(board, make_files, kind, force):
    place = board.home / "ocr"
    deploy(board, make_files(name="1"))
    outside, photos = board.home.parent / "outside", place / "my photos"
    write_files(outside, "cat.jpg")
    photos.mkdir()
    arguments = ["-t", "tmpfs", "tmpfs"] if kind == "disk" else ["--bind", outside]
    done = subprocess.run(["mount", *arguments, photos], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"nothing can be mounted: {done.stderr.strip()}")
    (board.programs / "tar").rename(board.programs / "star")
    board.put("tar", "echo copied >&2; exit 1")
    try:
        with pytest.raises(UsageError, match=rf"cannot be told: {photos}: something is mounted there$") as caught:
            deploy(board, make_files(name="2"), force=force)
    finally:
        subprocess.run(["umount", photos], check=True)
    assert caught.value.hint == "unmount it, or deploy to another folder"
    assert (board.list_home(), read_name(place)) == (["ocr"], "1")
    assert list_files(outside) == {"cat.jpg"}


def test_a_bundle_whose_files_cannot_be_told_is_kept(board, make_files):
    place = board.home / "ocr"
    deploy(board, make_files(name="1"))
    (place / "manifest.json").write_text('{"edge_ocr_version": "1", ')
    message = "board: what is yours in the bundle there cannot be told: Expecting property name"
    with pytest.raises(UsageError, match=message):
        deploy(board, make_files(name="2"))
    # Without a list, all is the user's.
    (place / "manifest.json").write_text('{"edge_ocr_version": "1"}')
    with pytest.raises(UsageError, match=r"would be lost: edge-ocr-lite, install\.sh, models/a b\.nb$"):
        deploy(board, make_files(name="2"))
    assert board.list_home() == ["ocr"]
    board.put("python3", "echo 3.11.2")
    with pytest.raises(ToolchainError, match=r"what is yours in .*/ocr cannot be told: it said b'3\.11\.2"):
        deploy(board, make_files(name="2"))
    assert board.list_home() == ["ocr"]


@pytest.mark.parametrize("linked", [False, True])
def test_a_bundle_that_a_cut_off_switch_moved_away_comes_back(board, make_files, linked):
    place = board.home / "ocr"
    if linked:
        (board.home / "disk").mkdir()
        place.symlink_to("disk/real")
        place = board.home / "disk" / "real"
        place.mkdir()
    deploy(board, make_files(name="1"))
    # What power failure leaves.
    place.rename(f"{place}.old-0123abcd")
    (place.parent / f"{place.name}.new-0123abcd").mkdir()
    with board.open() as opened:
        assert opened.replaces
        assert read_name(board.home / "ocr") == "1"
    old = f"{place}.old-0123abcd"
    assert f"WARNING: a deployment was cut off before: the bundle {old} is {place} again" in board.steps
    assert not Path(old).exists()
    assert read_name(place) == "1"


@pytest.mark.parametrize("kind", ["two", "no bundle", "link", "place is there"])
def test_what_may_be_something_else_does_not_come_back(board, make_files, kind):
    place, old = board.home / "ocr", board.home / "ocr.old-1"
    deploy(board, make_files(name="1"))
    place.rename(old)
    if kind == "two":
        shutil.copytree(old, board.home / "ocr.old-2")
    elif kind == "no bundle":
        (old / "manifest.json").write_text("{}")
    elif kind == "link":
        old.rename(board.home / "elsewhere")
        old.symlink_to("elsewhere")
    else:
        place.mkdir()
    before = board.list_home()
    with board.open() as opened:
        assert not opened.replaces
    assert board.list_home() == before
    assert board.steps[-1].endswith("cut off; files of yours may be in it")


def test_what_is_there_is_told(board, make_files):
    with board.open() as opened:
        assert opened.place == str(board.home / "ocr")
        assert opened.machine == os.uname().machine
        assert opened.python_version.startswith("3.")
        assert not opened.replaces
    (line,) = board.steps
    assert line.startswith(f"board: {os.uname().machine}, Python 3.")
    assert line.endswith(" MB free")
    deploy(board, make_files())
    with (
        pytest.raises(ToolchainError, match="there is no no-such-python that starts"),
        board.open(python="no-such-python"),
    ):
        pass
    assert "Python missing" in board.steps[-1]


def test_a_link_to_a_bundle_stays_a_link(board, make_files):
    (board.home / "disk").mkdir()
    (board.home / "ocr").symlink_to("disk/real")
    with pytest.raises(UsageError, match="is not a bundle"), board.open():
        pass
    (board.home / "disk" / "real").mkdir()
    deploy(board, make_files(name="1"))
    deploy(board, make_files(name="2"))
    assert (board.home / "ocr").is_symlink()
    assert [path.name for path in (board.home / "disk").iterdir()] == ["real"]
    assert read_name(board.home / "ocr") == "2"


@pytest.mark.parametrize("kind", ["folder", "other manifest", "file", "link", "home", "above"])
def test_what_is_not_a_bundle_is_never_replaced(board, kind):
    place, path = board.home / "ocr", "ocr"
    if kind == "folder":
        (place / "photos").mkdir(parents=True)
    elif kind == "other manifest":
        place.mkdir()
        (place / "manifest.json").write_text('{"name": "web page"}')
    elif kind == "file":
        place.write_text("mine")
    elif kind == "link":
        place.symlink_to("nowhere")
    else:
        place, path = board.home, str(board.home if kind == "home" else board.home.parent)
        (Path(path) / "manifest.json").write_text('{"edge_ocr_version": "0.1.0"}')
    before = board.list_home()
    with pytest.raises(UsageError, match=r"board: .* is there and is not a bundle") as caught, board.open(path):
        pass
    assert "--ssh pi@board:DIR" in caught.value.hint
    assert board.list_home() == before


def test_what_comes_into_the_way_meanwhile_is_not_replaced(board, make_files):
    with board.open() as opened:
        opened.copy(make_files())
        (board.home / "ocr").mkdir()
        (board.home / "ocr" / "photo.jpg").touch()
        with pytest.raises(UsageError, match="is not a bundle"):
            opened.switch()
    assert board.list_home() == ["ocr"]
    assert (board.home / "ocr" / "photo.jpg").exists()


def test_an_empty_folder_is_replaced(board, make_files):
    (board.home / "ocr").mkdir()
    deploy(board, make_files())
    assert board.list_home() == ["ocr"]
    assert read_name(board.home / "ocr") == "new"


def test_a_folder_above_that_is_missing_is_told(board):
    with pytest.raises(UsageError, match=r"there is no folder apps for apps/ocr") as caught, board.open("apps/ocr"):
        pass
    assert caught.value.hint == "ssh pi@board 'mkdir -p -- apps'"
    with pytest.raises(UsageError) as caught, board.open("my $(id)'s/ocr"):
        pass
    *_, command = shlex.split(caught.value.hint)
    assert shlex.split(command) == ["mkdir", "-p", "--", "my $(id)'s"]


@pytest.mark.parametrize(("user", "named"), [("pi", "pi@[fe80::1]"), (None, "[fe80::1]")])
def test_hints_can_be_typed_for_an_address_of_ipv6(board, user, named):
    (board.home / "ocr" / "photos").mkdir(parents=True)
    with (
        pytest.raises(UsageError) as caught,
        open_board(SshAddress(user, "fe80::1", None, "ocr"), "python3", 1, board.steps.append),
    ):
        pass
    *_, option, place = shlex.split(caught.value.hint)
    assert (option, place) == ("--ssh", f"{named}:DIR")
    assert parse_place(place, default_path="edge-ocr") == SshAddress(user, "fe80::1", None, "DIR")


def test_a_folder_that_cannot_be_written_is_told(board):
    with pytest.raises(UsageError, match=r"board: cannot write in /proc: mkdir: .*ocr\.new"), board.open("/proc/ocr"):
        pass


def test_a_user_without_a_home_is_told(board, tmp_path):
    board.home.rmdir()
    with pytest.raises(UsageError, match="board: the user has no home there") as caught, board.open():
        pass
    assert caught.value.hint == "--ssh pi@board:/ABSOLUTE/DIR"
    with board.open(str(tmp_path / "ocr")) as opened:
        assert opened.place == str(tmp_path / "ocr")


def test_a_board_without_tar_is_told(board):
    (board.programs / "tar").unlink()
    with pytest.raises(ToolchainError, match="tar is missing") as caught, board.open():
        pass
    assert "apt install tar" in caught.value.hint
    assert board.list_home() == []


def test_a_board_without_room_is_told_before_anything_is_copied(board):
    row = "/dev/my disk          1000  995     5 100% /home"
    board.put("df", f"echo 'Filesystem 1024-blocks Used Available Capacity Mounted on'; echo '{row}'")
    message = r"board: no room for .*/home/ocr: it needs 6\.0 MB, 0\.0 MB were free"
    with pytest.raises(UsageError, match=message), board.open(needed_bytes=6_000_000):
        pass
    assert board.list_home() == []
    with board.open(needed_bytes=5 * 1024):
        pass


def test_a_df_that_says_something_else_does_not_hinder(board):
    board.put("df", "exit 1")
    with board.open(needed_bytes=10**15):
        pass
    assert "room unknown" in board.steps[0]


def test_a_disk_that_fills_up_is_told(board, make_files):
    board.put("tar", "echo 'tar: models/a: Cannot write: No space left on device' >&2; exit 2")
    with pytest.raises(UsageError, match="no room for"), board.open() as opened:
        opened.copy(make_files())
    assert board.list_home() == []


def test_a_copy_that_fails_is_told(board, make_files):
    board.put("tar", "echo 'tar: broken' >&2; exit 2")
    with (
        pytest.raises(ToolchainError, match=r"could not copy the files to .*/ocr: tar: broken"),
        board.open() as opened,
    ):
        opened.copy(make_files())
    assert board.list_home() == []


def test_a_file_that_is_gone_is_told(board, make_files):
    files = make_files()
    files["models/a b.nb"].unlink()
    with pytest.raises(ModelError, match=r"a b\.nb: cannot be read"), board.open() as opened:
        opened.copy(files)
    assert board.list_home() == []


ERROR = "echo 'Error: no numpy for '$PWD >&2; echo 'Hint: sudo apt install python3-numpy; or ./install.sh --pip' >&2"


@pytest.mark.parametrize(
    ("install", "kind", "message", "hint"),
    [
        (f"{ERROR}; exit 6", ToolchainError, "board: no numpy for {place}", "or edge-ocr deploy --pip"),
        (f"{ERROR}; echo 'Error: selftest: 8' >&2; exit 8", ParityError, "board: no numpy for {place}", "numpy"),
        ("echo 'Error: damaged' >&2; exit 5", ModelError, "board: damaged", None),
        ("echo 'Error: no golden' >&2; exit 9", NotVerifiedError, "board: no golden", None),
        ("echo 'g++: bad' >&2; exit 1", ToolchainError, "board: install.sh: ended with exit code 1: g++: bad", None),
        ("exit 2", UsageError, "board: install.sh: ended with exit code 2: working", None),
        ("kill -9 $$", ToolchainError, "board: install.sh: killed by SIGKILL: Killed", None),
        ("exit 255", ToolchainError, "board: install.sh: ended with exit code 254: working", None),
    ],
)
def test_what_the_installer_fails_with_is_raised_and_the_old_bundle_stays(
    board, make_files, install, kind, message, hint
):
    deploy(board, make_files(name="old"))
    with pytest.raises(EdgeOcrError) as caught:
        deploy(board, make_files(f"echo working >&2; {install}"))
    assert type(caught.value) is kind
    assert caught.value.message == message.format(place=board.home / "ocr")
    assert caught.value.hint is None if hint is None else hint in caught.value.hint
    assert board.list_home() == ["ocr"]
    assert read_name(board.home / "ocr") == "old"
    assert "working" in board.steps
    assert not [step for step in board.steps if step.startswith(("Error:", "Hint:"))]


def test_what_the_board_says_cannot_steer_the_terminal(board, make_files):
    deploy(board, make_files(r"printf 'a\033[2Jb\n' >&2"))
    assert board.steps[-1] == r"a\x1b[2Jb"


def test_greetings_are_not_taken_for_answers(board, make_files):
    greeted = board.programs / "greeted"
    greeted.symlink_to((board.programs / "sh").readlink())
    board.put("sh", f'[ $# -ne 2 ] || {{ echo Welcome; echo Hello >&2; }}; exec {greeted} "$@"')
    with board.open() as opened:
        opened.copy(make_files(launcher="echo '{}'"))
        opened.install(())
        opened.switch()
        assert opened.run("bench", ["./edge-ocr-lite"]) == b"{}\n"
    assert [step for step in board.steps if "Hello" in step] == []


def test_a_rename_that_fails_leaves_the_old_bundle(board, make_files):
    deploy(board, make_files(name="old"))
    real = (board.programs / "mv").readlink()
    board.put("mv", f'case $2 in *.new-*) echo "mv: busy" >&2; exit 1;; esac; exec {real} "$@"')
    with pytest.raises(UsageError, match=r"board: .*/ocr could not be renamed: mv: busy"):
        deploy(board, make_files())
    assert board.list_home() == ["ocr"]
    assert read_name(board.home / "ocr") == "old"
    board.put("mv", 'echo "mv: mounted" >&2; exit 1')
    with pytest.raises(UsageError, match="could not be renamed: mv: mounted"):
        deploy(board, make_files())
    assert board.list_home() == ["ocr"]
    assert read_name(board.home / "ocr") == "old"


def test_an_old_bundle_that_cannot_be_removed_is_told(board, make_files):
    deploy(board, make_files(name="old"))
    real = (board.programs / "rm").readlink()
    board.put("rm", f'case $3 in *.old-*) exit 1;; esac; exec {real} "$@"')
    (note,) = deploy(board, make_files())
    assert note.startswith(f"could not remove {board.home / 'ocr'}.old-")
    assert read_name(board.home / "ocr") == "new"
    with board.open():
        pass
    assert board.steps[-1].startswith(f"WARNING: {board.home / 'ocr'}.old-")


def test_a_new_folder_that_cannot_be_removed_is_told(board):
    with board.open():
        board.put("rm", "exit 1")
        board.put("sleep", "exit 0")
    assert board.steps[-1].startswith("WARNING: could not make sure that ")


def wait_until(check: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not check() and time.monotonic() < deadline:
        time.sleep(0.05)
    return check()


def list_sleepers(folder: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes().split(b"\0")[0]
            if str(folder) in str((process / "cwd").readlink()) and command.endswith(b"sleep"):
                found.append(int(process.name))
    return found


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_what_hangs_is_ended_with_all_that_it_started(board, make_files, monkeypatch, shell):
    board.use_shell(shell)
    deploy(board, make_files(name="old"))
    monkeypatch.setattr(deploy_board, "RUN_TIMEOUT_S", 1.0)
    with pytest.raises(ToolchainError, match=r"board: could not run install\.sh within 1 s: thinking"):
        deploy(board, make_files("echo thinking >&2; sleep 100 & sleep 100; echo late >&2"))
    assert wait_until(lambda: list_sleepers(board.home) == [])
    assert board.list_home() == ["ocr"]
    assert read_name(board.home / "ocr") == "old"


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_a_job_of_another_connection_is_ended_when_the_keeper_is(board, shell):
    board.use_shell(shell)
    with board.open() as opened:
        job = opened._start(deploy_board._JOB, "job", opened._new, "sh", "-c", "sleep 100 & sleep 100")
        assert wait_until(lambda: len(list_sleepers(board.home)) >= 2)
    assert wait_until(lambda: list_sleepers(board.home) == [])
    job.kill()
    assert board.list_home() == []


def test_a_command_of_the_bundle_in_place_is_ended_when_the_keeper_is(board, make_files):
    with board.open() as opened:
        opened.copy(make_files())
        opened.switch()
        job = opened._start(deploy_board._JOB, "job", opened.place, "sleep", "100")
        assert wait_until(lambda: len(list_sleepers(board.home)) >= 1)
    assert wait_until(lambda: list_sleepers(board.home) == [])
    job.kill()
    assert sorted(path.name for path in (board.home / "ocr").iterdir()) == sorted(
        path.split("/")[0] for path in make_files()
    )


def test_a_missing_ssh_is_told(board, monkeypatch, tmp_path):
    (tmp_path / "nothing").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(ToolchainError, match="ssh is missing") as caught, board.open():
        pass
    assert "openssh-client" in caught.value.hint


# --- engines


LIBRARY = {
    "file": "lib/armv8/libpaddle_light_api_shared.so",
    "version": "v2.13-rc",
    "version_matches": True,
    "min_glibc": "2.31",
    "shim": None,
}


@dataclass
class Manifest:
    """What of a bundle tells where it runs."""

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
        ({"bits": 32, "multiarch": "arm-linux-gnueabi"}, {}, {}, ["this machine is aarch64 with a Python of 32 bits"]),
        ({"machine": "x86_64"}, {}, {}, ["this machine is x86_64 with a Python of 64 bits"]),
        ({"machine": "x86_64"}, {}, {"onnx": {}}, None),
        (
            {"machine": "x86_64"},
            {"engine": "paddle_lite"},
            {"onnx": {}},
            ["there: paddle_lite: the bundle is for"],
        ),
        ({}, {"engine": "onnxruntime"}, {}, ["there: onnxruntime: the bundle has no ONNX graphs"]),
        ({"glibc": "2.28"}, {}, {}, ["it needs glibc 2.31, this system has 2.28"]),
        ({"glibc": None}, {}, {}, ["another C library"]),
    ],
)
def test_a_board_that_has_no_engine_for_the_bundle_is_told(board, facts, options, content, reasons):
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
            assert caught.value.message.startswith("board: nothing runs bundle there: ")
            for reason in reasons:
                assert reason in caught.value.message
            assert ("deploy --pip installs onnxruntime there" in caught.value.hint) == ("onnxruntime is" in reasons[0])


def test_a_board_without_an_engine_is_told_before_anything_is_copied(board, bundle):
    board.use_python(has_onnxruntime=False)
    board.put("tar", "touch copied")
    with pytest.raises(ToolchainError, match="onnxruntime is not installed for /usr/bin/python3") as caught:
        deploy_bundle(bundle, ADDRESS)
    assert "--pip" in caught.value.hint
    assert board.list_home() == []
    # A Python that does not tell is left to the installer.
    board.put("python3", f'case $2 in *onnxruntime*) exit 1;; esac; exec {sys.executable} "$@"')
    with board.open() as opened:
        assert opened.facts is None


# --- all of it


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
}


def replace_programs(board: FakeBoard, launcher: str) -> None:
    """Let the board unpack a bundle of which only the files are real."""
    real = (board.programs / "tar").readlink()
    board.put(
        "tar",
        f"{real} \"$@\" || exit\nprintf '#!/bin/sh\\nexit 0\\n' >install.sh\n"
        f"cat >edge-ocr-lite <<'END'\n#!/bin/sh\n{launcher}\nEND",
    )


def test_a_deployment_reports_the_boards_figures_beside_the_hosts(board, bundle):
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
    assert report.host is not None
    assert report.host.threads == 1
    assert report.host.lines == 4
    assert set(report.host.stages_ms) == {"decode", "detection", "crop", "recognition", "total"}
    assert report.host.stages_ms["total"].p50 > report.host.stages_ms["detection"].p50 > 0
    content = json.loads(json.dumps(report.to_json()))
    assert content["board"]["stages_ms"]["total"] == {"p50": 900.0, "p95": 1000.0}
    assert content["login"] == "pi@board"
    assert [step.split()[0] for step in steps] == ["connecting", "board:", "copying", "installing", "in", "measuring"]
    copied = {path.relative_to(board.home / "ocr").as_posix() for path in (board.home / "ocr").rglob("*.nb")}
    assert copied == {"models/det.nb", "models/rec.nb"}


def test_files_that_are_not_the_bundles_are_not_copied(board, own_bundle):
    (own_bundle / ".installed").mkdir()
    (own_bundle / ".installed" / "python").touch()
    replace_programs(board, "exit 0")
    with pytest.raises(ToolchainError, match="its bench printed what is no result"):
        deploy_bundle(own_bundle, ADDRESS)
    assert not (board.home / "ocr" / ".installed").exists()
    assert (board.home / "ocr" / "manifest.json").exists()


@pytest.mark.parametrize("answer", ["", "[]", "{}", json.dumps({**FIGURES, "threads": None}), "Segmentation fault"])
def test_figures_that_are_none_are_told(board, bundle, answer):
    replace_programs(board, f"printf '%s' '{answer}'")
    with pytest.raises(ToolchainError, match="the bundle is in place, but its bench printed") as caught:
        deploy_bundle(bundle, ADDRESS)
    assert "bench --json" in caught.value.hint
    assert board.list_home() == ["ocr"]


def test_a_bench_that_fails_is_told_and_the_bundle_stays(board, bundle):
    replace_programs(board, "echo 'Error: paddle_lite cannot be used' >&2; echo 'Hint: no library' >&2; exit 6")
    message = r"^board: the bundle is in place, but not measured: paddle_lite cannot be used$"
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
    assert report.notes == ("nothing to compare with: no engine runs ONNX here",)


# --- keys that a board trusts


@pytest.fixture(scope="session")
def pairs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        make_keys(folder / f"{name}.key", folder / f"{name}.pub")
    return folder


@pytest.fixture
def system(tmp_path, monkeypatch) -> Path:
    """The machine's own trust folder, of a board where we are root; not that of this machine."""
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


def deploy_trusted(board: FakeBoard, files: dict[str, Path], key: Path | None) -> str | None:
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
    # From now on without --trusted, too; counter and program follow.
    assert deploy_trusted(board, sign_files(counter=2), None) == str(system)
    assert deploy_trusted(board, sign_files(counter=2), key) == str(system)
    assert json.loads((system / "seen.json").read_bytes()) == {"demo": 2}
    assert (system / "trust.py").read_text() == "ours 2"
    assert sorted(path.name for path in system.parent.iterdir()) == ["trust"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda sign, make: make(), "board refuses it: the bundle is not signed"),
        (lambda sign, make: sign("theirs", 3), "board refuses it: .*signed with another key than"),
        (lambda sign, make: sign("ours", 1), "board refuses it: .*older .*counter 1, expected 2 or more"),
    ],
)
def test_what_a_board_would_refuse_is_not_copied(board, system, sign_files, make_files, pairs, change, message):
    deploy_trusted(board, sign_files(counter=2), pairs / "ours.pub")
    with pytest.raises(ParityError, match=message) as caught:
        deploy_trusted(board, change(sign_files, make_files), None)
    assert str(system) in caught.value.hint
    assert board.list_home() == ["ocr"]
    assert read_name(board.home / "ocr") == "ours 2"


def test_a_board_does_not_learn_a_second_key(board, system, sign_files, pairs):
    deploy_trusted(board, sign_files(), pairs / "ours.pub")
    with pytest.raises(ParityError, match=r"board does not trust .*theirs\.pub"):
        deploy_trusted(board, sign_files(counter=2), pairs / "theirs.pub")


def test_a_board_that_cannot_check_signatures_is_left_as_it_is(board, system, sign_files, pairs):
    board.put(
        "python3",
        f'case "$*" in *describe*) echo \'{{"problem": "no OpenSSL", "folder": null, "keys": [], '
        f'"seen": {{}}}}\';; *) exec {sys.executable} "$@";; esac',
    )
    with pytest.raises(ToolchainError, match="signatures cannot be checked there: no OpenSSL"):
        deploy_trusted(board, sign_files(), pairs / "ours.pub")
    assert board.list_home() == []
    # Who asks for no signature does not need OpenSSL.
    assert deploy_trusted(board, sign_files(), None) is None


def test_a_key_that_does_not_fit_is_not_installed(board, system, sign_files, pairs):
    files = sign_files()
    files["models/a b.nb"].write_bytes(b"changed")
    with pytest.raises(ModelError, match=r"a b\.nb has 7 bytes.*the bundle is in place, its key is not"):
        deploy_trusted(board, files, pairs / "ours.pub")
    assert not system.parent.exists()


def test_a_board_whose_trust_is_damaged_is_told(board, system, sign_files, pairs):
    deploy_trusted(board, sign_files(), pairs / "ours.pub")
    (system / "seen.json").write_text("rubbish")
    with pytest.raises(ModelError, match="is damaged, so no bundle is trusted"):
        deploy_trusted(board, sign_files(counter=2), None)


def test_a_user_has_a_trust_folder_at_home(board, system, sign_files, pairs, tmp_path):
    text = deploy_trust._PROGRAM.read_text(encoding="utf-8")
    deploy_trust._PROGRAM.write_text(text.replace("os.geteuid()", "1000"), encoding="utf-8")
    place = board.home / ".config" / "edge-ocr" / "trust"
    assert deploy_trusted(board, sign_files(), pairs / "ours.pub") == str(place)
    assert describe_reach(str(place), "pi@board").startswith("pi@board, and no other user or service there")
    assert describe_reach("/etc/edge-ocr/trust", "root@board") == "the whole board (/etc/edge-ocr/trust)"
    files = sign_files(counter=2)
    files.pop("manifest.sig").unlink()
    with pytest.raises(ParityError, match="is not signed"):
        deploy_trusted(board, files, None)


def test_a_plan_for_a_signed_bundle(bundle, own_bundle, pairs):
    options = DeployOptions(trusted=pairs / "ours.pub")
    with pytest.raises(ParityError, match="the bundle is not signed") as caught:
        plan_deployment(bundle, ADDRESS, options)
    change_manifest(own_bundle, lambda content: content.update(release={"name": "demo", "counter": 1}))
    content = (own_bundle / "manifest.json").read_bytes()
    (own_bundle / "manifest.sig").write_bytes(read_private_key(pairs / "ours.key").sign(content))
    plan = plan_deployment(own_bundle, ADDRESS, options)
    assert plan.files["manifest.sig"] == 64
    assert any("trust" in step for step in plan.steps)
    # Without the option, too, it goes along.
    assert "manifest.sig" in plan_deployment(own_bundle, ADDRESS).files
    assert caught.value.hint
