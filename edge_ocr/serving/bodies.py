"""Parses bodies of `POST /ocr`: JSON, a form, or the bytes of a picture."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from edge_ocr.errors import InputError
from edge_ocr.serving.messages import InferenceParams, OcrRequest

_JSON_TYPE = re.compile(r"application/([\w.-]+\+)?json")
_PICTURE_TYPE = re.compile(r"image/.+|application/(octet-stream|pdf)")

_MAX_JSON_PARTS = 1000
"""Most lists, objects and commas in JSON; a valid body has a handful, and Base64 has none."""

_PARAMS = tuple(InferenceParams.model_fields)
"""How a picture is read: keys of `inferenceParams`, fields of a form, and parameters of the URL."""

_FIELDS = ("image", *_PARAMS, "inferenceParams")
"""The fields of a form."""


@dataclass(frozen=True)
class Ask:
    """What a request asks for."""

    image: bytes | str
    """The file's bytes, or a string: its URL, or its content in Base64."""
    params: InferenceParams


async def read_body(request: Request, max_bytes: int) -> Ask:
    """Read a body of any of the three kinds, and the URL's query. Nothing is written to disk.

    `max_bytes` limits a text field of a form; `RequestFrame` limits the whole body.

    Raises HTTPException (400) if the body cannot be parsed, RequestValidationError or InputError if it is invalid
    otherwise, ClientDisconnect if the client disconnects.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    image: bytes | str
    params = InferenceParams()
    is_json = _JSON_TYPE.fullmatch(kind)
    if is_json:
        image, params = _parse_json(await request.body())
    elif kind == "multipart/form-data":
        image, params = await _parse_form(request, max_bytes)
    else:
        image = await request.body()
        if not _PICTURE_TYPE.fullmatch(kind):
            said = f"is {kind}" if kind else "is missing"
            raise InputError(
                f"the body's type {said}: expected Content-Type: application/json, an image type such as image/jpeg, "
                "or a form (curl -F image=@FILE)"
            )
    if not is_json and (unknown := set(request.query_params) - set(_PARAMS)):
        raise InputError(f"{min(unknown)} in the URL: unknown parameter; expected {', '.join(_PARAMS)} or none")
    for name, text in request.query_params.multi_items():
        if name in _PARAMS:
            params = _add_param(params, name, text)
    return Ask(image, params)


def _parse_json(body: bytes) -> tuple[str, InferenceParams]:
    if not body:
        raise InputError("body: Field required")
    _check_parts(body)
    try:
        content = json.loads(body)
    except json.JSONDecodeError as error:
        raise _refuse_json(error.msg) from None
    except RecursionError:
        raise _refuse_json("nested too deep") from None
    except ValueError as error:  # not UTF-8, or a number of thousands of digits
        raise _refuse_json(str(error)) from None
    if not isinstance(content, dict):
        raise InputError(f"body: expected a JSON object, actual {type(content).__name__}")
    try:
        asked = OcrRequest.model_validate(content)
    except ValidationError as error:
        raise _relay(error) from None
    return asked.image, asked.inferenceParams or InferenceParams()


def _check_parts(text: bytes) -> None:
    """Refuse JSON that takes seconds to parse, blocking everything else, and many times its size in memory."""
    if sum(map(text.count, (b"[", b"{", b","))) > _MAX_JSON_PARTS:
        raise HTTPException(400, f"the JSON has more than {_MAX_JSON_PARTS} lists, objects and commas")


def _refuse_json(reason: str) -> HTTPException:
    return HTTPException(400, f"the body is not JSON: {reason}")


class _Parser(MultiPartParser):
    """Keeps files in memory, as JSON does, and refuses an incomplete form."""

    spool_max_size = sys.maxsize
    _is_whole = False

    def on_end(self) -> None:
        self._is_whole = True

    async def parse(self) -> FormData:
        received = self.stream
        self.stream = self._watch(received)
        try:
            return await super().parse()
        except (MultiPartException, FormParserError) as error:
            # Read the rest, or the connection is reset before the client sees the error.
            async for _ in received:
                pass
            if isinstance(error, MultiPartException):
                raise
            # python-multipart's error; starlette translates it from 1.7 on.
            raise MultiPartException("Invalid multipart data.") from None

    async def _watch(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in stream:
            yield chunk
        if not self._is_whole:
            raise MultiPartException("it is incomplete")


async def _parse_form(request: Request, max_bytes: int) -> tuple[bytes | str, InferenceParams]:
    _, options = parse_options_header(request.headers["content-type"])
    if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):
        # Fields are decoded with it, and some of Python's codecs (punycode) take minutes.
        async for _ in request.stream():
            pass
        raise HTTPException(400, "the form cannot be read: expected charset=utf-8 or none")
    count = len(_FIELDS)
    parser = _Parser(request.headers, request.stream(), max_files=count, max_fields=count, max_part_size=max_bytes)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"the form cannot be read: {error.message}") from None
    try:
        found = await _list_fields(form)
    finally:
        await form.close()
    if "image" not in found:
        raise InputError("field image of the form: Field required")
    params = InferenceParams()
    if "inferenceParams" in found:
        text = found["inferenceParams"]
        text = text.encode() if isinstance(text, str) else text
        _check_parts(text)
        try:
            params = InferenceParams.model_validate_json(text)
        except ValidationError as error:
            raise _relay(error, "inferenceParams") from None
    for name in _PARAMS:
        if name in found:
            text = found[name]
            params = _add_param(params, name, text.decode("utf-8", "replace") if isinstance(text, bytes) else text)
    return found["image"], params


async def _list_fields(form: FormData) -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    for name, value in form.multi_items():
        if name not in _FIELDS:
            raise InputError(f"field {name} of the form: unknown; expected {', '.join(_FIELDS)}")
        if name in found:
            raise InputError(f"field {name} of the form: given twice")
        found[name] = await value.read() if isinstance(value, UploadFile) else value
    return found


def _relay(error: ValidationError, *place: str) -> RequestValidationError:
    found = error.errors(include_url=False, include_input=False)
    return RequestValidationError([{**one, "loc": (*place, *one["loc"])} for one in found])


def _add_param(params: InferenceParams, name: str, text: str) -> InferenceParams:
    try:
        value = getattr(InferenceParams.model_validate_strings({name: text}), name)
    except ValidationError as error:
        raise _relay(error) from None
    if getattr(params, name) is not None:
        raise InputError(f"{name}: given twice")
    return params.model_copy(update={name: value})


def describe() -> dict[str, Any]:
    """Return the request bodies and URL parameters for OpenAPI; `list_schemas` has the components."""
    file = {"type": "string", "format": "binary"}
    fields = InferenceParams.model_json_schema()["properties"]
    schemas = {name: _drop_null(field) for name, field in fields.items()}
    form = {
        "type": "object",
        "properties": {
            "image": {**file, "description": "The file; or, as text, its URL or Base64."},
            **{name: {**schema, "description": fields[name]["description"]} for name, schema in schemas.items()},
            "inferenceParams": {"$ref": "#/components/schemas/InferenceParams"},
        },
        "required": ["image"],
        "additionalProperties": False,
    }
    content = {
        "application/json": {"schema": {"$ref": "#/components/schemas/OcrRequest"}},
        "multipart/form-data": {"schema": form, "encoding": {"inferenceParams": {"contentType": "application/json"}}},
        "image/*": {"schema": file},
        "application/pdf": {"schema": file},
        "application/octet-stream": {"schema": file},
    }
    parameters = [
        {
            "name": name,
            "in": "query",
            "required": False,
            "schema": schema,
            "description": "As in the body; for bodies that are the bytes of a picture.",
        }
        for name, schema in schemas.items()
    ]
    return {"requestBody": {"required": True, "content": content}, "parameters": parameters}


def _drop_null(field: dict[str, Any]) -> dict[str, Any]:
    (schema,) = (kind for kind in field["anyOf"] if kind["type"] != "null")
    return dict(schema)


def list_schemas() -> dict[str, Any]:
    """Return the components that `describe` refers to."""
    models: tuple[type[BaseModel], ...] = (OcrRequest, InferenceParams)
    schemas = {}
    for model in models:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schema.pop("$defs", None)
        schemas[model.__name__] = schema
    return schemas
