"""The README of a bundle, written for what that bundle holds, and its list of licences."""

from __future__ import annotations

import shlex
from collections import Counter

from converters.bundle.android.project import read_version
from converters.bundle.contents import BundleContents
from converters.graph.charsets import NAMED_CHARSETS
from converters.lite.toolchain import LITE_VERSION
from converters.plan import ExportedModel
from edge_ocr import __version__

LICENSES = """\
edge-ocr (texts and configuration; on boards, runtime/ and the scripts; on Android, the project around the bundle)
    Apache License 2.0
PP-OCR models (models/*.nb, converted from PaddleOCR's weights unless you exported your own) and dict.txt
    Copyright PaddlePaddle Authors, Apache License 2.0
    https://github.com/PaddlePaddle/PaddleOCR
ONNX Runtime (the library of an Android app, unless it uses Paddle-Lite only)
    Copyright Microsoft Corporation, MIT License
    https://github.com/microsoft/onnxruntime
Paddle-Lite (the library, if the bundle holds one)
    Copyright PaddlePaddle Authors, Apache License 2.0
    https://github.com/PaddlePaddle/Paddle-Lite

The Apache License 2.0: https://www.apache.org/licenses/LICENSE-2.0
"""

_PRECISIONS = {
    "fp32": "32-bit floats",
    "int16": "16-bit integers with one scale per output channel; computation is in 32-bit floats",
    "int8": "8-bit integers with one scale per output channel; computation is in 32-bit floats",
    "auto": "8-bit or 16-bit integers or 32-bit floats, chosen for each layer (see Integers)",
}

_LIMITS = {
    "max": "its longer side is at most",
    "min": "its shorter side is at least",
    "long": "its longer side is exactly",
}

_KINDS = {
    "det": "finds text lines",
    "rec": "reads one line",
    "cls": "finds upside-down lines",
    "page": "finds turned pages",
}


_DETECTION = """\
Detection: add a border to small pictures and strips (`constants.border`). Scale the BGR picture so that
   {limit} `Detection.limit_side_len`, and round each side to a multiple of 32.
   Normalise each channel: (x / 255 - mean) / std. Run `models/det.nb` on 1 x 3 x H x W; its output is the probability
   of text at each pixel. Binarise it at `thresh`, find outlines, fit rotated rectangles, drop those whose mean
   probability is below `box_thresh`, grow the others by area x `unclip_ratio` / perimeter, and scale them back. If the
   text found is too small and `Detection.windows` is true, repeat this at a larger scale in overlapping windows that
   form one map (`constants.windows`), and keep what only the first pass found. An input of more than `whole_pixels` is
   computed in windows in any case.
"""
_CROPS = """\
Cut each rectangle out with a perspective transform. Turn the crop by 90 degrees if it is at least 1.5 times taller
   than wide.
"""
_PAGE = """\
Page: scale the picture so that its shorter side is `PageOrientation.resize_short`, cut
   `PageOrientation.image_shape` out of its middle, and normalise each channel, red first: (x / 255 - mean) / std. Run
   `models/page.nb`; class n means that the page is turned by n x 90 degrees clockwise. Turn the picture back. If the
   class is not 0, or its probability is not above `PageOrientation.thresh`, read the longest lines both ways to find
   out how the page is turned (`constants.page_orientation`).
"""
_ORIENTATION = """\
Orientation: scale and pad the crop as for recognition, to `Orientation.image_shape`, and run `models/cls.nb`. If its
   second output exceeds `Orientation.thresh`, turn the crop by 180 degrees.
"""
_RECOGNITION = """\
Recognition: scale the crop to the height in `Recognition.image_shape`, keeping its aspect ratio. Normalise:
   x / 127.5 - 1. Pad with zeros on the right to the width in `image_shape`, or, if it is wider, to the next multiple of
   64. Run `models/rec.nb`; its output is T x classes. A line wider than `constants.recognition.max_width` is cut at
   gaps.
"""
_DECODING = """\
Decode: take the best class at each step, drop repeats, then drop class 0. Class n is line n of `dict.txt`. That line
   may be a single space, or empty for a class that produces no text, so do not strip lines.
"""
_SPACES = """\
   Where the blank is best, take the space instead if `Recognition.space_weight` x its probability is higher.
"""
_RIGHT_TO_LEFT = """\
   `Recognition.direction` is `rtl`: the steps run from left to right in the picture, so turn the text around, except
   numbers and words of left-to-right letters, and mirror brackets.
"""

