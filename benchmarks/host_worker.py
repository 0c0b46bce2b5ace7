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
)


def load_edge_ocr(job: dict[str, Any]) -> Read:
    from edge_ocr import create_pipeline, pipeline

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

    def create_engine(name: str, model: Any, *rest: Any, **options: Any) -> Any:
        engine = original(name, model, *rest, **options)
        if model.kind == "det":
            engine.run = time_calls("det infer", engine.run)
        return engine

    pipeline.create_engine = create_engine
    for stage, module, name in TIMED:
        home = import_module(module)
        setattr(home, name, time_calls(stage, getattr(home, name)))
    reader = create_pipeline(job["pipeline"], threads=job["threads"], overrides=job["overrides"])

    def read(path: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
        spent.clear()
        lines = []
        for result in reader.predict(path):
            spent["decode"] += result.timings_ms["decode"]
            # As a whole: its steps overlap in several threads.
            spent["rec"] += result.timings_ms.get("recognition", 0.0)
            pairs = zip(result["dt_polys"], result["rec_text"], strict=True)
            lines += [{"poly": poly, "text": text} for poly, text in pairs]
        return lines, dict(spent)

    return read


def load_rapidocr(job: dict[str, Any]) -> Read:
    from rapidocr_onnxruntime import RapidOCR

    # By default the shorter side of the detection input is at least 736.
    limits = {"det_limit_side_len": job["side"], "det_limit_type": "max"} if job["side"] is not None else {}
    reader = RapidOCR(intra_op_num_threads=job["threads"], inter_op_num_threads=1, **limits)

    def read(path: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
        found, seconds = reader(path, use_cls=False)
        stages = dict(zip(("det", "cls", "rec"), (each * 1000 for each in seconds or ()), strict=False))
        stages.pop("cls", None)
        return [{"poly": poly, "text": text} for poly, text, _ in found or ()], stages

    return read


def name_models(job: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of RapidOCR 3 that select the job's models."""
    dictionary = Path(job["scratch"], "dict.txt")
    dictionary.write_text("".join(f"{text}\n" for text in job["dictionary"]), encoding="utf-8")
    return {
        "Det.model_path": job["programs"]["det"],
        "Rec.model_path": job["programs"]["rec"],
        "Rec.rec_keys_path": str(dictionary),
    }


def load_rapidocr3(job: dict[str, Any]) -> Read:
    from rapidocr import RapidOCR

    reader = RapidOCR(
        params={
            "Global.use_cls": False,
            "Global.log_level": "error",
            "EngineConfig.onnxruntime.intra_op_num_threads": job["threads"],
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            # The package has PP-OCRv6 small, the same files as edge-ocr's.
            **(name_models(job) if job["models"] else {}),
            **({"Det.limit_side_len": job["side"], "Det.limit_type": "max"} if job["side"] is not None else {}),
        }
    )

    def read(path: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
        found = reader(path)
        if found.boxes is None:
            return [], {}
        det, _, rec = found.elapse_list
        lines = [{"poly": poly.tolist(), "text": text} for poly, text in zip(found.boxes, found.txts, strict=True)]
        return lines, {"det": det * 1000, "rec": rec * 1000}

    return read


def load_rapidocrlite(job: dict[str, Any]) -> Read:
    # Its engine, in C++, obeys the threads of its settings only for its own networks.
    os.environ["PPOCR_BENCH_THREADS"] = str(job["threads"])
    from rapidocr import RapidOCR

    own = {"Det.model_type": "lite", "Rec.model_type": "lite"}
    reader = RapidOCR(
        params={
            "Global.use_cls": False,
            "EngineConfig.onnxruntime.intra_op_num_threads": job["threads"],
            **(own if job["models"] == "lite" else name_models(job)),
        }
    )

    def read(path: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
        found = reader(path)
        pairs = () if found.boxes is None else zip(found.boxes, found.txts, strict=True)
        return [{"poly": poly.tolist(), "text": text} for poly, text in pairs], {}

    return read


def load_paddleocr(job: dict[str, Any]) -> Read:
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


def load_paddleocr3(job: dict[str, Any]) -> Read:
    # Its models are local files.
    os.environ["PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK"] = "True"
    from paddleocr import PaddleOCR

    folders = {kind: describe_model(kind, job) for kind in ("det", "rec")}
    # Paddle 3.3's new representation of programs does not run with oneDNN.
    name, settings = "paddle_static", {"run_mode": "mkldnn", "enable_new_ir": False, "cpu_threads": job["threads"]}
    if job["programs"]["det"].endswith(".onnx"):
        name, settings = "onnxruntime", {"intra_op_num_threads": job["threads"], "inter_op_num_threads": 1}
    reader = PaddleOCR(
        text_detection_model_name=job["names"]["det"],
        text_detection_model_dir=folders["det"],
        text_recognition_model_name=job["names"]["rec"],
        text_recognition_model_dir=folders["rec"],
        text_rec_score_thresh=0.5,
        use_doc_orientation_classify=False,
        use_doc_unwarping=False,
        use_textline_orientation=False,
        device="cpu",
        engine=name,
        engine_config=settings,
    )

    def read(path: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
        lines = []
        for page in reader.predict(path):
            pairs = zip(page["rec_polys"], page["rec_texts"], strict=True)
            lines += [{"poly": poly.tolist(), "text": text} for poly, text in pairs]
        return lines, {}

    return read


def describe_model(kind: str, job: dict[str, Any]) -> str:
    """Return a folder with a model as PaddleOCR 3 expects it: its files, and what it takes and gives."""
    folder = Path(job["scratch"], kind)
    folder.mkdir()
    for file in Path(job["programs"][kind]).parent.glob("inference.*"):
        if file.suffix != ".yml":
            (folder / file.name).symlink_to(file)
    steps: dict[str, list[dict[str, Any]]] = {
        "det": [
            {"DetResizeForTest": None},
            {
                "NormalizeImage": {
                    "mean": [0.485, 0.456, 0.406],
                    "std": [0.229, 0.224, 0.225],
                    "scale": 1 / 255,
                    "order": "hwc",
                }
            },
            {"ToCHWImage": None},
        ],
        "rec": [{"RecResizeImg": {"image_shape": [3, 48, 320]}}],
    }
    decoder = {"det": {"name": "DBPostProcess"}, "rec": {"name": "CTCLabelDecode", "character_dict": job["dictionary"]}}
    content = {
        "Global": {"model_name": job["names"][kind]},
        "PreProcess": {"transform_ops": [{"DecodeImage": {"channel_first": False, "img_mode": "BGR"}}, *steps[kind]]},
        "PostProcess": decoder[kind],
    }
    # JSON is YAML.
    (folder / "inference.yml").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return str(folder)


def load_faster_paddle(job: dict[str, Any]) -> Read:
    from faster_paddle import OcrEngine

    reader = OcrEngine(model_size={"tiny": "tiny", "v6": "small"}[job["models"]], threads=job["threads"])

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
    "rapidocr3": (load_rapidocr3, ("rapidocr", "onnxruntime", "opencv-python-headless", "numpy")),
    "paddleocr": (load_paddleocr, ("paddleocr", "paddlepaddle", "opencv-python", "numpy")),
    "paddleocr3": (
        load_paddleocr3,
        ("paddleocr", "paddlex", "paddlepaddle", "onnxruntime", "opencv-contrib-python", "numpy"),
    ),
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

    load, packages = SYSTEMS[job["system"]]
    import cv2

    # Most of them use it; by default it uses every core.
    cv2.setNumThreads(job["threads"])
    read = load(job)
    tell(load_ms=(time.perf_counter() - started) * 1000)
    read(job["warmup"])
    done = []
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
        done.append(picture)
        tell(image=Path(picture).name, ms=ms, cpu_ms=cpu_ms, stages_ms=stages, lines=lines)
    again = []
    for picture in done if job.get("again") else ():
        started = time.perf_counter()
        read(picture)
        again.append((time.perf_counter() - started) * 1000)
    tell(again_ms=again, peak_mb=read_peak_mb(), versions=find_versions(packages))


if __name__ == "__main__":
    main()
