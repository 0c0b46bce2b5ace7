"""What a bundle can be made for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from edge_ocr.errors import UsageError


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
    """ABI, as its users write it, to the platform of `converters.runtime_libs`; the first one is the default."""
    library_folder: str
    """Of the bundle; a library lies in it under the name of its ABI."""
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
`models/`, `dict.txt`, `pipeline.yaml` and `manifest.json` go to `src/main/assets/` of the app (`noCompress "nb"`),
`jniLibs/` to `src/main/`, `libs/PaddlePredictor.jar` to `libs/`. Copy a model out of the assets into `filesDir`, then

```java
MobileConfig config = new MobileConfig();
config.setModelFromFile(new File(context.getFilesDir(), "det.nb").getPath());
config.setThreads(2);
PaddlePredictor predictor = PaddlePredictor.createPaddlePredictor(config);
```
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
                library_folder="lib",
                usage=_ARM_USAGE,
            ),
            Target(
                "android",
                summary="assets of an Android app",
                valid_places="arm",
                abi_option="--abi",
                platforms=MappingProxyType({"arm64-v8a": "android.armv8", "armeabi-v7a": "android.armv7"}),
                library_folder="jniLibs",
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