_ARM_CHECK = """\
Check it in your program: the version
that the runtime reports must equal `lite.runtime_version` in `manifest.json`."""
_ANDROID_CHECK = """\
Module `ocr` compares the versions when it opens the bundle
and refuses a mismatch."""


def write_readme(contents: BundleContents) -> str:
    """Return the README of one bundle."""
    target = contents.target
    for_board = target.name == "arm"
    characters = len(contents.charset.classes) - 1
    rows = "".join(_describe_model(model) for model in contents.models)
    files = "".join(f"| `{name}` | {text} |\n" for name, text in _list_files(contents).items())
    return f"""\
# {"OCR bundle for " + target.summary if for_board else "An Android app that reads text"}

{_describe_runtime(contents)}
{_describe_board() if for_board else _describe_app(contents)}
## What is in it

| model | what it does | made from | size |
|---|---|---|---|
{rows}
Weights: {_describe_weights(contents)}. Characters: {characters}; the CTC blank is class 0.

{f"In `{target.bundle_folder}/`:" + chr(10) * 2 if target.bundle_folder else ""}| file | contents |
|---|---|
{files}
{_describe_libraries(contents)}
## {"How a program loads a model" if for_board else "In your own app"}

{target.usage}
## How a picture is read

All numbers are in `manifest.json`, under `settings` and `constants`. `pipeline.yaml` holds the same settings as a
pipeline file of edge-ocr, so that you can export again.

{_describe_steps(contents)}{_describe_limits(contents)}{_describe_integers(contents)}"""


def _describe_runtime(contents: BundleContents) -> str:
    if not contents.needs_lite:
        return f"Made by edge-ocr {__version__} for ONNX Runtime, which the build fetches."
    check = _ANDROID_CHECK if contents.engines else _ARM_CHECK
    other = "ONNX Runtime, which the build fetches, and " if "onnxruntime" in contents.engines else ""
    return (
        f"Made by edge-ocr {__version__} for {other}**Paddle-Lite {contents.toolchain.opt_version}** only:\n"
        f"a mismatched runtime just logs a warning and may then return wrong text. {check}"
    )


def _describe_board() -> str:
    return """
## On the board

Copy this folder to the board unchanged. Inside it, run

```sh
sh install.sh                     # checks the board, names what is missing, and runs a self-test
./edge-ocr-lite photo.jpg         # reads a picture; --help lists the rest: folders, JSON, bench, camera, selftest
```

The board needs Python 3.9 or newer with NumPy, OpenCV and pyclipper (Debian: `apt install python3-numpy python3-opencv
python3-pyclipper`). `sh install.sh --pip` installs missing modules into a virtual environment inside this folder. If
the bundle has `onnx/` and Python has `onnxruntime`, it can also run on ONNX Runtime instead of Paddle-Lite.
`sh uninstall.sh` removes what `install.sh` made. In Python, with `runtime/` in `PYTHONPATH`:

```python
from edge_ocr_lite import LiteOCR

reader = LiteOCR("path/of/this/folder")
for line in reader.predict("photo.jpg").lines:
    print(line.text, line.rec_score, line.polygon)
```
"""


_ANDROID_LIMITS = """
## Accept only your own bundles

Copy your public key `KEY.pub` to `app/src/main/assets/edge-ocr-trust/KEY.pem`. The app then opens its bundle only if
`edge-ocr export --sign KEY.key` made it, and refuses one that is older than a bundle it has opened before. For a bundle
in a folder, pass `OcrOptions(trust = Trust.fromAssets(context))`. The device must support Ed25519, which came to
Android in 2025 with updates of Conscrypt. On a device without it, no bundle opens unless the app contains Conscrypt 2.6
or newer.

## Limits

{limits}- Gradle builds a debug APK, signed with this machine's debug key. A release needs a key of your own.
- Libraries and networks stay uncompressed in the APK and are mapped from there (`useLegacyPackaging = false`,
  `noCompress`), and the build aligns libraries to 16 KB inside the APK. A device with pages of 16 KB (some with Android
  15 or newer) can load a library only if its own segments are aligned to 16 KB, too; Google Play requires this of apps
  for Android 15 and newer. Those of ONNX Runtime are; those of Paddle-Lite that are not are named above.
- Speed was not measured on any phone yet. Use the app's benchmark on yours.
"""


