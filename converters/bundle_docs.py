"""The texts of a bundle: its README, made for what is in it, and the licences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edge_ocr import __version__

if TYPE_CHECKING:
    from converters.export import ExportedModel, ExportOptions
    from converters.runtime_libs import RuntimeLibrary
    from converters.targets import Target
    from edge_ocr.core.charset import Charset

LICENSES = """\
edge-ocr (this bundle's texts, configuration and, for boards, runtime/ and its scripts)
    Apache License 2.0
PP-OCR models (models/*.nb, made from PaddleOCR's weights unless you exported your own) and dict.txt
    Copyright PaddlePaddle Authors, Apache License 2.0
    https://github.com/PaddlePaddle/PaddleOCR
Paddle-Lite (the library, where the bundle holds one)
    Copyright PaddlePaddle Authors, Apache License 2.0
    https://github.com/PaddlePaddle/Paddle-Lite

The Apache License 2.0: https://www.apache.org/licenses/LICENSE-2.0
"""

_PRECISIONS = {
    "fp32": "32-bit floats",
    "int16": "16-bit integers with a scale for each output channel; computed in 32-bit floats",
    "int8": "8-bit integers with a scale for each output channel; computed in 32-bit floats",
}

_LIMITS = {
    "max": "its longer side is at most",
    "min": "its shorter side is at least",
    "long": "its longer side is exactly",
}

_KINDS = {"det": "finds text lines", "rec": "reads a line", "cls": "finds lines that stand upside down"}


def write_readme(
    target: Target,
    opt_version: str,
    options: ExportOptions,
    exported: tuple[ExportedModel, ...],
    charset: Charset,
    libraries: Mapping[str, RuntimeLibrary | None],
    limit_type: str,
) -> str:
    """Return the README of one bundle; `limit_type` is that of its detection."""
    for_board = target.name == "arm"
    rows = "".join(_describe_model(model) for model in exported)
    listed = _list_files(target, libraries, with_onnx=options.with_onnx)
    files = "".join(f"| `{name}` | {text} |\n" for name, text in listed.items())
    return f"""\
# OCR bundle for {target.summary}

Made by edge-ocr {__version__}, for **Paddle-Lite {opt_version}** and no other version: a runtime of another
version only warns, and may then read wrong. Check it in your program: the version that the runtime
reports must equal `lite.runtime_version` in `manifest.json`.
{_describe_board() if for_board else ""}
| model | does | made from | size |
|---|---|---|---|
{rows}
Weights: {_PRECISIONS[options.precision]}. Characters: {len(charset.classes) - 1}, and the CTC blank is class 0.

| file | holds |
|---|---|
{files}
## The Paddle-Lite library

{_describe_libraries(target, opt_version, libraries)}
## How a program loads a model

{target.usage}
## How a picture is read

All numbers are in `manifest.json`, under `settings` and `constants`; `pipeline.yaml` has the settings as a pipeline
file of edge-ocr, for exporting again.

1. Detection: scale the BGR picture so that {_LIMITS[limit_type]} `Detection.limit_side_len`,
   each side rounded to a multiple of 32; (x / 255 - mean) / std per channel; run
   `models/det.nb` on 1 x 3 x H x W. Its output is the probability of text at each pixel. Binarise at
   `thresh`, take outlines, fit rotated rectangles, drop those with a mean below `box_thresh`, grow them
   by area x `unclip_ratio` / perimeter, scale them back.
2. Cut each rectangle out with a perspective transform; turn it by 90 degrees if it is at least 1.5 times
   taller than wide.
3. Recognition: scale the crop to the height in `Recognition.image_shape`, keep its ratio; x / 127.5 - 1;
   pad with zeros on the right up to the width in `image_shape`, or the next multiple of 64; run
   `models/rec.nb`. Its output is T x classes.
4. Take the best class at each step, drop repeats, then class 0. Class n is line n of `dict.txt`; one line
   may be a space: do not trim it away.
{_describe_classifier(exported)}"""


def _describe_board() -> str:
    return """
## On the board

Copy this folder there, as it is, and in it

```sh
sh install.sh                     # checks the board, says what is missing, and tests what it made
./edge-ocr-lite photo.jpg         # reads a picture; --help tells the rest: folders, JSON, bench, camera, selftest
```

It needs Python 3.9 or newer with NumPy, OpenCV and pyclipper (Debian: `apt install python3-numpy python3-opencv
python3-pyclipper`); `sh install.sh --pip` brings what is missing into a venv inside this folder. Beside Paddle-Lite it
runs on ONNX Runtime, where the bundle has `onnx/` and Python has `onnxruntime`. `sh uninstall.sh` removes what
`install.sh` made. In Python, with `runtime/` in `PYTHONPATH`:

```python
from edge_ocr_lite import LiteOCR

reader = LiteOCR("path/of/this/folder")
for line in reader.predict("photo.jpg").lines:
    print(line.text, line.rec_score, line.polygon)
```
"""


def _describe_classifier(exported: tuple[ExportedModel, ...]) -> str:
    if all(model.source.model.kind != "cls" for model in exported):
        return ""
    return """\
5. Before recognition, `models/cls.nb` finds lines that stand upside down: scale and pad a crop as for recognition, to
   `Orientation.image_shape`; where its second output exceeds `Orientation.thresh`, turn the crop by 180 degrees.
"""


def _describe_model(model: ExportedModel) -> str:
    source = model.source.model
    return f"| `models/{source.kind}.nb` | {_KINDS[source.kind]} | {source.name} | {len(model.data) / 1e6:.2f} MB |\n"


def _list_files(target: Target, libraries: Mapping[str, RuntimeLibrary | None], *, with_onnx: bool) -> dict[str, str]:
    files = {
        "manifest.json": "versions, settings, sha256 of every file, what the models were made from",
        "dict.txt": "the characters, one a line, in the order of the classes",
        "pipeline.yaml": "the settings once more, as a pipeline file",
        "golden.png": "a picture for self-tests; what must be read in it is in manifest.json under `golden`",
    }
    if with_onnx:
        files["onnx/"] = "the same graphs as ONNX, with 32-bit weights"
    if target.name == "arm":
        files["install.sh`, `uninstall.sh"] = "completes the bundle on the board; takes that back"
        files["edge-ocr-lite"] = "the command"
        files["edge-ocr-lite.service"] = "an example of a systemd unit"
        files["runtime/"] = "the code behind it: the very modules that edge-ocr reads with on the host"
    for abi, library in libraries.items():
        if library is not None:
            files[f"{target.library_folder}/{abi}/{library.library.name}"] = "Paddle-Lite"
            if library.jar is not None:
                files[f"libs/{library.jar.name}"] = "Paddle-Lite's Java classes"
    files["LICENSES"] = "who made what, under which licence"
    return files


def _describe_libraries(target: Target, version: str, libraries: Mapping[str, RuntimeLibrary | None]) -> str:
    text = ""
    for abi, library in libraries.items():
        if library is None:
            text += (
                f"- `{abi}`: not in this bundle. This gets it; then export again:\n"
                f"  `edge-ocr libs fetch --platform {target.platforms[abi]} --version {version}`\n"
                "  The place of the official archive is in `manifest.json` under `lite.libraries`.\n"
            )
            continue
        text += f"- `{abi}`: `{target.library_folder}/{abi}/{library.library.name}`, {library.actual_version}.\n"
        text += "".join(f"  **{concern}**\n" for concern in library.concerns)
    return text
