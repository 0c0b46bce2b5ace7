"""Renders the page at /docs from the OpenAPI document, without scripts and external resources."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any

Schema = Mapping[str, Any]

# curl options for each kind of body; the address follows.
_CALLS = {
    "application/json": """-H 'Content-Type: application/json' -d '{"image": "URL or Base64"}' """,
    "multipart/form-data": "-F image=@photo.jpg ",
    "image/*": "-H 'Content-Type: image/jpeg' --data-binary @photo.jpg ",
    "application/pdf": "-H 'Content-Type: application/pdf' --data-binary @page.pdf ",
    "application/octet-stream": "-H 'Content-Type: application/octet-stream' --data-binary @photo.jpg ",
}


def render_docs(document: Schema, address: str) -> str:
    """Return the page; `address` is the service's, with a trailing slash."""
    info = document["info"]
    parts = [
        f"<header><h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>",
        '<nav><a href="./">Try it</a><a href="openapi.json">openapi.json</a></nav></header>',
        f"<p>{escape(info['description'])}</p>",
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts += _Renderer(document, address.rstrip("/") + path).render(method.upper(), path, operation)
    page = Path(__file__).with_name("docs.html").read_text(encoding="utf-8")
    return Template(page).substitute(content="\n".join(parts))


class _Renderer:
    def __init__(self, document: Schema, address: str) -> None:
        self._document = document
        self._address = address

    def render(self, method: str, path: str, operation: Schema) -> Iterator[str]:
        yield f"<section><h2><b>{method}</b><code>{escape(path)}</code>"
        yield f"<span>{escape(operation['description'])}</span></h2>"
        bodies = operation.get("requestBody", {}).get("content", {})
        if not bodies:
            yield self._call("")
        for kind, body in sorted(bodies.items(), key=lambda item: item[0] != "multipart/form-data"):
            yield f"<h3>Body: <code>{escape(kind)}</code></h3>"
            yield self._call(_CALLS[kind])
            yield _list_rows(self._list_fields(body["schema"]))
        if "parameters" in operation:
            yield "<h3>In the URL</h3>"
            yield _list_rows(
                (parameter["name"], {**self._resolve(parameter["schema"]), **parameter}, parameter["required"])
                for parameter in operation["parameters"]
            )
        schema = next(iter(operation["responses"]["200"]["content"].values())).get("schema", {})
        # Every field of a response is present, so none is marked optional.
        fields = [(name, field, True) for name, field, _ in self._list_fields(schema)]
        if fields:
            yield "<h3>Response</h3>"
            yield from self._show_example(schema)
            yield _list_rows(fields)
        failures = {status: answer for status, answer in operation["responses"].items() if status != "200"}
        if failures:
            yield "<h3>Errors</h3>"
            yield from self._show_example(next(iter(failures.values()))["content"]["application/json"]["schema"])
            yield _make_table((escape(status), escape(answer["description"])) for status, answer in failures.items())
        yield "</section>"

    def _call(self, options: str) -> str:
        return f"<pre><code>{escape(f'curl {options}{self._address}', quote=False)}</code></pre>"

    def _show_example(self, schema: Schema) -> Iterator[str]:
        for example in self._resolve(schema).get("examples", ()):
            yield f"<pre><code>{escape(json.dumps(example, ensure_ascii=False), quote=False)}</code></pre>"

    def _resolve(self, schema: Schema) -> Schema:
        """Follow references, and drop null from alternatives."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return self._resolve(self._document["components"]["schemas"][name])
        chosen = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
        if len(chosen) == 1:
            return {**self._resolve(chosen[0]), **{key: schema[key] for key in ("description",) if key in schema}}
        return schema

    def _list_fields(self, schema: Schema, place: str = "") -> Iterator[tuple[str, Schema, bool]]:
        """Yield path, schema and whether it is required for each field, nested fields after their parents."""
        schema = self._resolve(schema)
        for name, field in schema.get("properties", {}).items():
            whole = self._resolve(field)
            yield f"{place}{name}", whole, name in schema.get("required", ())
            inner = self._resolve(whole.get("items", {})) if whole.get("type") == "array" else whole
            yield from self._list_fields(inner, f"{place}{name}{'[]' * (inner is not whole)}.")


def _list_rows(fields: Iterable[tuple[str, Schema, bool]]) -> str:
    rows = []
    for name, schema, required in fields:
        kind = "file" if schema.get("format") == "binary" else str(schema.get("type", ""))
        if "minimum" in schema and "maximum" in schema:
            kind += f", {schema['minimum']:g} to {schema['maximum']:g}"
        note = f"<small>{escape(kind)}{'' if required else ', optional'}</small>"
        rows.append((f"<code>{escape(name)}</code>", f"{note}<br>{escape(schema.get('description', ''))}"))
    return _make_table(rows)


def _make_table(rows: Iterable[tuple[str, str]]) -> str:
    content = "".join(f'<tr><th scope="row">{name}</th><td>{text}</td></tr>' for name, text in rows)
    return f'<div class="scroll"><table>{content}</table></div>' if content else ""
