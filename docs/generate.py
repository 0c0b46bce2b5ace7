"""MkDocs hook: fills `<!-- generate NAME -->` in a page with tables that are made from the code at build time."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parent.parent

_MARKER = re.compile(r"^<!-- generate (\w+) -->$", re.MULTILINE)

# Titles of columns in Chinese; what the code says stays as it is.
_CHINESE = {
    "Argument": "参数",
    "Option": "选项",
    "Default": "默认值",
    "Meaning": "含义",
    "Key": "键",
    "Accepts": "取值",
    "Type": "类型",
    "Required": "必需",
    "Figure": "指标",
    "Paddle-Lite op": "Paddle-Lite 算子",
    "Fused activations": "可融合的激活函数",
    "Integer weights": "整数权重",
    "Model": "模型",
    "Kind": "类型",
    "Sources, in order": "来源（按顺序）",
    "Tested with": "测试方式",
    "real weights": "真实权重",
    "address and hash only": "仅地址与校验值",
    "address only": "仅地址",
    "yes": "是",
    "no": "否",
}

# Where Dokka's pages are, and their folder in the site.
_KDOC = REPOSITORY / "tests" / "android" / "target" / "kdoc"
_KDOC_IN_SITE = "reference/android"
# Chinese pages are in a folder of their own; Dokka's pages are in the site once.
_KDOC_LINK = '<a href="android/index.html">Every class and function</a>, from the KDoc in the sources.'
_KDOC_MISSING = "Every class and function has KDoc in the sources. To add it here, run `nox -s docs` with Maven."
_CHINESE |= {
    _KDOC_LINK: '<a href="../../reference/android/index.html">全部类与函数</a>（英文），取自源码中的 KDoc。',
    _KDOC_MISSING: "全部类与函数在源码中都有 KDoc。安装 Maven 后运行 `nox -s docs`，本站就会包含它们。",
}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace the markers of a page; MkDocs calls this for each of them."""
    # In the repository, pages link to the picture where it is.
    markdown = markdown.replace("(../examples/result.jpg)", "(result.jpg)")
    return fill(markdown, chinese=page.file.src_uri.endswith(".zh.md"))


def on_config(config: Any) -> None:
    """Read the code of this checkout, whatever is installed."""
    sys.path.insert(0, str(REPOSITORY))


def on_files(files: Any, *, config: Any) -> Any:
    """Add the picture of the README to the site."""
    from mkdocs.structure.files import File

    picture = REPOSITORY / "examples" / "result.jpg"
    files.append(File.generated(config, picture.name, abs_src_path=str(picture)))
    return files


def on_post_build(*, config: Any) -> None:
    """Add Dokka's pages, if there are any."""
    if _KDOC.is_dir():
        shutil.copytree(_KDOC, Path(config.site_dir) / _KDOC_IN_SITE, dirs_exist_ok=True)


def fill(markdown: str, *, chinese: bool = False) -> str:
    """Return the text of a page with each marker replaced.

    Raises KeyError for a name that is not in `GENERATORS`.
    """
    return _MARKER.sub(lambda found: "\n".join(_translate(GENERATORS[found[1]](), chinese)), markdown)


def _translate(lines: Iterator[str], chinese: bool) -> Iterator[str]:
    for line in lines:
        if chinese and line.startswith("| "):
            line = f"| {' | '.join(_CHINESE.get(cell, cell) for cell in line[2:-2].split(' | '))} |"
        yield _CHINESE.get(line, line) if chinese else line


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield ""
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for row in rows:
        yield f"| {' | '.join(map(_escape, row))} |"
    yield ""


def _escape(cell: str) -> str:
    # A bar within backticks ends no cell, and a backslash there would be shown.
    parts = cell.replace("\n", " ").split("`")
    return "`".join(part if index % 2 else part.replace("|", "\\|") for index, part in enumerate(parts))


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def make_commands() -> Iterator[str]:
    """Every command of `edge-ocr` with its arguments and options, from the Typer app."""
    from typer.main import get_command

    from edge_ocr.cli.app import make_app

    for name, command in list_commands(get_command(make_app()), "edge-ocr"):
        yield f"## {name}"
        yield ""
        yield _plain(command.help or "")
        context = command.make_context(name, [], resilient_parsing=True)
        given: list[list[str]] = []
        options: list[list[str]] = []
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                given.append([_code(parameter.metavar or parameter.name), _plain(parameter.help or "")])
            elif record := parameter.get_help_record(context):
                options.append([_code(record[0]), _plain(record[1])])
        if given:
            yield from _table(["Argument", "Meaning"], given)
        if options:
            yield from _table(["Option", "Meaning"], options)


