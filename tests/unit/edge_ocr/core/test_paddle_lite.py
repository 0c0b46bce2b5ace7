"""The engine of boards through the real shim, built for this machine against a stand-in for Paddle-Lite."""

from __future__ import annotations

import gc
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_ocr.core import bundle as bundle_module
from edge_ocr.core import lite_ocr
from edge_ocr.core.bench import get_rss_mb
from edge_ocr.core.bundle import LIBRARY, POWER_MODES, SHIM
from edge_ocr.core.engines import paddle_lite
from edge_ocr.core.engines.paddle_lite import PaddleLiteEngine
from edge_ocr.core.lite_ocr import LiteOCR
from edge_ocr.errors import ModelError, ToolchainError

VERSION = "v2.13-rc"
SOURCES = Path(paddle_lite.__file__).with_name("lite_shim")


@pytest.fixture(scope="session")
def libraries(compile_stand_in, headers, tmp_path_factory) -> dict[str, Path]:
    """The stand-in and the shim for it, both for this machine's g++."""
    library = compile_stand_in("g++")
    folder = tmp_path_factory.mktemp("shim")
    # As in a bundle, whose folder may have any name.
    shim = folder / "a böard's" / SHIM
    shim.parent.mkdir()
    command = ["g++", "-std=c++11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-I", SOURCES, "-I", headers]
    subprocess.run([*command, SOURCES / "edge_ocr_lite.cpp", "-o", shim, library], check=True)
    return {"library": library, "shim": shim}


@pytest.fixture
def load(libraries, tmp_path) -> Iterator[Callable[..., PaddleLiteEngine]]:
    """Load a model that does what `word` says."""
    opened: list[PaddleLiteEngine] = []

    def load_model(word: str, **options: Any) -> PaddleLiteEngine:
        model = tmp_path / f"{word}.nb"
        model.write_text(word, encoding="utf-8")
        arguments = {**libraries, "version": VERSION, "threads": 2, **options}
        opened.append(PaddleLiteEngine(model, **arguments))
        return opened[-1]

    yield load_model
    for engine in opened:
        engine.close()


def test_a_run_gives_the_models_output(load):
    engine = load("double")
    assert (engine.name, engine.version) == ("paddle_lite", VERSION)
    rng = np.random.default_rng(0)
    for shape in [(1, 3, 32, 64), (2, 3, 8, 5), (1, 1), (7,), (1, 3, 32, 64), (1, 2, 3, 4, 5, 6, 7, 8)]:
        array = rng.standard_normal(shape, dtype=np.float32)
        result = engine.run(array)
        assert result.dtype == np.float32
        np.testing.assert_array_equal(result, array * 2)


def test_arrays_of_any_layout_are_accepted(load):
    engine = load("double")
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for view in (array.transpose(2, 0, 1), array[:, ::-1, ::2], array.astype(np.float64), array.astype(">f4")):
        np.testing.assert_array_equal(engine.run(view), view * 2)


def test_the_output_is_a_view_that_the_next_run_overwrites(load):
    engine = load("double")
    first = engine.run(np.full((2, 3), 1, np.float32))
    assert not first.flags.owndata
    second = engine.run(np.full((2, 3), 5, np.float32))
    assert np.shares_memory(first, second)
    np.testing.assert_array_equal(first, np.full((2, 3), 10, np.float32))


def test_threads_and_power_mode_are_passed_on(load):
    for threads, power_mode in zip((1, 2, 3, 4, 255, 256), POWER_MODES, strict=True):
        engine = load("threads", threads=threads, power_mode=power_mode)
        assert engine.run(np.zeros((1, 1), np.float32))[0, 0] == threads
    with pytest.raises(ModelError, match="threads: expected 1 to 256"):
        load("threads", threads=257)


def test_two_models_do_not_disturb_each_other(load):
    one, other = load("double"), load("double")
    first = one.run(np.full((1, 2), 1, np.float32))
    other.run(np.full((1, 2), 7, np.float32))
    np.testing.assert_array_equal(first, [[2, 2]])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("throw-load", r"throw-load.nb: Paddle-Lite cannot load the model: .*Error: no operator 'comv2d'"),
        ("throw-run", r"throw-run.nb: Paddle-Lite cannot run the model: no such broadcast"),
        ("throw-memory", r"throw-memory.nb: Paddle-Lite cannot run the model: out of memory"),
        ("throw-int", r"throw-int.nb: Paddle-Lite cannot run the model: an exception without a message"),
        ("int-output", r"int-output.nb: the output is not float32"),
        ("nine-dims", r"nine-dims.nb: output shape: expected 1 to 8 positive dims"),
        ("negative", r"negative.nb: output shape: expected 1 to 8 positive dims"),
    ],
)
def test_exceptions_of_paddle_lite_are_reported(load, word, message):
    with pytest.raises(ModelError, match=f"^{message}") as caught:
        load(word).run(np.ones((1, 2), np.float32))
    assert "\n" not in caught.value.message