def _describe_app(contents: BundleContents) -> str:
    target, sdk = contents.target, read_version("compileSdk")
    return f"""
## Build and run the app

1. {_describe_first_step(contents)}
2. Open this folder in Android Studio. Without Android Studio, install Java 17, the Android SDK with platform {sdk} (set
   `ANDROID_HOME` to its folder) and Gradle 8.13 or a later 8.x, and run `gradle :app:assembleDebug` here.
3. Run `app` on a phone with Android 7 or newer. Alternatively, run `edge-ocr deploy THIS_FOLDER --adb` in the folder
   above: it builds and installs the app, reads a picture on the phone, and compares the result with the host's.

`ocr/` is the library, complete in itself; `app/` is a demo of it. To put a newer bundle into a project that you have
changed, export to another folder and copy `{target.bundle_folder}`, `ocr/libs` and
`{target.library_folder}` from there. For other ABIs or engines, also copy `edgeocr.abis` and `edgeocr.engines` from
`gradle.properties`.
"""


def _describe_limits(contents: BundleContents) -> str:
    if not contents.engines:
        return ""
    limits = ""
    if "paddle_lite" in contents.engines:
        limits = "- Paddle-Lite has libraries for ARM only"
        if "onnxruntime" in contents.engines:
            limits += "; emulators on x86 use ONNX Runtime. Phones use it, too, unless you pass\n"
            limits += "  `OcrOptions(engine = EngineKind.PADDLE_LITE)`.\n"
        else:
            limits += ", so emulators on x86 cannot run the app.\n"
    return _ANDROID_LIMITS.format(limits=limits)


def _describe_first_step(contents: BundleContents) -> str:
    if not contents.needs_lite:
        return "There is nothing to fetch by hand: Gradle fetches ONNX Runtime from Maven Central."
    target, options, libraries = contents.target, contents.options, contents.libraries
    version = contents.toolchain.opt_version
    lacking = [target.platforms[abi] for abi, library in libraries.items() if library is None]
    if not lacking:
        alone = [abi for abi, library in libraries.items() if library is not None and library.lacks_cxx_runtime]
        if alone:
            return f"Paddle-Lite's library for {' and '.join(alone)} cannot be loaded yet: see below what it needs."
        return "Paddle-Lite's libraries are in place; there is nothing to fetch."
    engine = "both" if len(contents.engines) == 2 else "paddle_lite"
    given = f"--target {target.name} --engine {engine} {target.abi_option} {','.join(contents.abis)}"
    given += "".join(f" --{model.source.model.kind}-model {_name_model(model)}" for model in contents.models)
    if options.precision != "fp32":
        given += f" --quantize {options.precision}"
    if options.compute is not None:
        given += f" --compute {options.compute}"
    if options.calibrate:
        given += " --calibrate PICTURES"
    if options.computes_int8 or options.precision == "auto":
        given += f" --max-drop {options.max_drop:g}"
    if options.prefer != "size":
        given += f" --prefer {options.prefer}"
    if options.charset != "full":
        given += f" --charset {options.charset if options.charset in NAMED_CHARSETS else 'FILE'}"
    turned = contents.config.use_page_orientation, contents.config.use_orientation
    if any(turned):
        given += f" --orientation {'both' if all(turned) else 'page' if turned[0] else 'line'}"
    if not options.optimize:
        given += " --no-optimize"
    if options.lite_version != LITE_VERSION:
        given += f" --lite-version {options.lite_version}"
    fetch = "".join(f"   edge-ocr libs fetch --platform {platform} --version {version}\n" for platform in lacking)
    return f"""\
Paddle-Lite's library is missing, and the build needs it. Fetch it, then export again with the same pipeline file
   and `--set` options as before:

   ```sh
{fetch}   edge-ocr export {given} --force --out THIS_FOLDER
   ```
"""


def _name_model(model: ExportedModel) -> str:
    """Return what `--det-model` and the like take; the folder of a user's model is not known to others."""
    source = model.source.model
    return shlex.quote(f"DIR of {source.name}" if source.spec is None else source.name)


def _describe_steps(contents: BundleContents) -> str:
    steps = [] if contents.find_model("page") is None else [_PAGE]
    steps += [_DETECTION.format(limit=_LIMITS[contents.config.detection.limit_type]), _CROPS]
    if contents.find_model("cls") is not None:
        steps.append(_ORIENTATION)
    recognition, decoding = contents.config.recognition, _DECODING
    if recognition.space_weight != 1:
        decoding += _SPACES
    if recognition.direction == "rtl":
        decoding += _RIGHT_TO_LEFT
    return "".join(f"{number}. {step}" for number, step in enumerate([*steps, _RECOGNITION, decoding], 1))


def _describe_model(model: ExportedModel) -> str:
    source = model.source.model
    return f"| `models/{source.kind}.nb` | {_KINDS[source.kind]} | {source.name} | {len(model.data) / 1e6:.2f} MB |\n"


