import errno
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from converters.bundle import writer as bundle_writer
from converters.bundle.ownership import list_written, take_along
from converters.bundle.writer import check_out_dir, check_zip, open_bundle, put_back, write_zip
from edge_ocr.errors import UsageError


def write_bundle(out, content=b"content", *, force=False):
    with open_bundle(out, force=force) as bundle:
        bundle.add("models/det.nb", content)
        bundle.add_manifest({"edge_ocr_version": "0", "b": 1, "a": "é"})


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_bundle_holds_the_files_and_a_manifest_of_them(tmp_path):
    out = tmp_path / "new" / "bundle"
    write_bundle(out)
    assert (out / "models" / "det.nb").read_bytes() == b"content"
    text = (out / "manifest.json").read_text(encoding="utf-8")
    assert text.startswith('{\n  "a": "é",\n  "b": 1,')
    assert json.loads(text)["files"] == {
        "models/det.nb": {"sha256": hashlib.sha256(b"content").hexdigest(), "size_bytes": 7}
    }
    assert list_names(out.parent) == ["bundle"]


def test_bundle_is_readable_like_any_new_folder(tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    write_bundle(tmp_path / "bundle")
    assert stat.S_IMODE((tmp_path / "bundle").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_same_content_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_bundle(tmp_path / name)
    assert (tmp_path / "a" / "manifest.json").read_bytes() == (tmp_path / "b" / "manifest.json").read_bytes()


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "bundle").mkdir()
    write_bundle(tmp_path / "bundle")
    assert list_names(tmp_path / "bundle") == ["manifest.json", "models"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_of_a_failure(tmp_path, error):
    def fail():
        with open_bundle(tmp_path / "bundle") as bundle:
            bundle.add("models/det.nb", b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert list_names(tmp_path) == []


def test_a_bundle_is_kept_without_force(tmp_path):
    write_bundle(tmp_path / "bundle", b"old")
    with pytest.raises(UsageError, match=r"--out .*a bundle") as caught:
        write_bundle(tmp_path / "bundle", b"new")
    assert "--force" in caught.value.hint
    assert (tmp_path / "bundle" / "models" / "det.nb").read_bytes() == b"old"


def test_force_replaces_a_bundle_with_all_its_files(tmp_path):
    with open_bundle(tmp_path / "bundle") as bundle:
        bundle.add("models/cls.nb", b"from before")
        bundle.add("lib/armv8/a.so", b"from before")
        bundle.add_manifest({"edge_ocr_version": "0"})
    (tmp_path / "bundle" / "manifest.sig").write_bytes(b"of that manifest")
    (tmp_path / "bundle" / ".installed" / "venv").mkdir(parents=True)
    (tmp_path / "bundle" / "models" / "__pycache__").mkdir()
    write_bundle(tmp_path / "bundle", b"new", force=True)
    assert (tmp_path / "bundle" / "models" / "det.nb").read_bytes() == b"new"
    assert list_written(tmp_path / "bundle") == ["manifest.json", "models/det.nb"]
    assert list_names(tmp_path / "bundle") == ["manifest.json", "models"]
    assert list_names(tmp_path) == ["bundle"]


# --- the user's files


def list_tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture
def used(tmp_path):
    """A bundle with the user's files, of every kind."""
    out = tmp_path / "bundle"
    with open_bundle(out) as bundle:
        bundle.add("models/det.nb", b"old")
        bundle.add("gone/with/this.so", b"old")
        bundle.add_manifest({"edge_ocr_version": "0"})
    for name in ("photo 1.jpg", "results/a/b.json", "models/mine.nb", "gone/with/mine.so", ".hidden", "-rf"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(f"mine: {name}")
    (out / "empty" / "too").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "cat.jpg").touch()
    (out / "pictures").symlink_to(tmp_path / "outside")
    (out / "models" / "broken").symlink_to("nowhere")
    os.link(tmp_path / "outside" / "cat.jpg", out / "results" / "cat.jpg")
    os.mkfifo(out / "results" / "pipe")
    (out / "results").chmod(0o700)
    os.utime(out / "results", (1e9, 1e9))
    return out


@pytest.mark.parametrize("can_exchange", [True, False])
def test_what_the_user_added_is_kept_as_it_is(used, tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(bundle_writer, "_exchange", lambda one, other: False)
    ours = {"gone", "gone/with", "gone/with/this.so"}
    expected = sorted({*list_tree(used)} - {"gone/with/this.so"})
    inode = (used / "results" / "a" / "b.json").stat().st_ino
    steps = []
    with open_bundle(used, force=True, report=steps.append) as bundle:
        bundle.add("models/det.nb", b"new")
        bundle.add_manifest({"edge_ocr_version": "0"})
    assert ours & {*expected} == {"gone", "gone/with"}
    assert list_tree(used) == expected
    assert [step.partition(":")[0] for step in steps] == ["kept 10 of your files"]
    assert (used / "models" / "det.nb").read_bytes() == b"new"
    assert (used / "results" / "a" / "b.json").stat().st_ino == inode
    assert (used / "results" / "pipe").is_fifo()
    assert (used / "pictures").readlink() == tmp_path / "outside"
    assert (used / "results" / "cat.jpg").samefile(tmp_path / "outside" / "cat.jpg")
    assert (tmp_path / "outside" / "cat.jpg").stat().st_nlink == 2
    assert stat.S_IMODE((used / "results").stat().st_mode) == 0o700
    assert (used / "results").stat().st_mtime == 1e9
    assert list_names(tmp_path) == ["bundle", "outside"]


def refuse_link(source, target, **options):
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(source))


def test_without_hard_links_files_are_copied(used, monkeypatch):
    monkeypatch.setattr(os, "link", refuse_link)
    (used / "results" / "pipe").unlink()
    write_bundle(used, b"new", force=True)
    assert (used / "results" / "a" / "b.json").read_text() == "mine: results/a/b.json"
    assert (used / "models" / "broken").is_symlink()


@pytest.mark.parametrize("kind", ["content", "link", "folder", "manifest", "indented manifest", "folder linked"])
def test_what_the_user_changed_stops_a_replacement(tmp_path, kind):
    out, name = tmp_path / "bundle", "models/det.nb"
    write_bundle(out, b"old")
    (out / "mine").touch()
    path = out / name
    if kind == "content":
        path.write_bytes(b"mine")
    elif kind == "link":
        path.rename(tmp_path / "det.nb")
        path.symlink_to(tmp_path / "det.nb")
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "folder linked":
        name = "models"
        path.parent.rename(tmp_path / "models")
        path.parent.symlink_to(tmp_path / "models")
    else:
        name = "manifest.json"
        content = json.loads((out / name).read_bytes())
        content["b"] += kind == "manifest"
        indent = 2 if kind == "manifest" else 4
        (out / name).write_text(json.dumps(content, indent=indent, sort_keys=True, ensure_ascii=False) + "\n")
    before = list_tree(out)
    with pytest.raises(UsageError, match=rf"--force .*: {name}$") as caught:
        check_out_dir(out, force=True)
    assert caught.value.hint.startswith("move them elsewhere, or give another --out")
    with pytest.raises(UsageError, match=f": {name}$"):
        write_bundle(out, b"new", force=True)
    assert list_tree(out) == before
    assert list_names(tmp_path) == ["bundle", *(["det.nb"] if kind == "link" else ["models"] * (kind[-1] == "d"))]


def test_a_manifest_without_a_seal_is_ours(tmp_path):
    write_bundle(tmp_path / "bundle", b"old")
    manifest = tmp_path / "bundle" / "manifest.json"
    content = json.loads(manifest.read_bytes())
    del content["manifest_sha256"]
    manifest.write_text(json.dumps(content, indent=2))
    write_bundle(tmp_path / "bundle", b"new", force=True)


@pytest.mark.parametrize("name", ["models/det.nb", "models"])
def test_a_file_of_the_user_at_a_path_of_the_new_bundle_stops_it(tmp_path, name):
    out = tmp_path / "bundle"
    with open_bundle(out) as bundle:
        bundle.add_manifest({"edge_ocr_version": "0"})
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_bytes(b"mine")
    check_out_dir(out, force=True)  # it is not known yet
    with pytest.raises(UsageError, match=rf"--force .*: {name}$"):
        write_bundle(out, b"new", force=True)
    assert (out / name).read_bytes() == b"mine"
    assert list_names(tmp_path) == ["bundle"]


def test_files_added_during_the_switch_are_kept(used, monkeypatch):
    switch = bundle_writer._switch

    def write_then_switch(partial, place):
        (place / "results" / "late.json").write_text("late")
        return switch(partial, place)

    monkeypatch.setattr(bundle_writer, "_switch", write_then_switch)
    write_bundle(used, b"new", force=True)
    assert (used / "results" / "late.json").read_text() == "late"
    assert list_names(used.parent) == ["bundle", "outside"]


@pytest.mark.parametrize("can_exchange", [True, False])
@pytest.mark.parametrize("has_links", [True, False])
def test_files_changed_during_the_switch_stay_in_the_old_bundle(used, monkeypatch, can_exchange, has_links):
    (used / "results" / "pipe").unlink()
    if not can_exchange:
        monkeypatch.setattr(bundle_writer, "_exchange", lambda one, other: False)
    if not has_links:
        monkeypatch.setattr(os, "link", refuse_link)
    switch = bundle_writer._switch

    def change_then_switch(partial, place):
        (place / "models" / "det.nb").write_text("edited")
        # As editors do: the name then belongs to another file.
        (place / ".tmp").write_text("mine: new words!")
        (place / ".tmp").rename(place / "photo 1.jpg")
        (place / "results" / "late.json").write_text("late")
        return switch(partial, place)

    monkeypatch.setattr(bundle_writer, "_switch", change_then_switch)
    steps = []
    with open_bundle(used, force=True, report=steps.append) as bundle:
        bundle.add("models/det.nb", b"new")
        bundle.add_manifest({"edge_ocr_version": "0"})
    (old,) = used.parent.glob(".bundle.*.old")
    assert steps[-1].startswith(f"WARNING: kept the previous bundle as {old}: ")
    assert steps[-1].endswith(": models/det.nb, photo 1.jpg")
    assert (old / "models" / "det.nb").read_text() == "edited"
    assert (old / "photo 1.jpg").read_text() == "mine: new words!"
    assert (used / "models" / "det.nb").read_bytes() == b"new"
    assert (used / "photo 1.jpg").read_text() == "mine: photo 1.jpg"
    assert (used / "results" / "late.json").read_text() == "late"
    # The next export leaves it, too.
    put_back(used, report=steps.append)
    assert steps[-1].endswith("may contain files of yours")
    assert (old / "models" / "det.nb").read_text() == "edited"


def test_a_name_that_differs_only_in_case_is_not_lost(tmp_path, monkeypatch):
    # On a case-insensitive disk, `det.NB` conflicts with `det.nb`, although the names differ.
    out = tmp_path / "bundle"
    with open_bundle(out) as bundle:
        bundle.add_manifest({"edge_ocr_version": "0"})
    (out / "models").mkdir()
    (out / "models" / "det.nb").write_bytes(b"mine")
    monkeypatch.setattr(bundle_writer, "list_written", lambda folder: ["manifest.json", "models/DET.nb"])
    with pytest.raises(UsageError, match=r"--force .*: models/det\.nb$"):
        write_bundle(out, b"new", force=True)
    assert (out / "models" / "det.nb").read_bytes() == b"mine"
    assert list_names(tmp_path) == ["bundle"]


@pytest.mark.parametrize("kind", ["folder", "link", "link to a folder", "pipe"])
def test_what_is_in_the_way_is_reported_and_stays(tmp_path, kind):
    source, target = tmp_path / "source", tmp_path / "target"
    for made in (source, target, target / "a", tmp_path / "outside"):
        made.mkdir()
    (source / "c").write_text("c")
    if kind == "folder":
        (source / "a").write_text("a")
    elif kind == "link":
        (source / "a").symlink_to("c")
    elif kind == "pipe":
        os.mkfifo(source / "a")
    else:
        (source / "a").mkdir()
        (source / "a" / "b").write_text("b")
        (target / "a").rmdir()
        (target / "a").symlink_to(tmp_path / "outside")
    assert take_along(source, target, ["a", "c"]) == (1, ["a"])
    assert (target / "c").samefile(source / "c")
    assert list_tree(target) == ["a", "c"]
    assert list_names(tmp_path / "outside") == []
    # An existing file does not conflict with itself.
    assert take_along(source, target, ["c"]) == (1, [])


@pytest.fixture
def mount(tmp_path):
    """Mount something in a folder of the test; skips if that is not allowed."""
    mounted = []

    def mount(*arguments):
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"nothing can be mounted: {done.stderr.strip()}")
        mounted.append(arguments[-1])

    yield mount
    for place in mounted:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("kind", ["disk", "folder of the same disk"])
def test_a_mount_in_a_bundle_stops_its_replacement_before_any_work(tmp_path, mount, kind):
    out, outside, place = tmp_path / "bundle", tmp_path / "outside", tmp_path / "bundle" / "my photos"
    write_bundle(out)
    for made in (outside, place):
        made.mkdir()
    (outside / "cat.jpg").touch()
    mount(*(["-t", "tmpfs", "tmpfs"] if kind == "disk" else ["--bind", outside]), place)
    with pytest.raises(UsageError, match=rf": {place}: "):
        check_out_dir(out, force=True)
    assert list_names(outside) == ["cat.jpg"]


def test_a_failed_bundle_with_files_of_the_user_stays(tmp_path):
    def fail():
        with open_bundle(tmp_path / "new") as bundle:
            bundle.add_manifest({"edge_ocr_version": "0"})
            bundle.keep_failed()
            raise RuntimeError

    for _ in range(2):
        with pytest.raises(RuntimeError):
            fail()
    assert list_names(tmp_path) == ["new.failed"]
    (tmp_path / "new.failed" / "notes.txt").touch()
    with pytest.raises(RuntimeError):
        fail()
    assert (tmp_path / "new.failed" / "notes.txt").exists()
    assert len(list_names(tmp_path)) == 2


# --- exports that are killed


KILLED = """
import os, signal, sys
from pathlib import Path
from converters.bundle import writer as bundle_writer

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

rename, exchange = Path.rename, bundle_writer._exchange
if sys.argv[2] == "between renames":
    bundle_writer._exchange = lambda one, other: False
    Path.rename = lambda path, target: die() if target == Path(sys.argv[1]) else rename(path, target)
elif sys.argv[2] == "renamed":
    bundle_writer._exchange = die
elif sys.argv[2] == "exchanged, late":
    def write_and_die(one, other):
        (other / "late").write_text("mine")
        return exchange(one, other) and die()
    bundle_writer._exchange = write_and_die
elif sys.argv[2] == "before":
    bundle_writer._switch = die
else:
    bundle_writer._exchange = lambda one, other: exchange(one, other) and die()
with bundle_writer.open_bundle(Path(sys.argv[1]), force=True) as bundle:
    bundle.add("models/det.nb", b"new")
    bundle.add_manifest({"edge_ocr_version": "0"})
"""


def kill_export(repository, out, when):
    """Kill an export to `out` at a point of its switch; return what it leaves next to it."""
    env = {**os.environ, "PYTHONPATH": str(repository)}
    ended = subprocess.run([sys.executable, "-c", KILLED, out, when], env=env, capture_output=True, check=False)
    if "exchanged" in when and ended.returncode == 0:
        pytest.skip("this system or file system cannot exchange folders")
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    return [path for path in sorted(out.parent.iterdir()) if path != out]


@pytest.mark.parametrize("when", ["before", "renamed", "between renames", "exchanged"])
def test_a_killed_export_costs_nothing(tmp_path, repository, when):
    out = tmp_path / "bundle"
    write_bundle(out, b"old")
    (out / "mine").write_text("mine")
    left = kill_export(repository, out, when)
    steps = []
    put_back(out, report=steps.append)
    assert list_names(tmp_path) == ["bundle"]
    content = b"new" if when == "exchanged" else b"old"
    assert (out / "models" / "det.nb").read_bytes() == content
    assert (out / "mine").read_text() == "mine"
    told = [f"removed {left[-1]}, left by an interrupted export"]
    if when == "between renames":
        assert [path.suffix for path in left] == [".old", ".partial"]
        told.insert(0, f"WARNING: an earlier export was interrupted: moved {left[0]} back to {out}")
    assert steps == told
    write_bundle(out, b"newer", force=True)
    assert (out / "mine").read_text() == "mine"


def test_a_killed_export_keeps_files_added_during_the_switch(tmp_path, repository):
    out = tmp_path / "bundle"
    write_bundle(out, b"old")
    (old,) = kill_export(repository, out, "exchanged, late")
    steps = []
    put_back(out, report=steps.append)
    assert (out / "models" / "det.nb").read_bytes() == b"new"
    assert (old / "late").read_text() == "mine"
    assert steps == [f"WARNING: {old} is from an interrupted export and may contain files of yours"]


def test_the_folder_of_another_export_is_left_alone(tmp_path):
    steps = []
    with open_bundle(tmp_path / "bundle") as bundle:
        put_back(tmp_path / "bundle", report=steps.append)
        bundle.add_manifest({"edge_ocr_version": "0"})
    assert len(steps) == 1
    assert steps[0].endswith(".partial: belongs to another export, which is running")
    assert list_names(tmp_path) == ["bundle"]


def test_an_export_to_another_place_does_not_hinder(tmp_path):
    old, steps = tmp_path / ".bundle.0123abcd.old", []
    write_bundle(old, b"old")
    with open_bundle(tmp_path / "other") as bundle:
        put_back(tmp_path / "bundle", report=steps.append)
        bundle.add_manifest({"edge_ocr_version": "0"})
    assert (tmp_path / "bundle" / "models" / "det.nb").read_bytes() == b"old"
    assert steps == [f"WARNING: an earlier export was interrupted: moved {old} back to {tmp_path / 'bundle'}"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_an_export_that_has_just_switched_is_left_alone(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(bundle_writer, "_exchange", lambda one, other: False)
    out, remove, steps = tmp_path / "bundle", bundle_writer._remove_old, []

    def put_back_then_remove(old, place, report):
        put_back(out, report=steps.append)
        assert old.exists()
        remove(old, place, report)

    monkeypatch.setattr(bundle_writer, "_remove_old", put_back_then_remove)
    for content in (b"old", b"new"):
        write_bundle(out, content, force=True)
    assert len(steps) == 1
    assert steps[0].endswith(".old: belongs to another export, which is running")
    assert list_names(tmp_path) == ["bundle"]


def test_a_place_without_locks_is_reported(tmp_path, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr("fcntl.flock", refuse)
    old, steps = tmp_path / ".bundle.0123abcd.old", []
    write_bundle(old, b"old")
    put_back(tmp_path / "bundle", report=steps.append)
    assert list_names(tmp_path) == [old.name]
    (step,) = steps
    assert step.startswith(f"WARNING: {old}: ")
    assert step.endswith("cannot be locked: Bad file descriptor")
    # Exports continue.
    write_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("kind", ["two", "files of the user", "other names"])
def test_unclear_leftovers_are_only_reported(tmp_path, kind):
    out, old = tmp_path / "bundle", tmp_path / ".bundle.0123abcd.old"
    if kind == "files of the user":
        write_bundle(out)
    write_bundle(old, b"old")
    if kind == "two":
        write_bundle(tmp_path / ".bundle.4567abcd.old", b"older")
    elif kind == "files of the user":
        (old / "mine").touch()
    else:
        old.rename(tmp_path / ".bundle.2024.old")
        (tmp_path / ".bundles.0123abcd.partial").mkdir()
    before, steps = list_names(tmp_path), []
    put_back(out, report=steps.append)
    assert list_names(tmp_path) == before
    assert len(steps) == {"two": 2, "files of the user": 1, "other names": 0}[kind]
    assert all(step.endswith("is from an interrupted export and may contain files of yours") for step in steps)


def test_force_keeps_the_old_bundle_when_the_new_one_fails(tmp_path):
    write_bundle(tmp_path / "bundle", b"old")

    def fail():
        with open_bundle(tmp_path / "bundle", force=True):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (tmp_path / "bundle" / "models" / "det.nb").read_bytes() == b"old"
    assert list_names(tmp_path) == ["bundle"]


def test_the_old_bundle_comes_back_when_the_swap_fails(tmp_path, monkeypatch):
    write_bundle(tmp_path / "bundle", b"old")
    monkeypatch.setattr(bundle_writer, "_exchange", lambda one, other: False)
    rename = Path.rename

    def refuse_partial(path, target):
        if path.suffix == ".partial" and target == tmp_path / "bundle":
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_partial)
    with pytest.raises(UsageError, match="Input/output error"):
        write_bundle(tmp_path / "bundle", b"new", force=True)
    assert (tmp_path / "bundle" / "models" / "det.nb").read_bytes() == b"old"
    assert list_names(tmp_path) == ["bundle"]


@pytest.mark.parametrize("manifest", [None, "{}", "not json", '["edge_ocr_version"]'])
@pytest.mark.parametrize("force", [False, True])
def test_a_folder_that_is_not_a_bundle_is_never_replaced(tmp_path, manifest, force):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    if manifest is not None:
        (tmp_path / "photos" / "manifest.json").write_text(manifest)
    with pytest.raises(UsageError, match=r"--out .*bundle"):
        write_bundle(tmp_path / "photos", force=force)
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"cat"


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="Not a directory"):
        check_out_dir(tmp_path / "file", force=True)
    with pytest.raises(UsageError):
        write_bundle(tmp_path / "file" / "below")


def test_a_folder_that_appeared_meanwhile_is_kept(tmp_path):
    def race():
        with open_bundle(tmp_path / "bundle") as bundle:
            bundle.add_manifest({"edge_ocr_version": "0"})
            write_bundle(tmp_path / "bundle", b"faster")

    with pytest.raises(UsageError, match=r"--out .*a bundle"):
        race()
    assert (tmp_path / "bundle" / "models" / "det.nb").read_bytes() == b"faster"
    assert list_names(tmp_path) == ["bundle"]


def test_a_link_stays_a_link(tmp_path):
    write_bundle(tmp_path / "real", b"old")
    (tmp_path / "link").symlink_to("real")
    write_bundle(tmp_path / "link", b"new", force=True)
    assert os.readlink(tmp_path / "link") == "real"  # noqa: PTH115
    assert (tmp_path / "real" / "models" / "det.nb").read_bytes() == b"new"


def fill_disk(monkeypatch, name):
    """Let writes to files called `name` fail halfway, as on a full disk."""
    write_bytes = Path.write_bytes

    def write_half(path, data):
        if path.name != name:
            return write_bytes(path, data)
        write_bytes(path, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", write_half)


@pytest.mark.parametrize("name", ["det.nb", "manifest.json"])
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, name):
    fill_disk(monkeypatch, name)
    with pytest.raises(UsageError, match=rf" (models/)?{name}: No space left") as caught:
        write_bundle(tmp_path / "bundle")
    assert caught.value.hint == "give another --out"
    assert list_names(tmp_path) == []


def test_a_full_disk_keeps_the_bundle_that_is_there(tmp_path, monkeypatch):
    write_bundle(tmp_path / "bundle", b"old")
    fill_disk(monkeypatch, "manifest.json")
    with pytest.raises(UsageError, match="No space left"):
        write_bundle(tmp_path / "bundle", b"new", force=True)
    assert (tmp_path / "bundle" / "models" / "det.nb").read_bytes() == b"old"
    assert list_names(tmp_path) == ["bundle"]


def test_archives_of_equal_bundles_are_equal(tmp_path):
    for name in "ab":
        write_bundle(tmp_path / name / "bundle")
        (tmp_path / name / "bundle" / "models" / "run").write_bytes(b"#!")
        (tmp_path / name / "bundle" / "models" / "run").chmod(0o755)
        write_zip(tmp_path / name / "bundle", tmp_path / name / "bundle.zip")
        os.utime(tmp_path / name / "bundle" / "manifest.json", (time.time() - 1e6,) * 2)
    write_zip(tmp_path / "b" / "bundle", tmp_path / "b" / "bundle.zip")
    assert (tmp_path / "a" / "bundle.zip").read_bytes() == (tmp_path / "b" / "bundle.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a" / "bundle.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["bundle/manifest.json", "bundle/models/det.nb", "bundle/models/run"]
        modes = [stat.S_IMODE(entry.external_attr >> 16) for entry in archive.infolist()]
        assert modes == [0o644, 0o644, 0o755]


def test_an_archive_is_named_after_its_bundle_and_kept_without_force(tmp_path):
    assert check_zip(tmp_path / "my.bundle") == tmp_path / "my.bundle.zip"
    write_bundle(tmp_path / "my.bundle")
    (tmp_path / "my.bundle" / "manifest.sig").write_bytes(b"signature")
    write_zip(tmp_path / "my.bundle", tmp_path / "my.bundle.zip")
    with pytest.raises(UsageError, match=r"--zip: .*my\.bundle\.zip") as caught:
        check_zip(tmp_path / "my.bundle")
    assert "--force" in caught.value.hint
    assert check_zip(tmp_path / "my.bundle", force=True) == tmp_path / "my.bundle.zip"


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("file", "File is not a zip file"),
        ("folder", "Is a directory"),
        ("link", "a link"),
        ("photos", "it contains no manifest of a bundle"),
        ("added", "notes.txt"),
        ("changed", "models/det.nb"),
    ],
)
def test_a_foreign_archive_is_not_replaced(tmp_path, kind, problem):
    zip_file = tmp_path / "bundle.zip"
    write_bundle(tmp_path / "bundle")
    if kind == "file":
        zip_file.write_bytes(b"mine")
    elif kind == "folder":
        zip_file.mkdir()
    elif kind == "link":
        zip_file.symlink_to("nowhere")
    elif kind == "photos":
        with zipfile.ZipFile(zip_file, "w") as archive:
            archive.writestr("photos/cat.jpg", b"cat")
    else:
        (tmp_path / "bundle" / problem).write_bytes(b"mine")
        write_zip(tmp_path / "bundle", zip_file)
    with pytest.raises(UsageError) as caught:
        check_zip(tmp_path / "bundle", force=True)
    assert caught.value.message.startswith(f"--zip: {zip_file} ")
    assert caught.value.message.endswith(f": {problem}")
    assert caught.value.hint == "move it elsewhere"


def test_a_full_disk_leaves_no_half_archive(tmp_path, monkeypatch):
    write_bundle(tmp_path / "bundle")

    def fail(archive, entry, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.raises(UsageError, match=r"bundle\.zip: No space left"):
        write_zip(tmp_path / "bundle", tmp_path / "bundle.zip")
    assert list_names(tmp_path) == ["bundle"]
