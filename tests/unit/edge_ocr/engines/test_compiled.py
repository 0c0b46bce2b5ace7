"""Compiled networks on disk: they are used only if they are valid."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from edge_ocr.engines import compiled as compiled_module
from edge_ocr.engines import create_engine
from edge_ocr.engines.openvino import OpenVinoEngine
from edge_ocr.errors import UsageError
from edge_ocr.models.types import Model

LINE = np.random.default_rng(0).uniform(-1, 1, (1, 3, 48, 320)).astype(np.float32)


@pytest.fixture
def model(default_models) -> Model:
    return default_models["PP-OCRv4_mobile_rec"]


@pytest.fixture
def store(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path))
    return tmp_path / "compiled"


@pytest.fixture
def compilations(monkeypatch) -> list[str]:
    """The compiled models."""
    done: list[str] = []
    compile_model = ov.Core.compile_model

    def count(self, *arguments, **options):
        done.append("compiled")
        return compile_model(self, *arguments, **options)

    monkeypatch.setattr(ov.Core, "compile_model", count)
    return done


def run(model: Model, threads: int = 1, precision: str = "f32") -> np.ndarray:
    return OpenVinoEngine(model, threads, precision).run(LINE).copy()


def test_second_start_uses_what_the_first_compiled(model, store, compilations):
    first = run(model)
    assert len(compilations) == len(list(store.iterdir())) == 1
    np.testing.assert_array_equal(run(model), first)
    assert len(compilations) == 1


def test_signals_work_after_the_networks_are_freed(examples, make_home):
    # OpenVINO gives the thread that builds a network a signal stack that is freed with the network.
    code = (
        "import gc, os, signal, sys; from edge_ocr import create_pipeline\n"
        "heard = []; signal.signal(signal.SIGTERM, lambda *_: heard.append(1))\n"
        "pipeline = create_pipeline(engine='openvino'); list(pipeline.predict(sys.argv[1]))\n"
        "del pipeline; gc.collect(); os.kill(os.getpid(), signal.SIGTERM); print(len(heard))"
    )
    home = make_home()
    # Compiled first, then loaded from disk.
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code, examples / "sign.png"],
            env={**os.environ, "EDGE_OCR_HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert list((home / "compiled").iterdir())


def test_engine_keeps_the_weights_of_a_network_from_disk(model, store, monkeypatch):
    # They are in the file's content, and OpenVINO does not keep that.
    first = run(model)
    contents: list[weakref.ref[np.ndarray]] = []
    read = np.fromfile

    def watch(*arguments, **options) -> np.ndarray:
        content = read(*arguments, **options)
        contents.append(weakref.ref(content))
        return content

    monkeypatch.setattr(np, "fromfile", watch)
    engine = OpenVinoEngine(model, 1)
    gc.collect()
    (content,) = contents
    assert content() is not None
    np.testing.assert_array_equal(engine.run(LINE), first)
    del engine
    gc.collect()
    assert content() is None


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other"])
def test_damaged_file_is_made_again(model, store, compilations, damage):
    first = run(model)
    (file,) = store.iterdir()
    content = file.read_bytes()
    middle = len(content) // 2
    file.write_bytes(
        {
            # A changed weight: OpenVINO itself would accept it.
            "flip": content[:middle] + bytes([content[middle] ^ 0x40]) + content[middle + 1 :],
            "cut": content[:middle],
            "empty": b"",
            "other": os.urandom(1000),
        }[damage]
    )
    np.testing.assert_array_equal(run(model), first)
    assert len(compilations) == 2
    np.testing.assert_array_equal(run(model), first)
    assert len(compilations) == 2


def test_file_that_openvino_refuses_is_made_again(model, store, compilations):
    import hashlib

    first = run(model)
    (file,) = store.iterdir()
    # Its sha256 is right, but it is not a network.
    file.write_bytes(b"no network" + hashlib.sha256(b"no network").digest())
    np.testing.assert_array_equal(run(model), first)
    assert len(compilations) == 2


def test_each_combination_has_its_own_file(model, store, tmp_path, compilations):
    run(model)
    run(model, threads=2)
    run(model, precision="bf16")
    assert len(list(store.iterdir())) == len(compilations) == 3
    # The same names, other weights.
    folder = tmp_path / "changed"
    folder.mkdir()
    for path in (model.program, model.params):
        (folder / path.name).write_bytes(path.read_bytes())
    weights = bytearray((folder / model.params.name).read_bytes())
    weights[-3] ^= 0x10
    (folder / model.params.name).write_bytes(weights)
    changed = Model(**{**vars(model), "program": folder / model.program.name, "params": folder / model.params.name})
    assert not np.array_equal(run(changed), run(model))
    assert len(list(store.iterdir())) == 4


def test_onnx_with_weights_in_another_file_is_not_kept(tmp_path, store, compilations):
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper

    def run_with(weight: float) -> float:
        weights = onnx.numpy_helper.from_array(np.full((1, 3, 48, 320), weight, np.float32), "w")
        values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 48, 320]) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "g", values[:1], values[1:], [weights])
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        (tmp_path / "weights.bin").unlink(missing_ok=True)
        onnx.save_model(
            proto, str(tmp_path / "m.onnx"), save_as_external_data=True, location="weights.bin", size_threshold=0
        )
        model = Model("m", "det", "onnx", tmp_path / "m.onnx", None, None, {}, "test")
        return float((run(model) / LINE).mean())

    assert run_with(2.0) == pytest.approx(2)
    # The program is the same to the byte.
    assert run_with(5.0) == pytest.approx(5)
    assert len(compilations) == 2
    assert not store.exists()


def test_store_that_cannot_be_written_is_not_an_error(model, tmp_path, monkeypatch, compilations):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGE_OCR_HOME", str(tmp_path / "file"))
    run(model)
    run(model)
    assert len(compilations) == 2


def test_old_files_are_deleted(model, store, monkeypatch):
    monkeypatch.setattr(compiled_module, "MAX_FILES", 2)
    for threads in (1, 2, 3):
        run(model, threads)
        for age, file in enumerate(sorted(store.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True), 1):
            os.utime(file, (1e9 - age, 1e9 - age))
    assert len(list(store.iterdir())) == 2


def test_precision_of_other_engines_is_refused(model):
    with pytest.raises(UsageError, match=r"paddle .* f32 .* "):
        create_engine("paddle", model, "cpu", 0, 1, "bf16")
