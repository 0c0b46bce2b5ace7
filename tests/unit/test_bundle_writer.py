import errno
import hashlib
import json
import os
import stat
import time
import zipfile
from pathlib import Path

import pytest

from converters.bundle_writer import check_out_dir, check_zip, open_bundle, write_zip
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


def test_an_empty_folder_is_taken(tmp_path):
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
    with pytest.raises(UsageError, match="there is a bundle already") as caught:
        write_bundle(tmp_path / "bundle", b"new")
    assert "--force" in caught.value.hint
    assert (tmp_path / "bundle" / "models" / "det.nb").read_bytes() == b"old"


def test_force_replaces_a_bundle_with_all_its_files(tmp_path):
    write_bundle(tmp_path / "bundle", b"old")
    (tmp_path / "bundle" / "models" / "cls.nb").write_bytes(b"from before")
    write_bundle(tmp_path / "bundle", b"new", force=True)
    assert (tmp_path / "bundle" / "models" / "det.nb").read_bytes() == b"new"
    assert list_names(tmp_path / "bundle" / "models") == ["det.nb"]
    assert list_names(tmp_path) == ["bundle"]


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
    rename = Path.rename

    def refuse_partial(path, target):
        if path.suffix == ".partial":
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_partial)
    with pytest.raises(UsageError, match="Input/output error"):
        write_bundle(tmp_path / "bundle", b"new", force=True)
    assert (tmp_path / "bundle" / "models" / "det.nb").read_bytes() == b"old"
    assert list_names(tmp_path) == ["bundle"]


@pytest.mark.parametrize("manifest", [None, "{}", "not json", '["edge_ocr_version"]'])
@pytest.mark.parametrize("force", [False, True])
def test_a_folder_that_is_no_bundle_is_never_replaced(tmp_path, manifest, force):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    if manifest is not None:
        (tmp_path / "photos" / "manifest.json").write_text(manifest)
    with pytest.raises(UsageError, match="not a bundle"):
        write_bundle(tmp_path / "photos", force=force)
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"cat"


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot be a bundle: Not a directory"):
        check_out_dir(tmp_path / "file", force=True)
    with pytest.raises(UsageError):
        write_bundle(tmp_path / "file" / "below")


def test_a_place_that_was_taken_meanwhile_is_kept(tmp_path):
    def race():
        with open_bundle(tmp_path / "bundle") as bundle:
            bundle.add_manifest({"edge_ocr_version": "0"})
            write_bundle(tmp_path / "bundle", b"faster")

    with pytest.raises(UsageError, match="there is a bundle already"):
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
    """Let writes to files called `name` fail half-way, as on a full disk."""
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
    with pytest.raises(UsageError, match=rf"cannot write (models/)?{name}: No space left on device") as caught:
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
    (tmp_path / "my.bundle.zip").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"my\.bundle\.zip exists") as caught:
        check_zip(tmp_path / "my.bundle")
    assert "--force" in caught.value.hint
    assert check_zip(tmp_path / "my.bundle", force=True) == tmp_path / "my.bundle.zip"
    (tmp_path / "folder.zip").mkdir()
    with pytest.raises(UsageError, match=r"folder\.zip exists"):
        check_zip(tmp_path / "folder", force=True)


def test_a_full_disk_leaves_no_half_archive(tmp_path, monkeypatch):
    write_bundle(tmp_path / "bundle")

    def fail(archive, entry, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.raises(UsageError, match=r"cannot write .*bundle\.zip: No space left on device"):
        write_zip(tmp_path / "bundle", tmp_path / "bundle.zip")
    assert list_names(tmp_path) == ["bundle"]
