"""The texts of a bundle: its README, made for what is in it, and the licences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.graph.charsets import NAMED_CHARSETS
from converters.lite.toolchain import LITE_VERSION
from edge_ocr import __version__

if TYPE_CHECKING:
    from converters.bundle.contents import BundleContents
    from converters.plan import ExportedModel

LICENSES = """\
edge-ocr (texts and configuration; for boards runtime/ and its scripts; for Android the project around this)
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


_ARM_CHECK = """\
Check it in your program: the version that the runtime
reports must equal `lite.runtime_version` in `manifest.json`."""
_ANDROID_CHECK = """\
Module `ocr` compares them when it opens the
bundle, and stops where they differ."""


def write_readme(contents: BundleContents) -> str:
    """Return the README of one bundle."""
    target, opt_version = contents.target, contents.toolchain.opt_version
    for_board = target.name == "arm"
    characters = len(contents.charset.classes) - 1
    rows = "".join(_describe_model(model) for model in contents.models)
    files = "".join(f"| `{name}` | {text} |\n" for name, text in _list_files(contents).items())
    return f"""\
# {"OCR bundle for " + target.summary if for_board else "An Android app that reads text"}

Made by edge-ocr {__version__}, for **Paddle-Lite {opt_version}** and no other version: a runtime of another
version only warns, and may then read wrong. {_ARM_CHECK if for_board else _ANDROID_CHECK}
{_describe_board() if for_board else _describe_app(contents)}
| model | does | made from | size |
|---|---|---|---|
{rows}
Weights: {_PRECISIONS[contents.options.precision]}. Characters: {characters}, and the CTC blank is class 0.

{f"In `{target.bundle_folder}/`:" + chr(10) * 2 if target.bundle_folder else ""}| file | holds |
|---|---|
{files}
## The Paddle-Lite library

{_describe_libraries(contents)}
## {"How a program loads a model" if for_board else "In an app of your own"}

{target.usage}
## How a picture is read

All numbers are in `manifest.json`, under `settings` and `constants`; `pipeline.yaml` has the settings as a pipeline
file of edge-ocr, for exporting again.

1. Detection: put a border around small pictures and strips (`constants.border`); scale the BGR picture so that
   {_LIMITS[contents.config.detection.limit_type]} `Detection.limit_side_len`,
   each side rounded to a multiple of 32; (x / 255 - mean) / std per channel; run
   `models/det.nb` on 1 x 3 x H x W. Its output is the probability of text at each pixel. Binarise at
   `thresh`, take outlines, fit rotated rectangles, drop those with a mean below `box_thresh`, grow them
   by area x `unclip_ratio` / perimeter, scale them back. Where the text that this finds is too small and
   `Detection.windows` is true, do the same at a larger scale, in overlapping windows that make one map
   (`constants.windows`), and keep what only the first look found.
2. Cut each rectangle out with a perspective transform; turn it by 90 degrees if it is at least 1.5 times
   taller than wide.
3. Recognition: scale the crop to the height in `Recognition.image_shape`, keep its ratio; x / 127.5 - 1;
   pad with zeros on the right up to the width in `image_shape`, or the next multiple of 64; run
   `models/rec.nb`. Its output is T x classes. A line wider than `constants.recognition.max_width` is cut at gaps.
4. Take the best class at each step, drop repeats, then class 0. Class n is line n of `dict.txt`; a line
   may be a space, or empty for a class that reads as nothing: do not trim it away.
{_describe_classifier(contents)}{"" if for_board else _ANDROID_LIMITS}"""


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


_ANDROID_LIMITS = """
## Bundles of yours only

With the public key `KEY.pub` as `app/src/main/assets/edge-ocr-trust/KEY.pem`, the app opens its bundle only if
`edge-ocr export --sign KEY.key` made it and no newer one was opened before. For a bundle in a folder, pass
`OcrOptions(trust = Trust.fromAssets(context))`. The device must know Ed25519, which Android learnt in 2025 with updates
of its Conscrypt; on one that does not, nothing opens, unless the app brings Conscrypt 2.6 or newer.

## What to know

- Paddle-Lite has libraries for ARM only: emulators on x86 cannot run the app.
- The APK that Gradle makes is a debug one, signed with this machine's debug key. A release needs a key of yours.
- The libraries stay uncompressed in the APK and are mapped from there (`extractNativeLibs="false"`,
  `useLegacyPackaging = false`): no second copy on the device, and the build aligns them to 16 KB inside the APK. That
  is not enough for a device with pages of 16 KB (some with Android 15 or newer): the library's own segments must be
  aligned, too, or the app cannot load it there. Google Play asks the same of apps for Android 15 and newer. A library
  here that is not aligned is named above.
- No speed on a phone was measured yet; the app's benchmark measures it on yours.
"""


