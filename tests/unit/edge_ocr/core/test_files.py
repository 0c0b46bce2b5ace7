"""Files are written completely or not at all, also several that belong together."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_ocr.core.files import write_file, write_files
from edge_ocr.errors import UsageError


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


OLD = {"a.json": b"old", "a.jpg": b"old"}
NEW = {"a.json": b"new", "a.jpg": b"new"}


def place(folder: Path, contents: dict[str, bytes]) -> dict[Path, bytes]:
    return {folder / name: content for name, content in contents.items()}


@pytest.fixture
def older(tmp_path) -> Path:
    for path, content in place(tmp_path, OLD).items():
        path.write_bytes(content)
    return tmp_path


def test_files_are_written_into_a_new_folder_and_replaced(tmp_path):
    folder = tmp_path / "new" / "folder"
    for contents in (OLD, NEW):
        write_files(place(folder, contents), "hint")
        assert read(folder) == contents


def test_full_disk_keeps_the_older_pair(mount_small_disk):
    folder = mount_small_disk("64k")
    write_files(place(folder, OLD), "free some space")
    with pytest.raises(UsageError, match=rf"cannot write {folder}/a\.jpg: disk full$") as caught:
        write_files(place(folder, {"a.json": b"new", "a.jpg": bytes(100_000)}), "free some space")
    assert caught.value.hint == "free some space"
    assert read(folder) == OLD


def test_full_disk_leaves_neither_of_a_new_pair(mount_small_disk):
    folder = mount_small_disk("64k")
    with pytest.raises(UsageError, match="disk full"):
        write_files(place(folder, {"a.json": b"new", "a.jpg": bytes(100_000)}), "free some space")
    assert read(folder) == {}


def test_used_up_quota_is_a_full_disk(tmp_path, monkeypatch):
    def refuse(path: Path, content: bytes) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(UsageError, match=r"disk full \(your quota is used up\)") as caught:
        write_file(tmp_path / "a.json", b"new")
    assert "free some space" in caught.value.hint


@pytest.mark.parametrize("name", OLD)
def test_folder_in_the_place_of_a_file_keeps_both(older, name):
    (older / name).unlink()
    (older / name / "mine").mkdir(parents=True)
    with pytest.raises(UsageError, match=rf"cannot write .*{name}: Is a directory$") as caught:
        write_files(place(older, NEW), "free some space")
    assert caught.value.hint is None
    other = next(other for other in OLD if other != name)
    assert (older / other).read_bytes() == b"old"
    assert sorted(path.name for path in older.iterdir()) == sorted(OLD)
    assert (older / name / "mine").is_dir()


@pytest.mark.parametrize("is_new", [False, True])
@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()], ids=["OSError", "^C"]
)
@pytest.mark.parametrize("number", range(2))
def test_failed_rename_is_undone(tmp_path, monkeypatch, is_new, error, number):
    if not is_new:
        write_files(place(tmp_path, OLD), "hint")
    renames = 0

    def fail_once(path: Path, target: Path) -> None:
        nonlocal renames
        renames += 1
        if renames == number + 1:
            raise error
        rename(path, target)

    rename = Path.replace
    monkeypatch.setattr(Path, "replace", fail_once)
    with pytest.raises(UsageError if isinstance(error, OSError) else KeyboardInterrupt):
        write_files(place(tmp_path, NEW), "hint")
    assert read(tmp_path) == ({} if is_new else OLD)


def test_places_without_hard_links_keep_the_older_pair(older, monkeypatch):
    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    def fail_at_second(path: Path, target: Path) -> None:
        if target.name == "a.jpg" and path.suffix == ".part":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(path, target)

    rename = Path.replace
    monkeypatch.setattr(os, "link", refuse)
    write_files(place(older, NEW), "hint")
    assert read(older) == NEW
    monkeypatch.setattr(Path, "replace", fail_at_second)
    with pytest.raises(UsageError, match="Input/output error"):
        write_files(place(older, OLD), "hint")
    assert read(older) == NEW


def test_an_older_file_that_cannot_be_restored_is_not_removed(older, monkeypatch):
    def fail(path: Path, target: Path) -> None:
        if target.name == "a.jpg" or path.suffix == ".old":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(path, target)

    rename = Path.replace
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UsageError, match="Input/output error"):
        write_files(place(older, NEW), "hint")
    assert [path.read_bytes() for path in older.glob(".*.old")] == [b"old"]


@pytest.mark.parametrize("number", range(3))
def test_a_killed_process_leaves_each_file_old_or_new(older, repository, number):
    program = """
import os, sys
from pathlib import Path
from edge_ocr.core.files import write_files

left = int(sys.argv[1])

def rename(path, target):
    global left
    if left == 0:
        os._exit(9)
    left -= 1
    os.replace(path, target)

Path.replace = rename
write_files({Path("a.json"): b"new", Path("a.jpg"): b"new"}, "hint")
"""
    env = {**os.environ, "PYTHONPATH": str(repository)}
    ended = subprocess.run([sys.executable, "-c", program, str(number)], cwd=older, env=env, check=False)
    assert ended.returncode == (9 if number < 2 else 0)
    left = {name: content for name, content in read(older).items() if name in OLD}
    assert left == {0: OLD, 1: {"a.json": b"new", "a.jpg": b"old"}, 2: NEW}[number]