def test_a_model_works_after_a_refused_input(load):
    engine = load("double")
    for shape, words in {
        (13, 1): "Paddle-Lite refuses the shape: 13 is too many",
        (1, 0): "shape: expected 1 to 8 positive dims",
        (): "shape: expected 1 to 8 positive dims",
        (1,) * 9: "shape: expected 1 to 8 positive dims",
    }.items():
        with pytest.raises(ModelError, match=words):
            engine.run(np.ones(shape, np.float32))
        np.testing.assert_array_equal(engine.run(np.ones((1, 2), np.float32)), [[2, 2]])


def test_a_library_of_another_version_is_refused(load, libraries):
    with pytest.raises(ModelError, match=r"Paddle-Lite v2\.13-rc, .* v2\.12") as caught:
        load("double", version="v2.12")
    assert str(libraries["library"]) in caught.value.message


def test_a_model_file_that_is_missing_or_empty_is_reported(libraries, tmp_path):
    for name, words in {
        "none.nb": "No such file or directory",
        "empty.nb": "is empty",
        "bytes-\udcff.nb": "is empty",
    }.items():
        if "is empty" in words:
            (tmp_path / name).touch()
        with pytest.raises(ModelError, match=words):
            PaddleLiteEngine(tmp_path / name, **libraries, version=VERSION, threads=1)


@pytest.mark.parametrize("name", ["library", "shim"])
@pytest.mark.parametrize("content", [None, b"", b"\x7fELF is not enough" * 9])
def test_a_library_that_does_not_load_is_reported(load, libraries, tmp_path, name, content):
    path = tmp_path / libraries[name].name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ToolchainError, match=f"^Paddle-Lite .*{path.name}") as caught:
        load("double", **{name: path})
    assert "--engine onnxruntime" in (caught.value.hint or "")


MEMORY_LIMIT_MB = 4.0


def test_memory_stays_flat_over_changing_shapes(load):
    engine = load("double")
    image = np.ones((1, 3, 64, 2048), np.float32)
    engine.run(image)

    def run_widths(count: int) -> None:
        for index in range(count):
            # Some 1500 different widths, up to 1.5 MB.
            width = 32 + index * 131 % 2003
            assert engine.run(image[..., :width]).shape == (1, 3, 64, width)

    run_widths(200)
    gc.collect()
    before = get_rss_mb()
    run_widths(2000)
    gc.collect()
    assert get_rss_mb() - before < MEMORY_LIMIT_MB


def test_a_closed_model_frees_its_memory(load):
    def hold() -> None:
        engine = load("double")
        engine.run(np.ones((1, 3, 512, 1024), np.float32))
        engine.close()

    hold()
    before = get_rss_mb()
    for _ in range(10):
        hold()
    # Each holds 12 MB.
    assert get_rss_mb() - before < 2 * MEMORY_LIMIT_MB


def test_an_unreferenced_model_frees_its_memory(libraries, tmp_path):
    (tmp_path / "a.nb").write_text("double", encoding="utf-8")

    def drop() -> None:
        PaddleLiteEngine(tmp_path / "a.nb", **libraries, version=VERSION, threads=1).run(
            np.ones((1, 3, 512, 1024), np.float32)
        )
        gc.collect()

    drop()
    before = get_rss_mb()
    for _ in range(10):
        drop()
    assert get_rss_mb() - before < 2 * MEMORY_LIMIT_MB


def test_an_output_outlives_its_engine(libraries, tmp_path):
    (tmp_path / "a.nb").write_text("double", encoding="utf-8")
    engine = PaddleLiteEngine(tmp_path / "a.nb", **libraries, version=VERSION, threads=1)
    output = engine.run(np.full((1, 3, 64, 64), 4, np.float32))
    del engine
    gc.collect()
    np.testing.assert_array_equal(output, np.full((1, 3, 64, 64), 8, np.float32))


def test_a_closed_model_does_not_run(load):
    engine = load("double")
    engine.close()
    engine.close()
    with pytest.raises(ModelError, match=r"double\.nb is closed"):
        engine.run(np.ones((1, 2), np.float32))


