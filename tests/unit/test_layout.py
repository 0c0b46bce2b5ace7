"""Which module may import what; public names; the cost of starting."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import edge_ocr

ROOT = Path(edge_ocr.__file__).parent.parent
HEAVY = ("numpy", "cv2", "PIL", "paddle", "openvino", "onnxruntime", "pypdfium2", "yaml")
CORE_LIBRARIES = {"numpy", "cv2", "pyclipper"}
# The folders of `converters`, and which each may import: export -> {verify, bundle} -> lite -> graph -> sources,
# deploy -> bundle. `verify` reads what `bundle` wrote.
SHARED = {"processes", "text", "signing", "report"}
ROOMS: dict[str, set[str]] = {
    "text": set(),
    "signing": set(),
    "report": set(),
    "processes": {"text"},
    "sources": SHARED,
    "graph": {"sources", *SHARED},
    "lite": {"graph", "sources", *SHARED},
    "plan": {"lite", "graph", "sources", *SHARED},
    "bundle": {"plan", "lite", "graph", "sources", *SHARED},
    "verify": {"bundle", "plan", "lite", "graph", "sources", *SHARED},
    "emulate": {"verify", "bundle", "lite", *SHARED},
    "quantise": {"verify", "bundle", "plan", "lite", "graph", "sources", *SHARED},
    "deploy": {"bundle", "plan", "lite", *SHARED},
    "convert": {"quantise", "plan", "lite", "graph", "sources", *SHARED},
    "export": {"quantise", "verify", "bundle", "convert", "plan", "lite", "graph", "sources", *SHARED},
}
# Extras of boards, imported only when they are needed.
CORE_EXTRAS = {"edge_ocr.core.engines.onnxruntime": "onnxruntime", "edge_ocr.core.trust": "cryptography"}


def list_modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def name_module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def list_imports(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, relative ones resolved."""
    module = name_module(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            whole = ".".join(part for part in (base, node.module) if part)
            yield whole
            # `from package import module`
            yield from (f"{whole}.{alias.name}" for alias in node.names)


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def test_relative_imports_are_made_whole():
    # Without this, the tests below would pass for anything.
    found = set(list_imports(ROOT / "edge_ocr/core/detection.py"))
    assert {"edge_ocr.core.engines.base", "edge_ocr.core.geometry", "cv2"} <= found


@pytest.mark.parametrize("path", list_modules("edge_ocr/core"), ids=name_module)
def test_core_needs_its_three_libraries_only(path):
    for module in list_imports(path):
        top = module.split(".")[0]
        if top == CORE_EXTRAS.get(name_module(path)):
            continue
        assert top in CORE_LIBRARIES or top in sys.stdlib_module_names or is_within(module, "edge_ocr.core"), module


@pytest.mark.parametrize("path", list_modules("edge_ocr/core"), ids=name_module)
def test_core_is_python_39(path):
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 9))
    # `X | None` in annotations works there only with this import.
    assert "annotations" in [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "__future__"
        for alias in node.names
    ] or not any(isinstance(node, ast.FunctionDef | ast.AnnAssign) for node in ast.walk(tree))


