"""edge-ocr-project.json: every file of an exported Android project with its sha256, for `ownership`."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from converters.bundle.targets import TARGETS
from edge_ocr.core.bundle import MANIFEST

RECORD = "edge-ocr-project.json"

KEPT = ("local.properties", ".idea", "gradlew", "gradlew.bat", "gradle/wrapper/gradle-wrapper.jar")
"""The user's files that belong to this machine or come from `gradle wrapper`, not to the project."""


def locate_bundle(folder: Path) -> Path:
    """Return the folder of the bundle: in the assets of an Android project, or else `folder` itself."""
    inside = folder / TARGETS["android"].bundle_folder
    try:
        is_project = (folder / RECORD).exists() or (inside / MANIFEST).is_file()
        return inside if is_project and not (folder / MANIFEST).exists() else folder
    except OSError:
        # For example, the name is too long; reading the manifest will report it.
        return folder


def write_record(version: str, files: Mapping[str, str]) -> bytes:
    """Return the record of a project made by edge-ocr `version`; `files` are the sha256 of its other files, by path."""
    content = {"edge_ocr_version": version, "files": dict(files)}
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def read_record(folder: Path) -> Mapping[str, str] | None:
    """Return the sha256, by path, of the files that an export wrote into `folder`; None if it is not such a project."""
    try:
        files = json.loads((folder / RECORD).read_bytes())["files"]
        return {str(name): str(sha256) for name, sha256 in files.items()}
    # RecursionError: a file full of brackets.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def list_modules(files: Collection[str]) -> set[str]:
    """Return the folders of a project's modules."""
    return {name.partition("/")[0] for name in files if name.count("/") == 1 and name.endswith("/build.gradle.kts")}


def list_tools_folders(files: Collection[str]) -> set[str]:
    """Return the folders of a project that Gradle and Kotlin write to, such as `app/build`."""
    return {".gradle", ".kotlin", "build", *(f"{module}/build" for module in list_modules(files))}


def is_made_by_tools(name: str, folders: Collection[str]) -> bool:
    """Tell whether Gradle or Android Studio wrote a path in a project; `folders` comes from `list_tools_folders`."""
    # Only the content of their folders: a file or a link called `build` is the user's.
    parents = {str(parent) for parent in PurePosixPath(name).parents}
    return name in KEPT or not parents.isdisjoint((*folders, *KEPT))