def _describe_weights(contents: BundleContents) -> str:
    text = _PRECISIONS[contents.options.precision]
    if contents.options.computes_int8:
        text = text.replace("computation is in 32-bit floats", "some layers also compute in 8-bit integers")
    return text


def _describe_integers(contents: BundleContents) -> str:
    """Return a section on what was chosen for each layer; "" without integers."""
    chosen = contents.quantisation
    if chosen is None:
        return ""
    text = "\n## Integers\n\n"
    pictures, promise = chosen["pictures"], chosen["promise"]
    if pictures is not None:
        text += f"Weights were rounded so that the outputs of each layer change least on the {pictures} pictures.\n"
    if promise is not None:
        what = "labelled lines may be lost" if promise["measure"] == "exact_lines" else "lines may differ"
        text += (
            f"Limit: {promise['max_drop']:.2%} of the {what}. Measured on {promise['pictures']} pictures: "
            f"{promise['drop']:.2%} of {promise['lines']} lines; {promise['changed']} of {promise['compared']} lines "
            "differ from what the original models read.\n"
        )
    for kind, layers in chosen["layers"].items():
        counts = Counter((layer["weights"], layer["compute"], layer["reason"].partition(";")[0]) for layer in layers)
        text += f"\n{kind}: {len(layers)} layers.\n\n| layers | weights | compute in | why |\n|---|---|---|---|\n"
        text += "".join(f"| {count} | {' | '.join(key)} |\n" for key, count in counts.most_common())
        usual = counts.most_common(1)[0][0]
        others = [
            one
            for one in layers
            if "divergence" in one and (one["weights"], one["compute"], one["reason"].partition(";")[0]) != usual
        ]
        if others:
            text += "\nMeasured exceptions:\n\n| layer | weights | computes in | moves the output by | why |\n"
            text += "|---|---|---|---|---|\n"
        for layer in others:
            moved = f"{layer['divergence']:g}" if "divergence" in layer else ""
            cells = [layer["layer"], layer["weights"], layer["compute"], moved, layer["reason"]]
            text += f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"
    return text + "\n`manifest.json` lists all layers under `quantisation`.\n"


def _list_files(contents: BundleContents) -> dict[str, str]:
    target, options = contents.target, contents.options
    files = {
        "manifest.json": "versions, settings, the sha256 of every file, and what the models were made from",
        "dict.txt": "the characters, one per line, in the order of the classes",
        "pipeline.yaml": "the same settings as a pipeline file",
        "golden.png": "a picture for self-tests; the expected text is in manifest.json under `golden`",
    }
    if options.signer is not None:
        files["manifest.sig"] = (
            "the signature of manifest.json (Ed25519); machines with the key in /etc/edge-ocr/trust/*.pem check it"
        )
    if contents.engines:
        left = "; not in the APK" if "paddle_lite" not in contents.engines else ""
        files["models/"] = f"the networks for Paddle-Lite, which `edge-ocr verify` and `inspect` read{left}"
    if options.with_onnx:
        files["onnx/"] = "the same graphs as ONNX, with the same weights"
    if target.name == "arm":
        files["install.sh`, `uninstall.sh"] = "set the bundle up on the board, and undo that"
        files["edge-ocr-lite"] = "the command"
        files["edge-ocr-lite.service"] = "an example systemd unit"
        files["runtime/"] = "the code of `edge-ocr-lite`: the same modules that edge-ocr uses on the host"
    for abi, library in contents.libraries.items():
        # In a project they are not part of the bundle.
        if library is not None and not target.bundle_folder:
            files.update(dict.fromkeys(target.place_library(abi, library), "Paddle-Lite"))
    files["bom.cdx.json"] = "the parts of the bundle with versions, origins, licences and sha256 (SBOM, CycloneDX 1.6)"
    files["LICENSES"] = "copyrights and licences"
    return files


def _describe_libraries(contents: BundleContents) -> str:
    if not contents.needs_lite:
        return ""
    target, version, text = contents.target, contents.toolchain.opt_version, "## The Paddle-Lite library\n\n"
    for abi, library in contents.libraries.items():
        if library is None:
            text += (
                f"- `{abi}`: missing. Fetch it, then export again:\n"
                f"  `edge-ocr libs fetch --platform {target.platforms[abi]} --version {version}`\n"
                "  `manifest.json` has the URL of the official archive under `lite.libraries`.\n"
            )
            continue
        placed = ", ".join(f"`{name}`" for name in target.place_library(abi, library))
        text += f"- `{abi}`: {placed}, {library.actual_version}.\n"
        text += "".join(f"  **{concern}**\n" for concern in library.concerns)
    return text
