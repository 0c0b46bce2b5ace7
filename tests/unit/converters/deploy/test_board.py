"""The board's side of a deployment: copying, installing, switching, and what can go wrong in each."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from support.processes import wait_until

from converters.bundle.ownership import SEAL
from converters.deploy import board as deploy_board
from converters.deploy.board import open_board
from converters.processes.ssh import SshAddress, parse_place
from edge_ocr.errors import EdgeOcrError, ModelError, NotVerifiedError, ParityError, ToolchainError, UsageError


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_a_bundle_is_put_in_place_and_replaces_the_previous_one(board, make_files, shell):
    board.use_shell(shell)
    install = "echo one; echo two >&2; pwd >where; printf '%s|' \"$@\" >arguments; ls -A >names"
    assert board.deploy(make_files(install, name="1"), "my ocr", ("--python", "a b")) == []
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
    assert board.deploy(make_files(name="2"), "my ocr") == ["kept 4 of your files"]
    assert board.list_home() == ["my ocr"]
    assert board.read_name(place) == "2"
    assert (place / "mine").exists()


def write_files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"mine: {name}", encoding="utf-8")


def list_files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or path.is_file()}


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_files_of_the_user_are_kept(board, make_files, shell):
    board.use_shell(shell)
    place = board.home / "ocr"
    board.deploy(make_files(name="1", others=("gone.txt", "lib/old/x.so", "runtime/a.py")))
    mine = (
        "photo 1.jpg",
        "-rf",
        ".hidden",
        "..two",
        "results/a/b.json",
        "results/.c",
        "photos/x.jpg",  # the name of another key of the manifest
        "models/*.nb",  # in a folder of the bundle
        "lib/old/mine.so",  # in one that the new bundle lacks
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
    assert board.deploy(new) == ["kept 16 of your files"]
    assert list_files(place) == {*new, *mine, "pictures", "results/link", "models/broken"}
    assert (place / "empty").is_dir()
    assert (place / "results" / "pipe").is_fifo()
    assert (place / "photo 1.jpg").stat().st_ino == inode
    assert {(place / name).read_text() for name in mine} == {f"mine: {name}" for name in mine}
    assert (place / "pictures").readlink() == outside
    assert list_files(outside) == {"not ours.jpg", "gone.txt"}
    assert board.list_home() == ["ocr"]
    # The next time, too.
    assert board.deploy(make_files(name="3")) == ["kept 16 of your files"]


def seal(manifest: Path) -> None:
    """Seal a manifest as the exporter does."""
    content = {**json.loads(manifest.read_bytes()), SEAL: ""}
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    content[SEAL] = hashlib.sha256(text.encode()).hexdigest()
    manifest.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def edit_manifest(place: Path, outside: Path) -> None:
    content = {**json.loads((place / "manifest.json").read_bytes()), "lite": {}}
    (place / "manifest.json").write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8")


def change_link(place: Path, outside: Path) -> None:
    (place / "models").rename(outside)
    (place / "models").symlink_to(outside)


CHANGES = {
    "edited": ("models/a b.nb", lambda place, outside: (place / "models" / "a b.nb").write_text("mine")),
    "linked": ("models", change_link),
    "added where the new one has a file": ("onnx/det.onnx", lambda place, outside: write_files(place, "onnx/det.onnx")),
    "added where the new one has a folder": ("plan", lambda place, outside: write_files(place, "plan")),
    "edited manifest": ("manifest.json", edit_manifest),
}


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
@pytest.mark.parametrize("kind", CHANGES)
def test_changed_files_stop_a_deployment_before_anything_is_copied(board, make_files, kind, shell):
    board.use_shell(shell)
    place, outside = board.home / "ocr", board.home.parent / "outside"
    old = make_files(name="1")
    if kind == "edited manifest":
        seal(old["manifest.json"])
    board.deploy(old)
    name, change = CHANGES[kind]
    change(place, outside)
    before = list_files(place)
    new = make_files(name="2", others=("onnx/det.onnx", "plan/b"))
    # The board no longer has the program to copy with.
    (board.programs / "tar").rename(board.programs / "star")
    board.put("tar", "exit 1")
    with pytest.raises(UsageError) as caught:
        board.deploy(new)
    assert caught.value.message.endswith(f" in {place} would be lost: {name}")
    assert "--force" in caught.value.hint
    assert list_files(place) == before
    assert board.list_home() == ["ocr"]


@pytest.mark.parametrize("kind", CHANGES)
def test_with_force_changed_files_are_kept_next_to_the_new_bundle(board, make_files, kind):
    place, outside = board.home / "ocr", board.home.parent / "outside"
    old = make_files(name="1")
    if kind == "edited manifest":
        seal(old["manifest.json"])
    board.deploy(old)
    name, change = CHANGES[kind]
    change(place, outside)
    write_files(place, "mine")
    before = list_files(place)
    new = make_files(name="2", others=("onnx/det.onnx", "plan/b"))
    kept, note = board.deploy(new, force=True)
    assert kept == "kept 1 of your files"
    _, beside = board.list_home()
    assert beside.startswith("ocr.old-")
    assert note == (
        f"kept {board.home / beside} on board: you changed or added files that the new bundle lacks: {name}"
    )
    assert list_files(board.home / beside) == before
    assert list_files(place) == {*new, "mine"}


def test_files_changed_during_installation_stop_the_switch(board, make_files):
    place = board.home / "ocr"
    board.deploy(make_files(name="1"))
    new = make_files(f"echo mine >'{place}/models/a b.nb'", name="2")
    with pytest.raises(UsageError, match=rf"{place} .*: models/a b\.nb$"):
        board.deploy(new)
    assert board.list_home() == ["ocr"]
    assert (place / "models" / "a b.nb").read_text() == "mine\n"
    assert board.read_name(place) == "1"


def test_files_added_during_the_switch_are_kept(board, make_files):
    board.deploy(make_files(name="1"))
    write_files(board.home / "ocr", "results/1")
    real = (board.programs / "mv").readlink()
    board.put("mv", f'case $2 in */ocr) echo mine >"$2/results/2"; esac; exec {real} "$@"')
    assert board.deploy(make_files(name="2")) == ["kept 1 of your files"]
    assert list_files(board.home / "ocr") == {*make_files(), "results/1", "results/2"}
    assert board.list_home() == ["ocr"]


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_files_changed_during_the_switch_stay_in_the_old_bundle(board, make_files, shell):
    board.use_shell(shell)
    place = board.home / "ocr"
    board.deploy(make_files(name="1"))
    write_files(place, "results.json", "deep/er/results.json", "log.txt", "same")
    # Between keeping files and the rename, possibly minutes.
    real = (board.programs / "sync").readlink()
    changes = (
        "for name in results.json deep/er/results.json; do echo new >.tmp && mv .tmp $name; done",
        "cat same >.tmp && mv .tmp same",
        "echo more >>log.txt",
        "echo edited >>'models/a b.nb'",
        "mkdir new; echo new >new/late",
    )
    board.put("sync", f"cd '{place}' || exit 1\n" + "\n".join(changes) + f"\nexec {real}")
    kept, note = board.deploy(make_files(name="2"))
    assert kept == "kept 4 of your files"
    _, beside = board.list_home()
    old = board.home / beside
    named = "models/a b.nb, deep/er/results.json, results.json"
    assert note.startswith(f"kept {old} on board: ")
    assert note.endswith(f": {named}")
    assert [(old / name).read_text() for name in ("results.json", "deep/er/results.json")] == ["new\n"] * 2
    assert (old / "models" / "a b.nb").read_text().endswith("edited\n")
    assert board.read_name(place) == "2"
    assert (place / "results.json").read_text() == "mine: results.json"
    assert (place / "log.txt").read_text().endswith("more\n")
    assert (place / "new" / "late").read_text() == "new\n"


@pytest.mark.parametrize("change", ["rm manifest.json", "rm -r models *.json *.sh edge-*; echo mine >photo.jpg"])
def test_a_folder_that_is_no_longer_a_bundle_when_moved_away_stays(board, make_files, change):
    place = board.home / "ocr"
    board.deploy(make_files(name="1"))
    real = (board.programs / "mv").readlink()
    board.put("mv", f'case $2 in */ocr) (cd "$2" && {change});; esac; exec {real} "$@"')
    (note,) = board.deploy(make_files(name="2"))
    _, beside = board.list_home()
    assert note.startswith(f"kept {board.home / beside} on board: ")
    assert note.endswith("/manifest.json: No such file or directory")
    assert board.read_name(place) == "2"


def test_a_foreign_folder_that_appears_during_sync_is_not_replaced(board, make_files):
    place = board.home / "ocr"
    board.deploy(make_files(name="1"))
    real = (board.programs / "sync").readlink()
    board.put("sync", f"cd '{board.home}' && mv ocr mine && mkdir ocr && echo cat >ocr/cat.jpg\nexec {real}")
    with pytest.raises(UsageError, match=r"^board: /.*/ocr "):
        board.deploy(make_files(name="2"))
    assert board.list_home() == ["mine", "ocr"]
    assert (place / "cat.jpg").exists()


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", ["disk", "folder of the same disk"])
def test_a_mount_in_a_bundle_stops_a_deployment_before_anything_is_copied(board, make_files, kind, force):
    place = board.home / "ocr"
    board.deploy(make_files(name="1"))
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
        with pytest.raises(UsageError, match=rf": {photos}: ") as caught:
            board.deploy(make_files(name="2"), force=force)
    finally:
        subprocess.run(["umount", photos], check=True)
    assert caught.value.hint == "unmount it, or deploy to another folder"
    assert (board.list_home(), board.read_name(place)) == (["ocr"], "1")
    assert list_files(outside) == {"cat.jpg"}


def test_a_bundle_whose_files_cannot_be_listed_is_kept(board, make_files):
    place = board.home / "ocr"
    board.deploy(make_files(name="1"))
    (place / "manifest.json").write_text('{"edge_ocr_version": "1", ')
    message = "^board: .*: Expecting property name"
    with pytest.raises(UsageError, match=message):
        board.deploy(make_files(name="2"))
    # Without a list, all files are the user's.
    (place / "manifest.json").write_text('{"edge_ocr_version": "1"}')
    with pytest.raises(UsageError, match=r": edge-ocr-lite, install\.sh, models/a b\.nb$"):
        board.deploy(make_files(name="2"))
    assert board.list_home() == ["ocr"]
    board.put("python3", "echo 3.11.2")
    with pytest.raises(ToolchainError, match=r"/ocr .*b'3\.11\.2"):
        board.deploy(make_files(name="2"))
    assert board.list_home() == ["ocr"]


@pytest.mark.parametrize("linked", [False, True])
def test_a_bundle_moved_away_by_an_interrupted_switch_is_restored(board, make_files, linked):
    place = board.home / "ocr"
    if linked:
        (board.home / "disk").mkdir()
        place.symlink_to("disk/real")
        place = board.home / "disk" / "real"
        place.mkdir()
    board.deploy(make_files(name="1"))
    # Left by a power failure.
    place.rename(f"{place}.old-0123abcd")
    (place.parent / f"{place.name}.new-0123abcd").mkdir()
    with board.open() as opened:
        assert opened.replaces
        assert board.read_name(board.home / "ocr") == "1"
    old = f"{place}.old-0123abcd"
    assert any(f"{old} back to {place}" in step for step in board.steps)
    assert not Path(old).exists()
    assert board.read_name(place) == "1"


@pytest.mark.parametrize("kind", ["two", "no bundle", "link", "place is there"])
def test_unclear_leftovers_are_not_restored(board, make_files, kind):
    place, old = board.home / "ocr", board.home / "ocr.old-1"
    board.deploy(make_files(name="1"))
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
    assert board.steps[-1].endswith("it may contain files of yours")


def test_the_board_is_described(board, make_files):
    with board.open() as opened:
        assert opened.place == str(board.home / "ocr")
        assert opened.machine == os.uname().machine
        assert opened.python_version.startswith("3.")
        assert not opened.replaces
    (line,) = board.steps
    assert line.startswith(f"board: {os.uname().machine}, Python 3.")
    assert line.endswith(" MB free")
    board.deploy(make_files())
    with (
        pytest.raises(ToolchainError, match=r"^board: no-such-python "),
        board.open(python="no-such-python"),
    ):
        pass
    assert "Python missing" in board.steps[-1]


def test_a_link_to_a_bundle_stays_a_link(board, make_files):
    (board.home / "disk").mkdir()
    (board.home / "ocr").symlink_to("disk/real")
    with pytest.raises(UsageError, match=r"^board: /.*/ocr "), board.open():
        pass
    (board.home / "disk" / "real").mkdir()
    board.deploy(make_files(name="1"))
    board.deploy(make_files(name="2"))
    assert (board.home / "ocr").is_symlink()
    assert [path.name for path in (board.home / "disk").iterdir()] == ["real"]
    assert board.read_name(board.home / "ocr") == "2"


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
    with pytest.raises(UsageError, match=r"^board: /") as caught, board.open(path):
        pass
    assert "--ssh pi@board:DIR" in caught.value.hint
    assert board.list_home() == before


def test_a_folder_that_appears_meanwhile_is_not_replaced(board, make_files):
    with board.open() as opened:
        opened.copy(make_files())
        (board.home / "ocr").mkdir()
        (board.home / "ocr" / "photo.jpg").touch()
        with pytest.raises(UsageError, match=r"^board: /.*/ocr "):
            opened.switch()
    assert board.list_home() == ["ocr"]
    assert (board.home / "ocr" / "photo.jpg").exists()


def test_an_empty_folder_is_replaced(board, make_files):
    (board.home / "ocr").mkdir()
    board.deploy(make_files())
    assert board.list_home() == ["ocr"]
    assert board.read_name(board.home / "ocr") == "new"


def test_a_folder_above_that_is_missing_is_reported(board):
    with pytest.raises(UsageError, match=r"^board: .* apps for apps/ocr") as caught, board.open("apps/ocr"):
        pass
    assert caught.value.hint == "run ssh pi@board 'mkdir -p -- apps'"
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


def test_a_folder_that_cannot_be_written_is_reported(board):
    with pytest.raises(UsageError, match=r"^board: .* /proc: mkdir: .*ocr\.new"), board.open("/proc/ocr"):
        pass


def test_a_user_without_a_home_is_reported(board, tmp_path):
    board.home.rmdir()
    with pytest.raises(UsageError, match=r"^board: .*home") as caught, board.open():
        pass
    assert caught.value.hint.endswith("--ssh pi@board:/ABSOLUTE/DIR")
    with board.open(str(tmp_path / "ocr")) as opened:
        assert opened.place == str(tmp_path / "ocr")


def test_a_board_without_tar_is_reported(board):
    (board.programs / "tar").unlink()
    with pytest.raises(ToolchainError, match=r"^board: tar ") as caught, board.open():
        pass
    assert "apt install tar" in caught.value.hint
    assert board.list_home() == []


def test_a_board_without_room_is_reported_before_anything_is_copied(board):
    row = "/dev/my disk          1000  995     5 100% /home"
    board.put("df", f"echo 'Filesystem 1024-blocks Used Available Capacity Mounted on'; echo '{row}'")
    message = r"^board: .*/home/ocr: .*6\.0 MB, 0\.0 MB"
    with pytest.raises(UsageError, match=message), board.open(needed_bytes=6_000_000):
        pass
    assert board.list_home() == []
    with board.open(needed_bytes=5 * 1024):
        pass


def test_unexpected_output_of_df_is_ignored(board):
    board.put("df", "exit 1")
    with board.open(needed_bytes=10**15):
        pass
    assert "free space unknown" in board.steps[0]


def test_a_disk_that_fills_up_is_reported(board, make_files):
    board.put("tar", "echo 'tar: models/a: Cannot write: No space left on device' >&2; exit 2")
    with pytest.raises(UsageError, match=r"/ocr: .* MB"), board.open() as opened:
        opened.copy(make_files())
    assert board.list_home() == []


def test_a_copy_that_fails_is_reported(board, make_files):
    board.put("tar", "echo 'tar: broken' >&2; exit 2")
    with (
        pytest.raises(ToolchainError, match=r"/ocr: tar: broken"),
        board.open() as opened,
    ):
        opened.copy(make_files())
    assert board.list_home() == []


def test_a_file_that_is_gone_is_reported(board, make_files):
    files = make_files()
    files["models/a b.nb"].unlink()
    with pytest.raises(ModelError, match=r"a b\.nb: "), board.open() as opened:
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
def test_the_installers_failure_is_raised_and_the_old_bundle_stays(board, make_files, install, kind, message, hint):
    board.deploy(make_files(name="old"))
    with pytest.raises(EdgeOcrError) as caught:
        board.deploy(make_files(f"echo working >&2; {install}"))
    assert type(caught.value) is kind
    assert caught.value.message == message.format(place=board.home / "ocr")
    assert caught.value.hint is None if hint is None else hint in caught.value.hint
    assert board.list_home() == ["ocr"]
    assert board.read_name(board.home / "ocr") == "old"
    assert "working" in board.steps
    assert not [step for step in board.steps if step.startswith(("Error:", "Hint:"))]


def test_output_of_the_board_cannot_control_the_terminal(board, make_files):
    board.deploy(make_files(r"printf 'a\033[2Jb\n' >&2"))
    assert board.steps[-1] == r"a\x1b[2Jb"


def test_greetings_are_not_mistaken_for_answers(board, make_files):
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
    board.deploy(make_files(name="old"))
    real = (board.programs / "mv").readlink()
    board.put("mv", f'case $2 in *.new-*) echo "mv: busy" >&2; exit 1;; esac; exec {real} "$@"')
    with pytest.raises(UsageError, match=r"^board: .*/ocr: mv: busy"):
        board.deploy(make_files())
    assert board.list_home() == ["ocr"]
    assert board.read_name(board.home / "ocr") == "old"
    board.put("mv", 'echo "mv: mounted" >&2; exit 1')
    with pytest.raises(UsageError, match="/ocr: mv: mounted"):
        board.deploy(make_files())
    assert board.list_home() == ["ocr"]
    assert board.read_name(board.home / "ocr") == "old"


def test_an_old_bundle_that_cannot_be_removed_is_reported(board, make_files):
    board.deploy(make_files(name="old"))
    real = (board.programs / "rm").readlink()
    board.put("rm", f'case $3 in *.old-*) exit 1;; esac; exec {real} "$@"')
    (note,) = board.deploy(make_files())
    assert note.startswith(f"could not remove {board.home / 'ocr'}.old-")
    assert board.read_name(board.home / "ocr") == "new"
    with board.open():
        pass
    assert board.steps[-1].startswith(f"WARNING: {board.home / 'ocr'}.old-")


def test_a_new_folder_that_cannot_be_removed_is_reported(board):
    with board.open():
        board.put("rm", "exit 1")
        board.put("sleep", "exit 0")
    assert board.steps[-1].startswith("WARNING: ")


def list_sleepers(folder: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes().split(b"\0")[0]
            if str(folder) in str((process / "cwd").readlink()) and command.endswith(b"sleep"):
                found.append(int(process.name))
    return found


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_a_hanging_command_is_ended_with_all_its_children(board, make_files, monkeypatch, shell):
    board.use_shell(shell)
    board.deploy(make_files(name="old"))
    monkeypatch.setattr(deploy_board, "RUN_TIMEOUT_S", 1.0)
    with pytest.raises(ToolchainError, match=r"^board: .*install\.sh .*1 s: thinking"):
        board.deploy(make_files("echo thinking >&2; sleep 100 & sleep 100; echo late >&2"))
    assert wait_until(lambda: list_sleepers(board.home) == [])
    assert board.list_home() == ["ocr"]
    assert board.read_name(board.home / "ocr") == "old"


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


def test_a_missing_ssh_is_reported(board, monkeypatch, tmp_path):
    (tmp_path / "nothing").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(ToolchainError, match="ssh") as caught, board.open():
        pass
    assert "openssh-client" in caught.value.hint
