"""edge-ocr-project.json: every file of an exported Android project with its sha256, to tell what its user changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from converters.targets import TARGETS
from edge_ocr.core.bundle import MANIFEST

RECORD = "edge-ocr-project.json"

KEPT = ("local.properties", ".idea", "gradlew", "gradlew.bat", "gradle/wrapper/gradle-wrapper.jar")
"""The user's, but of this machine or made by `gradle wrapper`, not of the project; an export takes them along."""

_TOOLS = frozenset((".gradle", ".kotlin", "build"))


def locate_bundle(folder: Path) -> Path:
    """Return the folder of the bundle: of an Android project its assets, otherwise `folder` itself."""
    inside = folder / TARGETS["android"].bundle_folder
    try:
        is_project = (folder / RECORD).exists() or (inside / MANIFEST).is_file()
        return inside if is_project and not (folder / MANIFEST).exists() else folder
    except OSError:
        # Such as a name that is too long: what reads the manifest says so.
        return folder


def write_record(version: str, files: Mapping[str, str]) -> bytes:
    """Return the record of a project that edge-ocr `version` made; `files` are sha256 by path, itself left out."""
    content = {"edge_ocr_version": version, "files": dict(files)}
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def read_record(folder: Path) -> Mapping[str, str] | None:
    """Return sha256 by path of the files that an export wrote into `folder`; None where it is no such project."""
    try:
        files = json.loads((folder / RECORD).read_bytes())["files"]
        return {str(name): str(sha256) for name, sha256 in files.items()}
    # RecursionError: of a file of nothing but brackets.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def list_modules(files: Collection[str]) -> set[str]:
    """Return the folders of a project's modules."""
    return {name.partition("/")[0] for name in files if name.count("/") == 1 and name.endswith("/build.gradle.kts")}


def is_made_by_tools(name: str, modules: Collection[str]) -> bool:
    """Tell whether a path in a project is what Gradle or Android Studio write, such as `app/build/outputs`."""
    first, *rest = name.split("/")
    # Of their folders, only what is inside: a file or a link called `build` is its user's.
    in_tools_folder = (first in _TOOLS and bool(rest)) or (first in modules and rest[:1] == ["build"] and len(rest) > 1)
    return name in KEPT or first in KEPT or in_tools_folder


def list_changes(folder: Path, record: Mapping[str, str]) -> list[str]:
    """Return the files in a project that its user changed or added, sorted; those that are gone lose nothing.

    Raises OSError for a file that cannot be read.
    """
    modules = list_modules(record)
    changed = []
    for name in _list_files(folder):
        if name == RECORD or is_made_by_tools(name, modules):
            continue
        path = folder / name
        # A link may show the right content, but where it leads is the user's.
        if name not in record or path.is_symlink() or not path.is_file() or _hash(path) != record[name]:
            changed.append(name)
    return sorted(changed)


def _list_files(folder: Path) -> Iterator[str]:
    """Yield all that is in a folder but folders, by path; links are not followed."""
    for parent, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in (*files, *links):
            yield Path(parent, name).relative_to(folder).as_posix()


def _raise(error: OSError) -> None:
    raise error


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
