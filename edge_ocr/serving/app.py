"""The service's application: its routes, and the responses for errors."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from cv2.typing import MatLike
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from edge_ocr import __version__
from edge_ocr.core.types import Character, Word
from edge_ocr.drawing import draw_boxes, trace_words
from edge_ocr.errors import EdgeOcrError, InputError
from edge_ocr.fetch.fetcher import Fetcher
from edge_ocr.inputs import Source, download
from edge_ocr.pipeline import OcrPipeline
from edge_ocr.results import JPEG_QUALITY, OcrResult
from edge_ocr.serving import bodies, metrics
from edge_ocr.serving.budget import Budget, Share
from edge_ocr.serving.docs import render_docs
from edge_ocr.serving.frame import CLIENT_GONE, RequestFrame, answer_failure
from edge_ocr.serving.lanes import BusyError, Lanes
from edge_ocr.serving.messages import Failure, Health, InferenceParams, OcrAnswer
from edge_ocr.serving.public_fetch import create_fetcher
from edge_ocr.serving.settings import ServeSettings

T = TypeVar("T")

READERS = 2
"""Pictures processed at once: while the networks run for one, another is decoded or its response is made."""

FETCHERS = 8
"""URLs downloaded at once."""

# Start of the pages' Content-Security-Policy, which allows nothing.
_CLOSED = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

# Limit of libjpeg.
_MAX_JPEG_SIDE = 65_500

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,", re.IGNORECASE)

_FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": Failure, "description": description}
    for status, description in {
        400: "The body is not valid JSON or not a valid form, or has too many parts.",
        413: "The body is too large.",
        422: "The body does not match the schema, or the picture cannot be downloaded or read.",
        500: "Internal error.",
        503: "Too many requests are waiting; Retry-After says when to try again.",
        504: "The request took too long.",
    }.items()
}


def create_app(pipeline: OcrPipeline, settings: ServeSettings) -> FastAPI:
    """Return the application of one worker, which reads pictures with `pipeline`."""
    files = pipeline.config.input
    readers = Lanes("reading", READERS, settings.queue)
    # Accept only what finishes in time if all are slow: each round of downloads may take the full download timeout, and
    # the last leaves as much for reading. The first round does not wait.
    rounds = int(settings.timeout_s / files.download_timeout_s) - 1
    fetchers = Lanes("fetching", FETCHERS, min(settings.queue, FETCHERS * max(0, rounds - 1)))
    fetcher = create_fetcher(settings)
    # Enough for a full queue, including bodies that are still arriving.
    most_bytes = settings.max_body_bytes * (settings.queue + READERS)
    if settings.allow_urls:
        # Leave room for the largest file behind a URL.
        most_bytes = max(most_bytes, settings.max_body_bytes + files.max_download_bytes)

    @asynccontextmanager
    async def live(app: FastAPI) -> AsyncIterator[None]:
        yield
        fetchers.close()
        readers.close()
        fetcher.close()

    app = FastAPI(
        title="edge-ocr",
        version=__version__,
        description="Reads the text in pictures.",
        lifespan=live,
        # FastAPI's pages load scripts from other hosts; ours is below.
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(
        RequestFrame,
        max_body_bytes=settings.max_body_bytes,
        budget=Budget(most_bytes),
        timeout_s=settings.timeout_s,
        paths=frozenset({"/", "/docs", "/ocr", "/health", "/metrics", "/openapi.json"}),
    )
    page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")

    @app.post("/ocr", response_model=OcrAnswer, responses=_FAILURES, openapi_extra=bodies.describe())
    async def ocr(request: Request) -> Response:
        """Read the text in one picture, given as a URL or Base64 in JSON, as a file in a form, or as raw bytes."""
        try:
            ask = await bodies.read_body(request, settings.max_body_bytes)
        except ClientDisconnect:
            return answer_failure(CLIENT_GONE, "the client disconnected")
        chosen = _choose(pipeline, ask.params)
        share: Share = request.state.share

        async def answer() -> dict[str, Any]:
            content = ask.image
            if isinstance(content, bytes):
                return await readers.run(lambda: _answer(chosen, content, None), share)
            if _URL.match(content):
                fetched = await fetchers.run(lambda: _fetch(content, chosen, settings, fetcher, share), share)
                return await readers.run(lambda: _answer(chosen, fetched, content), share)
            return await readers.run(lambda: _answer(chosen, _decode_base64(content), None), share)

        result = await _unless_gone(answer(), request)
        if result is None:
            # For the log only.
            return answer_failure(CLIENT_GONE, "the client disconnected")
        request.state.facts.update(result.pop("facts"))
        return JSONResponse({"errorCode": 0, "errorMsg": "Success", "result": result})

    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    async def health() -> Health:
        """Report that the service is ready."""
        return Health(
            version=__version__,
            models=pipeline.models,
            engines={str(kind): engine for kind, engine in pipeline.engines.items()},
        )

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def collect_metrics() -> Response:
        """Return the service's metrics for Prometheus."""
        return Response(metrics.collect(), media_type=CONTENT_TYPE_LATEST)

    @app.head("/", include_in_schema=False)
    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(
            page,
            headers={
                "content-security-policy": f"{_CLOSED}; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
                "connect-src 'self'; img-src blob: data:"
            },
        )

    @app.head("/docs", include_in_schema=False)
    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def show_docs(request: Request) -> HTMLResponse:
        return HTMLResponse(
            render_docs(app.openapi(), str(request.base_url)),
            # The page contains the address of the request.
            headers={"content-security-policy": f"{_CLOSED}; style-src 'unsafe-inline'", "cache-control": "no-store"},
        )

    def describe() -> dict[str, Any]:
        document = FastAPI.openapi(app)
        document["components"]["schemas"].update(bodies.list_schemas())
        return document

    app.openapi = describe  # type: ignore[method-assign]  # as FastAPI's documentation does
    app.exception_handler(RequestValidationError)(_explain_validation)
    app.exception_handler(HTTPException)(_explain_http)
    app.exception_handler(BusyError)(_explain_busy)
    app.exception_handler(EdgeOcrError)(_explain_error)
    return app


