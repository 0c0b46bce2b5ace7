"""Golden arrays: the results that Python, boards and Kotlin must all get from the same inputs.

    python tests/golden/make_golden.py             # recompute the expected results from the recorded outputs
    python tests/golden/make_golden.py --record    # run the default models again first

`recorded.json` holds the cases and the outputs of the networks for them, `expected.json` the results of `edge_ocr.core`
for these outputs. `manifest.json` is the manifest of a bundle for Android. `arrays/NAME.bin` are raw little-endian
arrays, compressed by zlib (java.util.zip inflates them); `pictures/` holds pictures that are not in `examples/images`.
`index.json` holds the sha256 of every file (of the inflated array for arrays), and dtype and shape of arrays.

The picture of a case is a view: `picture` (path in the repository), its `crop` ([left, top, width, height]), then
`turns` quarter turns counter-clockwise. Outputs are recorded in the form in which they are replayed: prob maps in 255
steps; of the recogniser's probs only the best `KEPT_CLASSES` per time step, over the classes that occur in any of them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from golden_cases import CASES, REPOSITORY, View
from golden_expected import expect

from edge_ocr.config import load_config
from edge_ocr.core.charset import Charset
from edge_ocr.core.pipeline import TextReader

FOLDER = Path(__file__).resolve().parent

# The results are made by these: two machines with the same versions give the same bytes.
LIBRARIES = ("numpy", "opencv-python", "pyclipper")

KEPT_CLASSES = 2


# --- Files ---


def write_arrays(out: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays."""
    (out / "arrays").mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        raw = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
        (out / "arrays" / f"{name}.bin").write_bytes(zlib.compress(raw, 9))


def read_array(folder: Path, name: str) -> np.ndarray:
    """Return an array of `folder`. Raises ValueError if its sha256 is not the one in index.json."""
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    entry = index["files"][f"arrays/{name}.bin"]
    content = zlib.decompress((folder / "arrays" / f"{name}.bin").read_bytes())
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise ValueError(f"arrays/{name}.bin does not match index.json")
    return np.frombuffer(content, entry["dtype"]).reshape(entry["shape"])


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON with one line per item of each top-level list or mapping."""
    parts = []
    for key, value in content.items():
        items = value if isinstance(value, list) else None
        if isinstance(value, dict):
            lines = [f"{json.dumps(name)}: {_dump(item)}" for name, item in value.items()]
            text = "{\n  " + ",\n  ".join(lines) + "\n }"
        elif items and not isinstance(items[0], str):
            text = "[\n  " + ",\n  ".join(map(_dump, items)) + "\n ]"
        else:
            text = _dump(value)
        parts.append(f" {json.dumps(key)}: {text}")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def write_index(out: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write index.json."""
    files: dict[str, Any] = {
        f"arrays/{name}.bin": {
            "sha256": hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest(),
            "dtype": array.dtype.name,
            "shape": list(array.shape),
        }
        for name, array in sorted(arrays.items())
    }
    for path in (*sorted((out / "pictures").glob("*.png")), *(out / f"{n}.json" for n in _JSON_FILES)):
        files[path.relative_to(out).as_posix()] = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    write_json(out / "index.json", {"made_with": find_versions(), "files": files})


_JSON_FILES = ("recorded", "expected", "manifest")


def find_versions() -> dict[str, str]:
    return {name: version(name) for name in LIBRARIES}


# --- Recording: needs the default models and opt ---


class RecordingEngine:
    """Runs another engine and records its outputs, rounded as they are replayed."""

    name = "recording"

    def __init__(self, engine: Any, kind: str, runs: list[tuple[str, tuple[int, ...], np.ndarray]]) -> None:
        self.engine = engine
        self.kind = kind
        self.runs = runs

    def run(self, array: np.ndarray) -> np.ndarray:
        output = np.array(self.engine.run(array), dtype=np.float32)
        if self.kind == "det":
            output = np.round(output * 255).astype(np.uint8).astype(np.float32) / np.float32(255)
        else:
            if self.kind == "rec":
                least = np.partition(output, -KEPT_CLASSES, axis=-1)[..., -KEPT_CLASSES, np.newaxis]
                output[output < least] = 0
            output = output.astype(np.float16).astype(np.float32)
        self.runs.append((self.kind, array.shape, output))
        return output