def _describe_app(contents: BundleContents) -> str:
    target = contents.target
    return f"""
## To a running app

1. {_describe_first_step(contents)}
2. Open this folder in Android Studio. Or, without it: with Java 17, the Android SDK with platform 35 (`ANDROID_HOME`
   names its folder) and Gradle 8.13 or a later 8.x, run `gradle :app:assembleDebug` here.
3. Run `app` on a phone with Android 7 or newer. Or, from the folder above, `edge-ocr deploy THIS_FOLDER --adb`: it
   builds and installs the app, lets it read a picture on the phone, and compares with what the host read.

`ocr/` is the library, with everything that reading takes; `app/` shows what it does. To put a newer bundle into a
project that you changed, export to another folder, and replace `{target.bundle_folder}`, `ocr/libs` and
`{target.library_folder}` by those from there, and `edgeocr.abis` in `gradle.properties` if you gave other ABIs.
"""


def _describe_first_step(contents: BundleContents) -> str:
    target, options, libraries = contents.target, contents.options, contents.libraries
    version = contents.toolchain.opt_version
    lacking = [target.platforms[abi] for abi, library in libraries.items() if library is None]
    if not lacking:
        alone = [abi for abi, library in libraries.items() if library is not None and library.lacks_cxx_runtime]
        if alone:
            return (
                f"Paddle-Lite's library for {' and '.join(alone)} cannot be loaded as it is: see below what it needs."
            )
        return "Paddle-Lite's libraries are in their places: nothing is to be fetched."
    given = f"--target {target.name} {target.abi_option} {','.join(libraries)}"
    if options.precision != "fp32":
        given += f" --quantize {options.precision}"
    if options.charset != "full":
        given += f" --charset {options.charset if options.charset in NAMED_CHARSETS else 'FILE'}"
    if contents.find_model("cls") is not None:
        given += " --with-cls"
    if not options.optimize:
        given += " --no-optimize"
    if options.lite_version != LITE_VERSION:
        given += f" --lite-version {options.lite_version}"
    fetch = "".join(f"   edge-ocr libs fetch --platform {platform} --version {version}\n" for platform in lacking)
    return f"""\
Paddle-Lite's library is missing, without which the build stops. This gets it; then export again, with the models, the
   pipeline file and the --set that you gave, if you did:

   ```sh
{fetch}   edge-ocr export {given} --force --out THIS_FOLDER
   ```
"""


def _describe_classifier(contents: BundleContents) -> str:
    if contents.find_model("cls") is None:
        return ""
    return """\
5. Before recognition, `models/cls.nb` finds lines that stand upside down: scale and pad a crop as for recognition, to
   `Orientation.image_shape`; where its second output exceeds `Orientation.thresh`, turn the crop by 180 degrees.
"""


def _describe_model(model: ExportedModel) -> str:
    source = model.source.model
    return f"| `models/{source.kind}.nb` | {_KINDS[source.kind]} | {source.name} | {len(model.data) / 1e6:.2f} MB |\n"


def _list_files(contents: BundleContents) -> dict[str, str]:
    target, options = contents.target, contents.options
    files = {
        "manifest.json": "versions, settings, sha256 of every file, what the models were made from",
        "dict.txt": "the characters, one a line, in the order of the classes",
        "pipeline.yaml": "the settings once more, as a pipeline file",
        "golden.png": "a picture for self-tests; what must be read in it is in manifest.json under `golden`",
    }
    if options.signer is not None:
        files["manifest.sig"] = (
            "the signature of manifest.json (Ed25519); a machine with the key in /etc/edge-ocr/trust/*.pem checks it"
        )
    if options.with_onnx:
        files["onnx/"] = "the same graphs as ONNX, with 32-bit weights"
    if target.name == "arm":
        files["install.sh`, `uninstall.sh"] = "completes the bundle on the board; takes that back"
        files["edge-ocr-lite"] = "the command"
        files["edge-ocr-lite.service"] = "an example of a systemd unit"
        files["runtime/"] = "the code behind it: the very modules that edge-ocr reads with on the host"
    for abi, library in contents.libraries.items():
        # In a project they are not part of the bundle.
        if library is not None and not target.bundle_folder:
            files.update(dict.fromkeys(target.place_library(abi, library), "Paddle-Lite"))
    files["bom.cdx.json"] = "what the bundle consists of: versions, origins, licences and sha256, as CycloneDX 1.6"
    files["LICENSES"] = "who made what, under which licence"
    return files


def _describe_libraries(contents: BundleContents) -> str:
    target, version, text = contents.target, contents.toolchain.opt_version, ""
    for abi, library in contents.libraries.items():
        if library is None:
            text += (
                f"- `{abi}`: not there. This gets it; then export again:\n"
                f"  `edge-ocr libs fetch --platform {target.platforms[abi]} --version {version}`\n"
                "  The place of the official archive is in `manifest.json` under `lite.libraries`.\n"
            )
            continue
        placed = ", ".join(f"`{name}`" for name in target.place_library(abi, library))
        text += f"- `{abi}`: {placed}, {library.actual_version}.\n"
        text += "".join(f"  **{concern}**\n" for concern in library.concerns)
    return text
