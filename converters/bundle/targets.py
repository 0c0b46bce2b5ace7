"""What a bundle can be made for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from edge_ocr.errors import UsageError

if TYPE_CHECKING:
    from converters.lite.libraries.library import RuntimeLibrary


@dataclass(frozen=True)
class Target:
    """A kind of device, and what opt and the bundle must know about it."""

    name: str
    summary: str
    valid_places: str
    """Paddle-Lite's word for the kernels that opt may choose from."""
    abi_option: str
    """What its users call an ABI: the option of `edge-ocr export`."""
    platforms: Mapping[str, str]
    """ABI to its platform in `converters.lite.libraries.platforms`; the first ABI is the default."""
    bundle_folder: str
    """Where the bundle lies in what an export writes; empty where it is the whole of it."""
    library_folder: str
    """Of what an export writes; a library lies in it under the name of its ABI."""
    usage: str
    """For the bundle's README: how a program on the device loads a model."""

    def choose_abis(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the ABIs of a bundle, each once: the given ones, or the default where none is given.

        Raises UsageError for one that the target does not have.
        """
        unknown = [name for name in names if name not in self.platforms]
        if unknown:
            raise UsageError(
                f"{self.abi_option} {unknown[0] or repr('')}: the target {self.name} has no such ABI",
                f"one or more of {', '.join(self.platforms)}, with commas between",
            )
        return tuple(dict.fromkeys(names)) or (next(iter(self.platforms)),)

    def place_library(self, abi: str, library: RuntimeLibrary) -> dict[str, Path]:
        """Return the files of a library for one ABI by their place in what an export writes, the library first."""
        folder = f"{self.library_folder}/{abi}"
        placed = {f"{folder}/{library.library.name}": library.library}
        if self.name == "android":
            if library.cxx_runtime is not None:
                placed[f"{folder}/{library.cxx_runtime.name}"] = library.cxx_runtime
            if library.jar is not None:
                placed[f"ocr/libs/{library.jar.name}"] = library.jar
        return placed


_ARM_USAGE = """\
`./edge-ocr-lite` and `LiteOCR` do all of this. A C++ program of your own, built with `-I` the headers of Paddle-Lite's
archive (`cxx/include`) and `-L lib/<arch> -lpaddle_light_api_shared`, loads a model with

```cpp
paddle::lite_api::MobileConfig config;
config.set_model_from_file("models/det.nb");
config.set_threads(2);
auto predictor = paddle::lite_api::CreatePaddlePredictor<paddle::lite_api::MobileConfig>(config);
```
"""

_ANDROID_USAGE = """\
Module `ocr` does all of this. Copy its folder into your own project, `include(":ocr")` in `settings.gradle.kts`,
`implementation(project(":ocr"))` in your app, all `plugins` of the root `build.gradle.kts` in yours (Gradle refuses a
plugin of a module that comes with another one there), what `gradle/libs.versions.toml` has and yours has not, and
`edgeocr.abis` of `gradle.properties`; in the `android` block of your app `androidResources { noCompress += "nb" }`. The
module is written for AGP 8.13; on AGP 9, which brings Kotlin itself, leave the plugin `kotlin-android` out of it. Then,
off the main thread,

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

Opening takes as long as reading several pictures: keep the `EdgeOcr`. It may be used from several threads, which take
turns.
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
                bundle_folder="ocr/src/main/assets/edge-ocr",
                library_folder="ocr/src/main/jniLibs",
                usage=_ANDROID_USAGE,
            ),
        )
    }
)


def find_target(name: str) -> Target:
    """Return the target called `name`.

    Raises UsageError, listing what there is, for any other name.
    """
    if name not in TARGETS:
        known = "; ".join(f"{target.name} ({target.summary})" for target in TARGETS.values())
        raise UsageError(f"unknown target {name!r}", f"targets: {known}")
    return TARGETS[name]
