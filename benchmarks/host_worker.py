"""Run one system of benchmarks.host in its own process and interpreter: a job on stdin, JSON lines on stdout.

Only the system is imported, so that load time and memory are its own. Each loader returns a function from a path to the
lines ({"poly": 4 × 2 in pixels, "text"}) and the milliseconds of stages. All drop texts that score below 0.5, the
default of every system, and none uses the orientation classifier.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

Read = Callable[[str], "tuple[list[dict[str, Any]], dict[str, float]]"]

# Each function is wrapped, in the module that calls it, to add its time to the stage.
TIMED = (
    ("det pre", "edge_ocr.core.detection", "prepare_detection"),
    ("det post", "edge_ocr.core.detection", "find_boxes"),
    ("crop", "edge_ocr.core.pipeline", "crop_polygon"),
    ("rec pre", "edge_ocr.core.recognition", "resize_line"),
    ("rec pre", "edge_ocr.core.recognition", "prepare_lines"),
)

# Variants of edge-ocr; other names are engines. `pad192` has less padding than PP-OCR.
OVERRIDES: dict[str, dict[str, Any]] = {
    "bf16": {"Runtime.precision": "bf16"},
    "pad192": {"Recognition.image_shape": [3, 48, 192]},
}


def load_edge_ocr(variant: str, job: dict[str, Any]) -> Read:
    from edge_ocr import create_pipeline, pipeline
    from edge_ocr.core.charset import Charset

    spent: dict[str, float] = defaultdict(float)

    def time_calls(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                spent[stage] += (time.perf_counter() - started) * 1000

        return run

    original = pipeline.create_engine

    def create_engine(name: str, model: Any, *rest: Any) -> Any:
        engine = original(name, model, *rest)
        engine.run = time_calls(f"{model.kind} infer", engine.run)
        return engine

    pipeline.create_engine = create_engine
    for stage, module, name in TIMED:
        home = import_module(module)
        setattr(home, name, time_calls(stage, getattr(home, name)))
    Charset.decode = time_calls("rec post", Charset.decode)
    # A number limits the side length of the detection input.
    limits = {"Detection.limit_side_len": int(variant), "Detection.limit_type": "max"} if variant.isdigit() else None
    overrides = limits or OVERRIDES.get(variant)
    is_engine = not overrides and job["pipeline"] == "OCR"
    reader = create_pipeline(
        job["pipeline"], engine=variant or None if is_engine else None, threads=job["threads"], overrides=overrides
    )

    def read(path: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
        spent.clear()
        lines = []
        for result in reader.predict(path):
            spent["decode"] += result.timings_ms["decode"]
            pairs = zip(result["dt_polys"], result["rec_text"], strict=True)
            lines += [{"poly": poly, "text": text} for poly, text in pairs]
        return lines, dict(spent)

    return read


def load_rapidocr(variant: str, job: dict[str, Any]) -> Read:
    from rapidocr_onnxruntime import RapidOCR

    # A number limits the longest side of the detection input; by default the shorter side is at least 736.
    limits = {"det_limit_side_len": int(variant), "det_limit_type": "max"} if variant else {}
    reader = RapidOCR(intra_op_num_threads=job["threads"], inter_op_num_threads=1, **limits)

    def read(path: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
        found, seconds = reader(path, use_cls=False)
        stages = dict(zip(("det", "cls", "rec"), (each * 1000 for each in seconds or ()), strict=False))
        stages.pop("cls", None)
        return [{"poly": poly, "text": text} for poly, text, _ in found or ()], stages

    return read


def load_paddleocr(variant: str, job: dict[str, Any]) -> Read:
    from paddleocr import PaddleOCR

    class Reader(PaddleOCR):
        def __call__(self, *args: Any) -> Any:
            boxes, texts, self.seconds = super().__call__(*args)
            return boxes, texts, self.seconds

    folders = {f"{kind}_model_dir": str(Path(program).parent) for kind, program in job["programs"].items()}
    reader = Reader(
        lang="ch",
        ocr_version="PP-OCRv4",
        use_gpu=False,
        use_angle_cls=False,
        enable_mkldnn=True,
        cpu_threads=job["threads"],
        show_log=False,
        **folders,
    )

    def read(path: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
        found = reader.ocr(path, cls=False)[0] or ()
        stages = {stage: reader.seconds[stage] * 1000 for stage in ("det", "rec")}
        return [{"poly": poly, "text": text} for poly, (text, _) in found], stages

    return read


def load_rapidocrlite(variant: str, job: dict[str, Any]) -> Read:
    from rapidocr import RapidOCR

    dictionary = Path(job["scratch"], "dict.txt")
    dictionary.write_text("".join(f"{text}\n" for text in job["dictionary"]), encoding="utf-8")
    params = {
        "Det.model_path": job["programs"]["det"],
        "Rec.model_path": job["programs"]["rec"],
        "Rec.rec_keys_path": str(dictionary),
        "Global.use_cls": False,
        "EngineConfig.onnxruntime.intra_op_num_threads": job["threads"],
    }
    reader = RapidOCR(params=params)

    def read(path: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
        found = reader(path)
        pairs = () if found.boxes is None else zip(found.boxes, found.txts, strict=True)
        return [{"poly": poly.tolist(), "text": text} for poly, text in pairs], {}

    return read


def load_faster_paddle(variant: str, job: dict[str, Any]) -> Read:
    from faster_paddle import OcrEngine

    reader = OcrEngine(model_size={"tiny": "tiny", "v6": "small"}[variant], threads=job["threads"])

    def read(path: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
        lines = []
        for found in reader.ocr(Path(path).read_bytes())["bounds"].values():
            (left, top), (right, bottom) = found["topLeftCoord"], found["bottomRightCoord"]
            if found["confidence"] >= 0.5:
                lines.append(
                    {"poly": [[left, top], [right, top], [right, bottom], [left, bottom]], "text": found["text"]}
                )
        return lines, {}

    return read


SYSTEMS = {
    "edge-ocr": (load_edge_ocr, ("edge-ocr", "openvino", "onnxruntime", "paddlepaddle", "opencv-python", "numpy")),
    "rapidocr": (load_rapidocr, ("rapidocr-onnxruntime", "onnxruntime", "opencv-python", "numpy")),
    "paddleocr": (load_paddleocr, ("paddleocr", "paddlepaddle", "opencv-python", "numpy")),
    "rapidocrlite": (load_rapidocrlite, ("rapidocrlite", "opencv-python", "numpy")),
    "faster-paddle": (load_faster_paddle, ("faster-paddle", "numpy")),
}


def read_peak_mb(process: str = "self") -> float:
    """Return the peak resident memory of a process and its children, in 10^6 bytes."""
    folder = Path("/proc", process)
    # Not ru_maxrss, which a child inherits from its parent.
    (line,) = (line for line in (folder / "status").read_text().splitlines() if line.startswith("VmHWM"))
    children = " ".join(file.read_text() for file in folder.glob("task/*/children")).split()
    return int(line.split()[1]) * 1024 / 1e6 + sum(map(read_peak_mb, children))


def find_versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    started = time.perf_counter()
    job = json.load(sys.stdin)
    # Keep the output of libraries out of the results.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(**row: Any) -> None:
        print(json.dumps(row), file=out, flush=True)

    name, _, variant = job["system"].partition(":")
    load, packages = SYSTEMS[name]
    import cv2

    # Most of them use it; by default it uses every core.
    cv2.setNumThreads(job["threads"])
    read = load(variant, job)
    tell(load_ms=(time.perf_counter() - started) * 1000)
    read(job["warmup"])
    for picture in job["pictures"]:
        started, cpu_started = time.perf_counter(), time.process_time()
        try:
            lines, stages = read(picture)
        except Exception as error:
            if not job.get("keep_going"):
                raise
            # The wrapper of a library may have no message.
            while error.__cause__ is not None:
                error = error.__cause__
            tell(image=Path(picture).name, error=f"{type(error).__name__}: {error}")
            continue
        ms, cpu_ms = (time.perf_counter() - started) * 1000, (time.process_time() - cpu_started) * 1000
        tell(image=Path(picture).name, ms=ms, cpu_ms=cpu_ms, stages_ms=stages, lines=lines)
    tell(peak_mb=read_peak_mb(), versions=find_versions(packages))


if __name__ == "__main__":
    main()
