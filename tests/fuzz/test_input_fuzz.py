"""Damaged manifests, inference.yml files, dictionaries and pictures: only our own errors may be raised.

What holds for each case, whatever is in the file: no exception but ours, no crash of a decoder, no more memory than
MEMORY_BYTES, an answer within SECONDS, one line a message; and of a manifest, no file outside the bundle is opened,
by the host's reader or the board's. Cases are numbered, and a case is the same one wherever it is made. They run in a
process of their own, short of memory and watched for the time that each takes. One that fails is run alone with

EDGE_OCR_FUZZ_FIRST=<number> EDGE_OCR_FUZZ_CASES=1 python -m pytest tests/fuzz/test_input_fuzz.py -k <kind>
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
from support import input_cases as cases

from edge_ocr.core.bundle import LIBRARY

pytestmark = pytest.mark.fuzz

FIRST = int(os.environ.get("EDGE_OCR_FUZZ_FIRST", "0"))


def start_cases(kind, folder, first, count):
    """Run cases in a separate process and return the summary; fails if a case ends it."""
    command = [sys.executable, "-W", "ignore", cases.__file__, kind, folder, str(first), str(count)]
    # Each thread of a library would take a share of the limited memory.
    env = {**os.environ, "PYTHONPATH": str(cases.ROOT), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    env["OPENCV_IO_MAX_IMAGE_PIXELS"], env["OPENCV_LOG_LEVEL"] = str(cases.MAX_PIXELS), "SILENT"
    ended = subprocess.run(command, env=env, capture_output=True, timeout=60 + count / 10, check=False)
    if ended.returncode == 0:
        return json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    path, said = folder / "number", ended.stderr.decode(errors="replace")[-3000:]
    if not path.exists():
        pytest.fail(f"no case was run: {said}")
    number = int(path.read_text())
    kept = folder / f"case-{number}.bin"
    kept.write_bytes(cases.make_case(kind, number, cases.read_seeds(folder)))
    pytest.fail(
        f"{kind}: case {number} ended with {ended.returncode}; its bytes are in {kept}; alone:\n"
        f"EDGE_OCR_FUZZ_FIRST={number} EDGE_OCR_FUZZ_CASES=1 python -m pytest {__file__} -k {kind}\n{said}"
    )


# --- the tests


@pytest.fixture
def folder(tmp_path):
    """A folder for a bundle, and a file next to it that no manifest may lead to."""
    (tmp_path / "bundle").mkdir()
    (tmp_path / "outside.txt").write_text("a\n")
    return tmp_path


@pytest.fixture
def small_bundle(folder, board_bundle):
    """A small bundle, complete except for its models, and its manifests as seeds."""
    manifest = json.loads((board_bundle / "manifest.json").read_bytes())
    for name, entry in manifest["files"].items():
        path = folder / "bundle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = (board_bundle / name).read_bytes()
        data = data if len(data) < 10_000 or name in ("pipeline.yaml", manifest["charset"]["file"]) else data[:100]
        path.write_bytes(data)
        entry.update(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    for kind, model in manifest["models"].items():
        model.update(manifest["files"][model["file"]])
        manifest["onnx"][kind].update(sha256=manifest["files"][manifest["onnx"][kind]["file"]]["sha256"])
    # The same with a library for this "board", which the host would not accept.
    library = f"lib/armv8/{LIBRARY}"
    data = f"\x7fELF {manifest['lite']['runtime_version']}\0".encode()
    (folder / "bundle" / library).parent.mkdir(parents=True, exist_ok=True)
    (folder / "bundle" / library).write_bytes(data)
    other = copy.deepcopy(manifest)
    other["lite"]["libraries"]["armv8"] = {
        "file": library,
        "version": manifest["lite"]["runtime_version"],
        "version_matches": True,
        "min_glibc": "2.17",
        "shim": library,
    }
    other["files"][library] = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    (folder / "seeds.json").write_text(json.dumps([manifest, other]), encoding="utf-8")
    return folder


def run_kind(kind, folder, record_property, least):
    """Run the cases of a kind; each outcome in `least` must get a share of them."""
    count = int(os.environ.get("EDGE_OCR_FUZZ_CASES", cases.CASES[kind]))
    done = start_cases(kind, folder, FIRST, count)
    slowest, number = done["slowest"]
    told = (
        f"{kind}: {count} inputs in {done['seconds']:.1f} s, {done['ends']}; slowest {slowest:.2f} s (case {number}), "
        f"memory grew by {done['grown_bytes'] / 2**20:.0f} MB"
    )
    record_property("fuzz", told)
    sys.stdout.write(f"{told}\n")
    assert done["grown_bytes"] < cases.MEMORY_BYTES
    assert slowest < cases.SECONDS / 2
    if count >= 300:
        # Otherwise all cases might fail at the same check.
        for words in least:
            assert sum(number for end, number in done["ends"].items() if words in end) > count / 50, words


@pytest.mark.parametrize("kind", ["yml", "dictionary", "picture"])
def test_a_case_is_the_same_each_time(kind):
    made = [cases.make_case(kind, number, []) for number in range(60)]
    assert made == [cases.make_case(kind, number, []) for number in range(60)]
    assert len(set(made)) > 40


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("another_error", "TypeError: byte indices must be integers"),
        ("memory", "MemoryError"),
        ("crash", "Segmentation fault"),
        ("outside", "AssertionError: opened"),
    ],
)
def test_forbidden_outcomes_are_detected(folder, kind, words):
    with pytest.raises(pytest.fail.Exception) as caught:
        start_cases(kind, folder, 7, 3)
    assert words in str(caught.value)
    assert f"{kind}: case 7 ended" in str(caught.value)
    assert (folder / "case-7.bin").read_bytes() == cases.make_case(kind, 7, [])


def test_the_original_files_are_valid(folder):
    for content in cases.encode_pictures().values():
        assert cases.read_picture_file(content, folder).startswith("host read")
    assert cases.read_dictionary_file(b"a\n", folder) == "read, in a bundle read"
    assert cases.read_yml(cases.YMLS["det"].encode(), folder) == "read as 1 kinds"


def test_manifests(small_bundle, record_property):
    least = ("host: checks failed, board: refused", "host: checks failed, board: opened")
    run_kind("manifest", small_bundle, record_property, least)


def test_yml(folder, record_property):
    run_kind("yml", folder, record_property, ("read as 0", "read as 1"))


def test_dictionaries(folder, record_property):
    run_kind("dictionary", folder, record_property, ("read, in a bundle read", "refused, in a bundle refused"))


def test_pictures(folder, record_property):
    run_kind("picture", folder, record_property, ("host read", "host refused", "board read", "board refused"))


@pytest.mark.skipif(not cases.SHARED.is_dir(), reason="no folder of odd pictures beside the repository")
def test_shared_pictures(folder, record_property):
    run_kind("shared", folder, record_property, ("host read", "host refused", "board read", "board refused"))


@pytest.mark.skipif(find_spec("pypdfium2") is None, reason="pypdfium2 is not installed")
def test_pdf(folder, record_property):
    run_kind("pdf", folder, record_property, ("read", "refused"))