def record(cases: Sequence[tuple[str, View, dict[str, Any], int]] = CASES) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the default models on `cases`; return the content of recorded.json, and the arrays."""
    from edge_ocr.engines import create_engine
    from edge_ocr.models.resolve import resolve_model

    config = load_config("OCR", {"Pipeline.use_text_line_orientation": True})
    names = {"det": config.det_model, "rec": config.rec_model, "cls": config.cls_model}
    models = {kind: resolve_model(name, kind) for kind, name in names.items()}
    engines = {kind: create_engine("openvino", model, "cpu", 0, 2) for kind, model in models.items()}
    charset = Charset(("", *models["rec"].dictionary, " "))
    described, arrays, rec_outputs = [], {}, {}
    for name, view, changes, batch_size in cases:
        detection = replace(config.detection, **{"limit_side_len": 320, "windows": False, **changes})
        recognition = replace(config.recognition, batch_size=batch_size)
        runs: list[tuple[str, tuple[int, ...], np.ndarray]] = []
        kept = {kind: RecordingEngine(engine, kind, runs) for kind, engine in engines.items()}
        settings = SimpleNamespace(
            detection=detection,
            recognition=recognition,
            orientation=config.orientation,
            page_orientation=config.page_orientation,
        )
        reader = TextReader.build(kept, charset, settings)
        reader.read(view.cut())
        maps = [np.round(output * 255).astype(np.uint8) for kind, _, output in runs if kind == "det"]
        # A single map keeps its shape; maps of windows are concatenated.
        arrays[f"{name}.det"] = maps[0][0, 0] if len(maps) == 1 else np.concatenate([part.reshape(-1) for part in maps])
        cls_outputs = [output for kind, _, output in runs if kind == "cls"]
        arrays[f"{name}.cls"] = np.concatenate([*cls_outputs, np.zeros((0, 2), np.float32)])
        rec_outputs[name] = [output for kind, _, output in runs if kind == "rec"]
        described.append(
            {
                "name": name,
                **asdict(view),
                "settings": {stage: asdict(values) for stage, values in vars(settings).items()},
                "runs": [{"model": kind, "input": shape, "output": output.shape} for kind, shape, output in runs],
            }
        )
    # The blank and the classes that occur anywhere, in their order.
    used = {0, *(int(i) for outputs in rec_outputs.values() for o in outputs for i in np.unique(np.nonzero(o)[-1]))}
    order = sorted(used)
    for case in described:
        sizes = [run["output"] for run in case["runs"] if run["model"] == "rec"]
        slices = [output[..., order].reshape(-1, len(order)) for output in rec_outputs[case["name"]]]
        arrays[f"{case['name']}.rec"] = np.concatenate([*slices, np.zeros((0, len(order)), np.float32)])
        for run, size in zip([r for r in case["runs"] if r["model"] == "rec"], sizes, strict=True):
            run["output"] = (*size[:-1], len(order))
    # Turns tuples into lists.
    recorded = json.loads(json.dumps({"classes": [charset.classes[i] for i in order], "cases": described}))
    return recorded, arrays


def render_pictures(out: Path) -> None:
    """Write the pictures that are not in examples/images.

    Pieces of the receipt, upright, slanted and steep; and a wide picture with small print, a blank part and a word too
    high for windows.
    """
    receipt = cv2.imread(str(REPOSITORY / "examples/images/receipt.jpg"))
    upright = receipt[150:410, 210:510]
    matrix = cv2.getRotationMatrix2D((360.0, 600.0), 11, 1.0)
    slanted = cv2.warpAffine(receipt, matrix, (720, 1100), flags=cv2.INTER_AREA)[480:740, 120:420]
    matrix = cv2.getRotationMatrix2D((360.0, 300.0), 52, 1.0)
    steep = cv2.warpAffine(receipt, matrix, (720, 1100), flags=cv2.INTER_AREA)[170:430, 210:510]
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    for name, image in (("receipt", upright), ("slanted", slanted), ("steep", steep)):
        # In 16 levels a channel they take a third of the space.
        levels = np.minimum(np.round(image / 17.0) * 17, 255).astype(np.uint8)
        cv2.imwrite(str(out / "pictures" / f"{name}.png"), levels, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    wide = np.full((224, 3200, 3), (236, 244, 248), np.uint8)
    for i in range(10):
        place = (20 + 372 * (i % 2), 36 + 40 * (i // 2))
        cv2.putText(
            wide, f"row {i // 2 + 1} of sheet {i % 2 + 1}: {317 * (i + 3)} units", place, 0, 0.6, 0, 1, cv2.LINE_AA
        )
    cv2.putText(wide, "CLEARANCE", (1900, 180), 0, 6, (40, 30, 160), 18, cv2.LINE_AA)
    cv2.imwrite(str(out / "pictures" / "wide.png"), wide, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def write_manifest(out: Path) -> None:
    """Export a bundle for Android and keep its manifest."""
    from converters.bundle.android.record import locate_bundle
    from converters.export import export_bundle
    from converters.plan import ExportOptions

    config = load_config("OCR", {"Pipeline.use_text_line_orientation": True})
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        export_bundle("android", bundle, config, ExportOptions(verify=False))
        (out / "manifest.json").write_bytes((locate_bundle(bundle) / "manifest.json").read_bytes())


# --- Everything ---


def read_recorded(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return recorded.json of `folder` and its arrays."""
    recorded = json.loads((folder / "recorded.json").read_text(encoding="utf-8"))
    names = [f"{case['name']}.{kind}" for case in recorded["cases"] for kind in ("det", "cls", "rec")]
    return recorded, {name: read_array(folder, name) for name in names}


def make_golden(recorded: dict[str, Any], arrays: dict[str, np.ndarray], out: Path) -> None:
    """Write recorded and expected results to `out`, which already has pictures and manifest."""
    expected, made = expect(recorded, arrays)
    for old in (out / "arrays").glob("*.bin"):
        old.unlink()
    write_arrays(out, {**arrays, **made})
    write_json(out / "recorded.json", recorded)
    write_json(out / "expected.json", expected)
    write_index(out, {**arrays, **made})


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the golden arrays again.")
    parser.add_argument("--record", action="store_true", help="run the models and the exporter again first")
    if parser.parse_args().record:
        render_pictures(FOLDER)
        write_manifest(FOLDER)
        recorded, arrays = record()
    else:
        recorded, arrays = read_recorded(FOLDER)
    make_golden(recorded, arrays, FOLDER)


if __name__ == "__main__":
    main()