def test_models_loaded_in_parallel_leave_stderr_unchanged(libraries, tmp_path):
    (tmp_path / "a.nb").write_text("double", encoding="utf-8")
    code = """
import os, sys, threading
from pathlib import Path
from edge_ocr.core.engines.paddle_lite import PaddleLiteEngine
model, library, shim = map(Path, sys.argv[1:])
def load():
    for _ in range(20):
        PaddleLiteEngine(model, library=library, shim=shim, version="v2.13-rc", threads=1).close()
before = os.fstat(2)
threads = [threading.Thread(target=load) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert os.path.samestat(before, os.fstat(2))
print("same", len(os.listdir("/proc/self/fd")))
"""
    arguments = [tmp_path / "a.nb", libraries["library"], libraries["shim"]]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("same")


# --- a whole bundle


@pytest.fixture
def lite_bundle(edit_bundle, libraries, monkeypatch) -> Callable[..., Path]:
    """A bundle whose armv8 library is the stand-in, on a machine that counts as armv8."""
    for module in (bundle_module, lite_ocr):
        monkeypatch.setattr(module, "find_abi", lambda: "armv8")

    def lay_out(*, shim: bool = True, more: bytes = b"") -> Path:
        library = libraries["library"].read_bytes() + more
        files = {f"lib/armv8/{LIBRARY}": library, f"lib/armv8/{SHIM}": libraries["shim"].read_bytes()}

        def edit(manifest: Any) -> None:
            manifest["lite"]["libraries"]["armv8"] = {
                "file": f"lib/armv8/{LIBRARY}",
                "version": VERSION,
                "version_matches": True,
                "shim": f"lib/armv8/{SHIM}" if shim else None,
            }
            for name, data in files.items():
                manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}

        folder = edit_bundle(edit)
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return folder

    return lay_out


def test_a_bundle_runs_on_paddle_lite(lite_bundle):
    reader = LiteOCR(lite_bundle(), threads=1, power_mode="low")
    assert (reader.engine, reader.threads, reader.power_mode) == ("paddle_lite", 1, "low")
    # Twice a black picture, normalised, is below every threshold.
    reading = reader.predict(np.zeros((64, 96, 3), np.uint8))
    assert reading.lines == []
    assert list(reading.timings_ms) == ["decode", "detection", "crop", "orientation", "recognition"]


def test_a_shim_that_the_board_built_is_used(lite_bundle, libraries):
    folder = lite_bundle(shim=False)
    with pytest.raises(ToolchainError, match=r"\./install\.sh"):
        LiteOCR(folder, engine="paddle_lite")
    built = folder / ".installed" / "lib" / "armv8" / SHIM
    built.parent.mkdir(parents=True)
    shutil.copy(libraries["shim"], built)
    assert LiteOCR(folder).engine == "paddle_lite"


def test_a_library_of_another_version_is_never_loaded(lite_bundle, libraries):
    folder = lite_bundle()
    path = folder / "lib" / "armv8" / LIBRARY
    data = path.read_bytes()
    assert data.count(VERSION.encode()) > 0
    other = data.replace(VERSION.encode(), b"v2.12-rc")
    manifest = folder / "manifest.json"
    text = manifest.read_text(encoding="utf-8").replace(
        hashlib.sha256(data).hexdigest(), hashlib.sha256(other).hexdigest()
    )
    manifest.write_text(text, encoding="utf-8")
    path.write_bytes(other)
    with pytest.raises(ModelError, match=r"not Paddle-Lite v2\.13-rc"):
        LiteOCR(folder)
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert str(folder) not in maps


ABORTS = """
import sys
import numpy as np
from pathlib import Path
from edge_ocr.core.engines.paddle_lite import PaddleLiteEngine
model, library, shim = map(Path, sys.argv[1:])
PaddleLiteEngine(model, library=library, shim=shim, version="v2.13-rc", threads=1).run(np.ones((1, 1), np.float32))
"""


@pytest.mark.parametrize("word", ["abort-load", "abort-run"])
def test_an_abort_ends_the_process_with_paddle_lites_message(libraries, repository, tmp_path, word):
    model = tmp_path / "model.nb"
    model.write_text(word, encoding="utf-8")
    command = [sys.executable, "-c", ABORTS, model, libraries["library"], libraries["shim"]]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(repository)}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == -6
    assert "Check failed" in done.stderr