def find_python_39() -> str | None:
    """A Python 3.9 that has the core's libraries."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for python in (shutil.which("python3.9"), *sorted(pyenv.glob("3.9.*/bin/python"))):
        if (
            python
            and not subprocess.run([python, "-c", "import numpy, cv2, pyclipper"], capture_output=True).returncode
        ):
            return str(python)
    return None


def test_core_runs_on_python_39():
    python = find_python_39()
    if python is None:
        pytest.skip("no Python 3.9 with numpy, opencv and pyclipper")
    modules = ", ".join(name_module(path) for path in list_modules("edge_ocr/core"))
    subprocess.run([python, "-W", "error", "-c", f"import {modules}"], check=True, env={"PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize("path", [*list_modules("edge_ocr"), *list_modules("converters")], ids=name_module)
def test_dependencies_point_one_way(path):
    module, imports = name_module(path), set(list_imports(path))
    # `python -m edge_ocr` also starts the command line.
    in_cli = is_within(module, "edge_ocr.cli") or module == "edge_ocr.__main__"
    if not in_cli:
        assert not [name for name in imports if is_within(name, "edge_ocr.cli")]
    if is_within(module, "edge_ocr") and not in_cli:
        assert not [name for name in imports if is_within(name, "converters")]
    # Typer contains its own Click.
    assert not [name for name in imports if is_within(name, "click")]


def list_undeclared(modules: Iterable[str], requirements: Iterable[str]) -> set[str]:
    """The modules that no required distribution has; one that is not installed counts by its own name."""

    def normalise(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    declared = {normalise(re.split(r"[^\w.-]", requirement, maxsplit=1)[0]) for requirement in requirements}
    homes = packages_distributions()
    return {name for name in modules if declared.isdisjoint(map(normalise, homes.get(name, [name])))}


def test_every_import_is_declared():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: found for name, found in project["optional-dependencies"].items() if name != "dev"}
    requirements = [*project["dependencies"], *(one for found in extras.values() for one in found)]
    tops = {
        name.split(".")[0]
        for path in [*list_modules("edge_ocr"), *list_modules("converters")]
        for name in list_imports(path)
    }
    # paddle2onnx is imported only in a separate environment, which converters.sources.pir makes.
    foreign = tops - sys.stdlib_module_names - {"edge_ocr", "converters", "paddle2onnx"}
    assert {"cv2", "paddle", "h11"} <= foreign
    assert list_undeclared(foreign, requirements) == set()
    assert list_undeclared({"cv2", "h11"}, ["OpenCV_Python>=4.10"]) == {"h11"}


def name_room(module: str) -> str:
    return module.split(".")[1] if module.startswith("converters.") else ""


@pytest.mark.parametrize("path", list_modules("converters"), ids=name_module)
def test_folders_of_converters_import_one_way(path):
    room = name_room(name_module(path))
    rooms = {name_room(name) for name in list_imports(path)} - {"", room}
    assert rooms <= ROOMS.get(room, set())


def list_circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Every set of modules that import each other, directly or through others."""
    reached = {module: set(found) for module, found in imports.items()}
    for middle in imports:
        for found in reached.values():
            if middle in found:
                found |= reached[middle]
    circles = {frozenset({m, *(o for o in reached[m] if m in reached[o])}) for m in imports if m in reached[m]}
    return sorted(sorted(circle) for circle in circles)


def test_no_import_circles():
    # Imports inside functions and for types count, too.
    paths = {name_module(path): path for package in ("edge_ocr", "converters") for path in list_modules(package)}
    imports = {}
    for module, path in paths.items():
        found = [name for name in list_imports(path) if name in paths]
        # `from package import module` reads the module, whatever else the package holds.
        imports[module] = {
            name for name in found if not any(is_within(other, name) for other in found if other != name)
        }
        imports[module].discard(module)
    assert len(imports) > 150
    assert list_circles(imports) == []
    assert list_circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c"]]


@pytest.mark.parametrize("path", [*list_modules("edge_ocr"), *list_modules("converters")], ids=name_module)
def test_files_have_at_most_700_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 700


@pytest.mark.parametrize("path", [*list_modules("edge_ocr"), *list_modules("converters")], ids=name_module)
def test_only_the_command_line_prints_and_exits(path):
    doors = ("edge_ocr.cli", "edge_ocr.core.commands", "edge_ocr.core.__main__")
    # Separate programs, which other interpreters run; two of them on boards.
    doors += ("converters.lite.opt_worker", "converters.bundle.ownership", "converters.sources.pir_worker")
    doors += ("edge_ocr.core.trust",)
    if any(is_within(name_module(path), door) for door in doors):
        return
    calls = [node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert not [func for func in calls if isinstance(func, ast.Name) and func.id in ("print", "exit", "input")]
    exits = [func for func in calls if isinstance(func, ast.Attribute) and func.attr in ("exit", "_exit")]
    assert not exits


def test_public_names():
    assert sorted(edge_ocr.__all__) == [
        "EdgeOcrError",
        "OcrPipeline",
        "OcrResult",
        "PipelineConfig",
        "__version__",
        "create_pipeline",
        "load_config",
    ]
    for name in edge_ocr.__all__:
        assert getattr(edge_ocr, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'read'"):
        edge_ocr.read  # noqa: B018


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True, check=True)


SHOW_HEAVY = f"import sys; print(sorted(set({HEAVY}) & set(sys.modules)))"


@pytest.mark.parametrize(
    "module", ["edge_ocr", "edge_ocr.errors", "edge_ocr.cli.app", "edge_ocr.core", "edge_ocr.core.commands"]
)
def test_importing_is_cheap(module):
    assert run_python(f"import {module}; {SHOW_HEAVY}").stdout == "[]\n"


@pytest.mark.parametrize(
    "arguments",
    [
        "--version",
        "--help",
        *(f"{name} --help" for name in ("predict", "config show", "doctor", "export", "deploy", "models list")),
    ],
)
def test_help_and_version_are_cheap(arguments):
    watch = f"import atexit; atexit.register(lambda: exec({SHOW_HEAVY!r}))"
    done = run_python(f"{watch}\nfrom edge_ocr.cli import main; main()", *arguments.split())
    assert done.stdout.endswith("[]\n")
    assert len(done.stdout) > 10
    assert done.stderr == ""
