"""The targets that a bundle can be made for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from converters.lite.libraries.library import RuntimeLibrary
from edge_ocr.errors import UsageError


@dataclass(frozen=True)
class Target:
    """A kind of device, with what opt and the bundle need to know about it."""

    name: str
    summary: str
    valid_places: str
    """Paddle-Lite's name for the kernels that opt may choose from."""
    abi_option: str
    """The option of `edge-ocr export` that chooses the ABI."""
    platforms: Mapping[str, str]
    """ABI to its platform in `converters.lite.libraries.platforms`; the first ABI is the default."""
    emulator_abis: tuple[str, ...]
    """Other ABIs, which Paddle-Lite has no library for; the first is another default with ONNX Runtime."""
    bundle_folder: str
    """Path of the bundle in the exported folder; empty if that folder is the bundle."""
    library_folder: str
    """Path in the exported folder; each library is in a subfolder named after its ABI."""
    usage: str
    """For the README: how a program on the device loads a model."""

    def choose_engines(self, wanted: str | None, *, has_lite_lib: bool) -> tuple[str, ...]:
        """Return what runs the networks in an app, the preferred engine first; nothing for boards, which choose.

        By default it is ONNX Runtime, which Gradle fetches, so that the project builds at once; Paddle-Lite if its
        library was given.

        Raises UsageError if `wanted` does not fit the target or the library.
        """
        if not self.bundle_folder:
            if wanted is not None:
                raise UsageError(
                    f"--engine {wanted}: not for --target {self.name}: a board chooses what it has",
                    "add --with-onnx if it may use ONNX Runtime",
                )
            return ()
        if wanted == "onnxruntime" and has_lite_lib:
            raise UsageError("--lite-lib: not used with --engine onnxruntime", "use --engine both, or omit --lite-lib")
        if wanted is None:
            wanted = "paddle_lite" if has_lite_lib else "onnxruntime"
        return ("onnxruntime", "paddle_lite") if wanted == "both" else (wanted,)

    def choose_abis(self, names: Sequence[str], engines: Sequence[str] = ()) -> tuple[str, ...]:
        """Return the given ABIs, each once; the defaults for an empty list.

        Raises UsageError for an ABI that the target or all of its engines lack.
        """
        with_emulators = "onnxruntime" in engines
        known = (*self.platforms, *(self.emulator_abis if with_emulators else ()))
        for name in names:
            if name in self.emulator_abis and not with_emulators:
                raise UsageError(
                    f"{self.abi_option} {name}: Paddle-Lite has no library for it", "use --engine onnxruntime or both"
                )
            if name not in known:
                raise UsageError(
                    f"{self.abi_option} {name or repr('')}: the target {self.name} has no such ABI",
                    f"give one or more of {', '.join(known)}, separated by commas",
                )
        if names and "paddle_lite" in engines and not set(names).intersection(self.platforms):
            raise UsageError(
                f"{self.abi_option} {','.join(names)}: Paddle-Lite has no library for it",
                f"use --engine onnxruntime, or add {next(iter(self.platforms))}",
            )
        default = (next(iter(self.platforms)), *(self.emulator_abis[:1] if with_emulators else ()))
        return tuple(dict.fromkeys(names)) or default

    def place_library(self, abi: str, library: RuntimeLibrary) -> dict[str, Path]:
        """Return the files of a library for one ABI, by their path in the exported folder, the library first."""
        folder = f"{self.library_folder}/{abi}"
        placed = {f"{folder}/{library.library.name}": library.library}
        if self.name == "android":
            if library.cxx_runtime is not None:
                placed[f"{folder}/{library.cxx_runtime.name}"] = library.cxx_runtime
            if library.jar is not None:
                placed[f"ocr/libs/{library.jar.name}"] = library.jar
        return placed


_ARM_USAGE = """\
`./edge-ocr-lite` and `LiteOCR` do this for you. To write your own C++ program instead, build it with the headers of
Paddle-Lite's archive (`-I cxx/include`) and `-L lib/<arch> -lpaddle_light_api_shared`, and load a model with

```cpp
paddle::lite_api::MobileConfig config;
config.set_model_from_file("models/det.nb");
config.set_threads(2);
auto predictor = paddle::lite_api::CreatePaddlePredictor<paddle::lite_api::MobileConfig>(config);
```
"""

_ANDROID_USAGE = """\
Module `ocr` does all the work. To use it in your own project:

1. Copy the folder `ocr` into the project, and add `include(":ocr")` to `settings.gradle.kts`.
2. Add `implementation(project(":ocr"))` to your app. In its `android` block, add
   `androidResources { noCompress += listOf("nb", "onnx") }`, and to its `defaultConfig`
   `ndk { abiFilters += providers.gradleProperty("edgeocr.abis").get().split(",") }`: otherwise the app contains ONNX
   Runtime for four ABIs.
3. Add all `plugins` of the root `build.gradle.kts` here to yours: Gradle requires plugins that modules share to be
   declared there.
4. Add the entries of `gradle/libs.versions.toml` that yours lacks, and `edgeocr.abis` and `edgeocr.engines` from
   `gradle.properties`.

Your project needs Kotlin 2.2 or newer, Java 17 and `minSdk` 24 or higher. If your Kotlin or AGP warns about the module,
remove `allWarningsAsErrors` and `warningsAsErrors` from `ocr/build.gradle.kts`. The module is written for AGP 8.13. AGP
9 includes Kotlin, so there remove the plugin `kotlin-android` from the module.
Then, off the main thread:

```kotlin
EdgeOcr.open(context).use { ocr ->
    for (line in ocr.recognize(bitmap).lines) Log.i("OCR", line.text)
}
```

```java
try (EdgeOcr ocr = EdgeOcr.open(context)) {
    for (TextLine line : ocr.recognize(bitmap).getLines()) Log.i("OCR", line.getText());
}
```

Opening takes as long as reading several pictures, so keep the `EdgeOcr` open. Several threads may use it; they take
turns.

With `OcrOptions(returnWords = ReturnWords.WORDS)` as the second argument of `open`, each line also has `words`, with
text, score and polygon; with `CHARS`, each word also has its `characters`.
"""

TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        target.name: target
        for target in (
            Target(
                "arm",
                summary="boards with ARM Linux",
                valid_places="arm",
                abi_option="--arch",
                platforms=MappingProxyType({"armv8": "armlinux.armv8", "armv7hf": "armlinux.armv7hf"}),
                emulator_abis=(),
                bundle_folder="",
                library_folder="lib",
                usage=_ARM_USAGE,
            ),
            Target(
                "android",
                summary="a ready Android project",
                valid_places="arm",
                abi_option="--abi",
                platforms=MappingProxyType({"arm64-v8a": "android.armv8", "armeabi-v7a": "android.armv7"}),
                emulator_abis=("x86_64", "x86"),
                bundle_folder="ocr/src/main/assets/edge-ocr",
                library_folder="ocr/src/main/jniLibs",
                usage=_ANDROID_USAGE,
            ),
        )
    }
)


def find_target(name: str) -> Target:
    """Return the target called `name`.

    Raises UsageError, which lists the targets, for an unknown name.
    """
    if name not in TARGETS:
        known = "; ".join(f"{target.name} ({target.summary})" for target in TARGETS.values())
        raise UsageError(f"unknown target {name!r}", f"choose one of: {known}")
    return TARGETS[name]
