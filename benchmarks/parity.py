"""Compare bundles with the models they were made from, as Markdown tables.

    python -m benchmarks.parity --images DIR [DIR ...] [--photo PICTURE] [--pipeline OCR-v6]

Bundles of every precision are compared with the originals on the pictures of each folder, and with the ground truth if
the folder has a gt.jsonl. With a Paddle-Lite library for armv8 (`edge-ocr libs add` or EDGE_OCR_LITE_LIB), the graphs
are also compared with that library, emulated, on one picture.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from converters.bundle.pictures import find_pictures_folder
from converters.export import export_bundle
from converters.lite.libraries.store import find_library
from converters.lite.nb.read import read_nb
from converters.lite.nb.to_onnx import build_graph
from converters.plan import ExportOptions
from converters.verify.lite_runner import open_lite_engines
from converters.verify.parity import compare_arrays
from converters.verify.verify import VerifyOptions, verify_bundle
from edge_ocr.config import PipelineConfig, load_config
from edge_ocr.core.detection import find_boxes
from edge_ocr.core.geometry import crop_polygon
from edge_ocr.core.imaging import prepare_detection, prepare_lines, resize_line
from edge_ocr.engines import create_engine
from edge_ocr.inputs import list_sources
from edge_ocr.models.resolve import resolve_model

PRECISIONS = ("fp32", "int16", "int8")
FIGURES = {
    "det.prob_map.max_abs_diff": "prob map, max",
    "det.prob_map.mean_abs_diff": "prob map, mean",
    "rec.probs.max_abs_diff": "probs, max",
    "rec.probs.p90_abs_diff": "probs, max, 9 lines of 10",
    "rec.probs.mean_abs_diff": "probs, mean",
    "cls.turned_probs.max_abs_diff": "classifier, max",
    "boxes.count": "boxes",
    "boxes.matched_share": "boxes matched",
    "boxes.mean_iou": "mean IoU",
    "texts.count": "lines",
    "texts.equal_share": "lines equal",
    "texts.one_minus_ned": "1-NED",
    "accuracy.lines": "lines with ground truth",
    "accuracy.reference.exact_share": "exact, original",
    "accuracy.exported.exact_share": "exact, bundle",
}


def print_row(cells: list[str]) -> None:
    print("| " + " | ".join(cells) + " |")


def compare(bundles: dict[str, Path], folder: Path) -> None:
    truth = folder / "gt.jsonl"
    options = VerifyOptions(images=() if truth.exists() else (folder,), truth=truth if truth.exists() else None)
    columns = {precision: verify_bundle(bundle, options) for precision, bundle in bundles.items()}
    pictures = len(columns["fp32"].images)
    print(f"\n{folder.name}, {pictures} pictures:\n")
    print_row(["", *columns])
    print("|---|" + "---:|" * len(columns))
    for name, title in FIGURES.items():
        values = [report.figures.get(name) for report in columns.values()]
        if any(value is not None for value in values):
            print_row([title, *("–" if value is None else f"{value:.4g}" for value in values)])
    print_row(["verdict", *("passed" if report.passed else "failed" for report in columns.values())])


def make_inputs(photo: Path, config: PipelineConfig) -> dict[str, np.ndarray]:
    """Return inputs of 512 × 896 for det (the resized picture) and 48 × 320 for rec (the first line that fits)."""
    (source,) = list_sources(photo)
    image = cv2.resize(next(source.pages(config.input)).image, (896, 512))
    det = prepare_detection(image, config.detection)
    engine = create_engine("openvino", resolve_model(config.det_model, "det"), "cpu", 0, 2)
    boxes = find_boxes(engine.run(det)[0, 0], *image.shape[:2], config.detection)
    lines = [resize_line(crop_polygon(image, box.polygon), 48, 320) for box in boxes]
    return {"det": det, "rec": prepare_lines([next(line for line in lines if line.shape[1] >= 160)], 320)}


def emulate(bundles: dict[str, Path], photo: Path, config: PipelineConfig) -> None:
    library = find_library("armlinux.armv8")
    if library is None or library.cxx_library is None or library.include_dir is None:
        print("\nNo Paddle-Lite library for armv8: the graphs were not compared with it.")
        return
    inputs = make_inputs(photo, config)
    print(f"\nGraph against Paddle-Lite {library.actual_version} for armv8 under qemu, {photo.name}:\n")
    print_row(["", "max abs diff", "mean abs diff"])
    print("|---|---:|---:|")
    for precision, bundle in bundles.items():
        models = {kind: bundle / "models" / f"{kind}.nb" for kind in inputs}
        with (
            open_lite_engines(
                "qemu",
                models,
                library=library.cxx_library,
                include_dir=library.include_dir,
                arch="armv8",
                expected_version=library.version,
            ) as engines,
            tempfile.TemporaryDirectory() as scratch,
        ):
            for kind, array in inputs.items():
                path = Path(scratch) / f"{kind}.onnx"
                path.write_bytes(build_graph(read_nb(models[kind])).model.SerializeToString())
                source = resolve_model({"det": config.det_model, "rec": config.rec_model}[kind], kind)
                graph = create_engine("openvino", replace(source, format="onnx", program=path), "cpu", 0, 2)
                diff = compare_arrays(engines[kind].run(array), graph.run(array))
                shape = " × ".join(map(str, array.shape))
                print_row([f"{kind} {shape}, {precision}", f"{diff.max_abs:.1e}", f"{diff.mean_abs:.1e}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, nargs="+", default=[find_pictures_folder()])
    parser.add_argument("--photo", type=Path, default=find_pictures_folder() / "sign.png")
    parser.add_argument("--pipeline", default="OCR")
    arguments = parser.parse_args()
    config = load_config(arguments.pipeline, {"Pipeline.use_text_line_orientation": True})
    with tempfile.TemporaryDirectory() as scratch:
        bundles = {}
        for precision in PRECISIONS:
            options = ExportOptions(precision=precision, verify=False)
            bundles[precision] = export_bundle("arm", Path(scratch) / precision, config, options).out_dir
        for folder in arguments.images:
            compare(bundles, folder)
        emulate(bundles, arguments.photo, config)


if __name__ == "__main__":
    main()