def list_commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield each command with its full name; a group comes before its commands."""
    yield name, command
    for sub_name, sub in getattr(command, "commands", {}).items():
        yield from list_commands(sub, f"{name} {sub_name}")


def _plain(text: str) -> str:
    """Return a help text as Markdown: options as code, nothing taken for HTML."""
    text = text.replace("\b", "").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"(?<![\w`-])(--[a-z][\w-]*)", r"`\1`", text)


def make_settings() -> Iterator[str]:
    """Every key of a pipeline file, from the table of `edge_ocr.config`."""
    from edge_ocr.config import _FIELDS

    rows = []
    for key, field in _FIELDS.items():
        try:
            field.type.check(object())
            accepts = ""
        except ValueError as error:
            accepts = error.args[0]
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        rows.append([_code(key), _code(json.dumps(default)), accepts])
    yield from _table(["Key", "Default", "Accepts"], rows)


def make_manifest() -> Iterator[str]:
    """Every key of `manifest.json`, from its JSON Schema."""
    schema = json.loads((REPOSITORY / "converters/bundle/manifest.schema.json").read_text(encoding="utf-8"))
    yield _plain(schema["description"])
    for name, part in schema["properties"].items():
        yield ""
        yield f"## {name}"
        yield ""
        yield f"{_plain(_resolve(part, schema).get('description', ''))} ({_describe_type(part, schema)})"
        rows = list(_walk(part, schema, name, name in schema["required"]))[1:]
        if rows:
            yield from _table(["Key", "Type", "Required", "Meaning"], rows)


def _resolve(part: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" not in part:
        return dict(part)
    return {**_resolve(schema["$defs"][part["$ref"].rpartition("/")[2]], schema), **part}


def _walk(part: Mapping[str, Any], schema: Mapping[str, Any], path: str, required: bool) -> Iterator[list[str]]:
    part = _resolve(part, schema)
    yield [
        _code(path),
        _describe_type(part, schema),
        "yes" if required else "no",
        _plain(part.get("description", "")),
    ]
    for name, inner in part.get("properties", {}).items():
        yield from _walk(inner, schema, f"{path}.{name}", name in part.get("required", ()))
    others = part.get("additionalProperties")
    if isinstance(others, dict):
        yield from _walk(others, schema, f"{path}.*", False)
    if isinstance(part.get("items"), dict) and "properties" in _resolve(part["items"], schema):
        yield from _walk(part["items"], schema, f"{path}[]", True)
    for inner in (*part.get("oneOf", ()), *part.get("anyOf", ())):
        if "properties" in _resolve(inner, schema):
            # Their own line would repeat that of the whole.
            yield from list(_walk(inner, schema, path, required))[1:]


def _describe_type(part: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    part = _resolve(part, schema)
    if "const" in part:
        return _code(json.dumps(part["const"]))
    if "enum" in part:
        return ", ".join(_code(json.dumps(value)) for value in part["enum"])
    kind = part.get("type", "")
    words = " or ".join(kind) if isinstance(kind, list) else kind
    if not words:
        inner = [_describe_type(one, schema) for one in (*part.get("oneOf", ()), *part.get("anyOf", ()))]
        words = " or ".join(dict.fromkeys(filter(None, inner)))
    if words == "array" and isinstance(part.get("items"), dict):
        words = f"array of {_describe_type(part['items'], schema)}"
    return words


def make_ops() -> Iterator[str]:
    """The ops that a `.nb` may hold, from the table of `converters.lite.nb.ops`."""
    from converters.lite.nb.ops import OPS

    rows = []
    for name, rule in sorted(OPS.items()):
        fused = ", ".join(_code(activation) for activation in rule.activations)
        flags = ["yes" if is_set else "" for is_set in (rule.scaled_axis[1], rule.has_int8)]
        rows.append([_code(name), fused, *flags])
    yield from _table(["Paddle-Lite op", "Fused activations", "Integer weights", "Computes in int8"], rows)


def make_onnx_ops() -> Iterator[str]:
    """The ONNX ops and opsets that are read."""
    from converters.sources.onnx import _KNOWN
    from converters.sources.onnx_graph import MAX_OPSET, MIN_OPSET

    yield f"Opset {MIN_OPSET}–{MAX_OPSET}: {', '.join(map(_code, sorted(_KNOWN)))}"


def make_models() -> Iterator[str]:
    """The rows of the registry: sizes, sources in order, and how each was tested."""
    from edge_ocr.models.registry import REGISTRY

    rows = [
        [
            _code(row.name),
            row.kind,
            "–" if row.size_mb is None else f"{row.size_mb:.1f}",
            ", ".join(_shorten(source.label) for source in row.sources),
            row.tested,
        ]
        for row in REGISTRY.values()
    ]
    yield from _table(["Model", "Kind", "MB", "Sources, in order", "Tested with"], rows)


def _shorten(label: str) -> str:
    """Return a source's label without the name of the archive's file."""
    place, slash, file = label.partition("/")
    return f"{place} (ONNX)" if slash and "_onnx_" in file else place


def make_tolerances() -> Iterator[str]:
    """The limits of `verify`, from `converters.verify.parity`."""
    from converters.lite.nb.rounded import Precision
    from converters.text import format_figure
    from converters.verify.parity import TOLERANCES, Tolerance

    signs = {"at most": "≤", "at least": "≥"}
    precisions: tuple[Precision, ...] = ("fp32", "int16", "int8")

    def show(one: Tolerance, value: float | None) -> str:
        return "–" if value is None else f"{signs[one.limit]} {format_figure(value)}"

    rows = [
        [
            _code(one.figure),
            *(show(one, one.values.get(name)) for name in precisions),
            show(one, one.find_limit("int8", None, ("det", "rec"))),
        ]
        for one in TOLERANCES
    ]
    yield from _table(["Figure", *precisions, "computing in int8"], rows)
    for one in TOLERANCES:
        yield f"- {_code(one.figure)}: {_plain(one.reason)}"


def make_kdoc() -> Iterator[str]:
    """A link to Dokka's pages, or how to make them."""
    yield _KDOC_LINK if _KDOC.is_dir() else _KDOC_MISSING


GENERATORS: dict[str, Callable[[], Iterator[str]]] = {
    "commands": make_commands,
    "kdoc": make_kdoc,
    "manifest": make_manifest,
    "models": make_models,
    "onnx_ops": make_onnx_ops,
    "ops": make_ops,
    "settings": make_settings,
    "tolerances": make_tolerances,
}