def _choose(pipeline: OcrPipeline, params: InferenceParams) -> OcrPipeline:
    changed: dict[str, Any] = {}
    if params.maxLongSide is not None:
        changed = {"Detection.limit_side_len": params.maxLongSide, "Detection.limit_type": "max"}
    if params.returnCharBox or params.returnWordBox:
        changed["Recognition.return_words"] = "chars" if params.returnCharBox else "words"
    elif False in (params.returnCharBox, params.returnWordBox):
        changed["Recognition.return_words"] = "none"
    return pipeline.derive(changed) if changed else pipeline


def _fetch(url: str, pipeline: OcrPipeline, settings: ServeSettings, fetcher: Fetcher, share: Share) -> bytes:
    if not settings.allow_urls:
        raise InputError("this service does not accept URLs; send the picture itself")
    if not re.match("https?://", url, re.IGNORECASE):
        raise InputError("image: expected an http or https URL, or Base64")
    return download(url, pipeline.config.input, fetcher, share.take)


def _decode_base64(text: str) -> bytes:
    text = _DATA_URL.sub("", text, count=1) if text[:5].lower() == "data:" else text
    try:
        # Line breaks are common; any other character outside the alphabet is an error.
        return base64.b64decode(text.encode("ascii").translate(None, b" \t\r\n\v\f"), validate=True)
    except UnicodeEncodeError:
        raise InputError("image: not an http(s) URL and not Base64: it is not ASCII") from None
    except (binascii.Error, ValueError) as error:
        raise InputError(f"image: not an http(s) URL and not Base64: {error}") from None


def _answer(pipeline: OcrPipeline, content: bytes, url: str | None) -> dict[str, Any]:
    """Read a picture of one page; return the response's result, with `facts` for the log."""
    (result,) = pipeline.predict_source(Source(content, url, single_page=True), set())
    for stage, ms in result.timings_ms.items():
        metrics.STAGE_SECONDS.labels(stage).observe(ms / 1000)
    metrics.LINES.inc(len(result["rec_text"]))
    height, width = result.image.shape[:2]
    return {
        "texts": _list_texts(result),
        **({"page_angle": result["page_angle"]} if "page_angle" in result else {}),
        "image": base64.b64encode(_draw(result)).decode(),
        "facts": {
            "width": width,
            "height": height,
            "lines": len(result["rec_text"]),
            "stages_ms": {stage: round(ms, 1) for stage, ms in result.timings_ms.items()},
        },
    }


def _list_texts(result: OcrResult) -> list[dict[str, Any]]:
    """Return the lines, with their words and characters if these were requested."""
    texts: list[dict[str, Any]] = [
        {"poly": poly, "text": text, "score": score}
        for poly, text, score in zip(result["dt_polys"], result["rec_text"], result["rec_score"], strict=True)
    ]
    if result.reading.return_words != "none":
        for line, text in zip(result.reading.lines, texts, strict=True):
            text["words"] = [_describe_part(word) for word in line.words or ()]
            if result.reading.return_words == "chars":
                for word, described in zip(line.words or (), text["words"], strict=True):
                    described["chars"] = [_describe_part(character) for character in word.characters]
    return texts


def _describe_part(part: Word | Character) -> dict[str, Any]:
    return {"text": part.text, "score": part.score, "poly": np.rint(part.polygon).astype(int).tolist()}


def _draw(result: OcrResult) -> bytes:
    reading = result.reading
    picture: MatLike = draw_boxes(result.image, [line.polygon for line in reading.lines], trace_words(reading))
    scale = _MAX_JPEG_SIDE / max(picture.shape)
    if scale < 1:
        # Keep at least one pixel of a one-pixel line.
        size = [max(1, int(side * scale)) for side in (picture.shape[1], picture.shape[0])]
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    _, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return content.tobytes()


async def _unless_gone(work: Coroutine[Any, Any, T], request: Request) -> T | None:
    """Return the result of `work`; None if the client disconnects first, and work in the queue then never starts."""
    working = asyncio.ensure_future(work)
    listening = asyncio.ensure_future(_wait_for_end(request))
    try:
        await asyncio.wait([working, listening], return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        listening.cancel()


async def _wait_for_end(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _explain_validation(request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"])) or "body"
    return answer_failure(422, f"{place}: {first['msg']}")


async def _explain_http(request: Request, error: HTTPException) -> Response:
    return answer_failure(error.status_code, str(error.detail), dict(error.headers or {}))


async def _explain_busy(request: Request, error: BusyError) -> Response:
    return answer_failure(503, str(error), {"retry-after": str(error.retry_after_s)})


async def _explain_error(request: Request, error: EdgeOcrError) -> Response:
    return answer_failure(error.http_status, error.message)
