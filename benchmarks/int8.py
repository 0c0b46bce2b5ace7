"""Measure the ranges of a recogniser's layers that compute in int8 on hosts, and write them to the package's table.

    python -m benchmarks.int8 PP-OCRv4_mobile_rec [--inputs NAME,...] --images DIR [--images DIR2 ...]

Without `--inputs`, it lists the layers: the tensor that each reads, the shape of its weights and its range. With it,
these layers are entered in the table. Ranges are those of the lines that the pipeline finds in the pictures: the
outermost 0.01 % of each line's values are clipped. Pictures should be others than those that accuracy is measured on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_ocr import create_pipeline
from edge_ocr.core.engines.base import Engine
from edge_ocr.core.pictures import list_pictures
from edge_ocr.engines.openvino_graph import simplify
from edge_ocr.engines.openvino_int8 import TABLE, list_inputs, name_network
from edge_ocr.engines.silent_openvino import ov
from edge_ocr.models.resolve import resolve_model

CLIPPED_PERCENT = 0.01
DIGITS = 5


class _Recorder:
    """Runs another engine and keeps its inputs."""

    def __init__(self, engine: Engine) -> None:
        self.name = engine.name
        self.inputs: list[NDArray[np.float32]] = []
        self._engine = engine

    def run(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        self.inputs.append(array)
        return self._engine.run(array)


def collect_lines(name: str, pictures: Iterable[Path]) -> list[NDArray[np.float32]]:
    """Return the lines of the pictures as inputs of the recogniser, each 1 × 3 × 48 × W."""
    reader = create_pipeline(overrides={"Pipeline.text_rec_model": name, "Pipeline.text_rec_batch_size": 1})
    recogniser = reader._readers[0].recognizer
    recorder = _Recorder(recogniser.engine)
    recogniser.engine = recorder
    for picture in pictures:
        list(reader.predict(picture))
    return recorder.inputs


def measure_ranges(model: ov.Model, lines: Iterable[NDArray[np.float32]]) -> dict[str, tuple[float, float]]:
    """Return the range of each tensor that a product reads."""
    inputs = list_inputs(model)
    results = [ov.opset13.result(nodes[0].input_value(0)) for nodes in inputs.values()]
    request = ov.compile_model(
        ov.Model(results, model.get_parameters(), "inputs"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    ).create_infer_request()
    ends = []
    for line in lines:
        request.infer([line])
        values = [request.get_output_tensor(i).data for i in range(len(results))]
        ends.append([np.percentile(value, [CLIPPED_PERCENT, 100 - CLIPPED_PERCENT]) for value in values])
    stacked = np.array(ends)
    lows, highs = stacked[:, :, 0].min(axis=0), stacked[:, :, 1].max(axis=0)
    return {name: (float(low), float(high)) for name, low, high in zip(inputs, lows, highs, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", metavar="NAME", help="a recogniser of the registry")
    parser.add_argument("--images", type=Path, action="append", required=True, metavar="DIR", help="may be repeated")
    parser.add_argument("--inputs", default="", metavar="NAME,...", help="tensors whose readers compute in int8")
    options = parser.parse_args()
    stored = resolve_model(options.model, "rec")
    model = ov.Core().read_model(stored.program)
    simplify(model)
    ranges = measure_ranges(model, collect_lines(options.model, (p for d in options.images for p in list_pictures(d))))
    for name, nodes in list_inputs(model).items():
        shapes = ", ".join(str(list(node.input_value(1).get_shape())) for node in nodes)
        print(f"{name:32} {ranges[name][0]:9.3f} {ranges[name][1]:9.3f}  {shapes}")
    names = [name for name in options.inputs.split(",") if name]
    unknown = sorted(set(names) - set(ranges))
    if unknown:
        raise SystemExit(f"no such tensor: {', '.join(unknown)}")
    if names:
        table = json.loads(TABLE.read_text(encoding="utf-8"))
        chosen = {name: [round(end, DIGITS) for end in ranges[name]] for name in names}
        table[name_network(stored)] = {"name": options.model, "inputs": chosen}
        TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
