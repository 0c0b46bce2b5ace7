"""The Android project around a bundle, written from sources that ship with edge-ocr."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import edge_ocr
from converters.bundle.android.record import RECORD, is_made_by_tools, list_tools_folders
from converters.bundle.writer import BundleWriter
from edge_ocr.errors import ModelError

# Files that an export writes; a checkout may contain them if somebody tried the app there.
_EXPORTED = ("ocr/libs/", "ocr/src/main/jniLibs/", "ocr/src/main/assets/edge-ocr/", RECORD, "README.md")
_IGNORED_BY_GIT = "\n# Written by edge-ocr export"


def find_sources_folder() -> Path:
    """Return the folder of the project's sources, in the installed package or in a checkout."""
    package = Path(edge_ocr.__file__).parent
    installed = package / "android_demo"
    return installed if installed.is_dir() else package.parent / "android_demo"


def add_project(bundle: BundleWriter, abis: Sequence[str], engines: Sequence[str]) -> None:
    """Write the sources of the project around a bundle, set up for `abis` and `engines`.

    Raises ModelError if this installation lacks them, UsageError if they cannot be written.
    """
    folder = find_sources_folder()
    names = _list_sources(folder)
    if not names:
        raise ModelError(f"{folder}: the sources of the Android project are missing", "install edge-ocr again")
    for name in names:
        content = (folder / name).read_bytes()
        if name == "gradle.properties":
            content = _set_property(content.decode(), "abis", abis).encode()
            content = _set_property(content.decode(), "engines", engines).encode()
        elif name == ".gitignore":
            # In the user's own repository, bundle and libraries are to be tracked, too.
            content = (content.decode().partition(_IGNORED_BY_GIT)[0].rstrip() + "\n").encode()
        bundle.add_around(name, content)


def _list_sources(folder: Path) -> list[str]:
    """Return the files of the project, without those that tools or an export wrote."""
    found = [Path(parent, name) for parent, _, files in os.walk(folder) for name in files]
    names = {path.relative_to(folder).as_posix() for path in found}
    folders = list_tools_folders(names)
    return sorted(
        name
        for name in names
        if not is_made_by_tools(name, folders) and not name.startswith(_EXPORTED) and not name.endswith(".iml")
    )


def _set_property(properties: str, name: str, values: Sequence[str]) -> str:
    return re.sub(rf"(?m)^edgeocr\.{name}=.*$", f"edgeocr.{name}={','.join(values)}", properties)


def read_version(name: str) -> str:
    """Return a version in the project's gradle/libs.versions.toml, such as that of `onnxruntime` or `compileSdk`.

    Raises ModelError if this installation lacks the project's sources.
    """
    path = find_sources_folder() / "gradle" / "libs.versions.toml"
    try:
        found = re.search(rf'(?m)^{name} = "(.+)"$', path.read_text(encoding="utf-8"))
    except OSError:
        found = None
    if found is None:
        raise ModelError(f"{path}: the sources of the Android project are missing", "install edge-ocr again")
    return found[1]
