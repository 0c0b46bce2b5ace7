"""Wraps every request: its id, its limits, its metrics and its log line."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_ocr.serving import metrics
from edge_ocr.serving.budget import Budget, Share
from edge_ocr.serving.lanes import BusyError

logger = logging.getLogger("edge_ocr.serving")

REQUEST_ID = "x-request-id"
# Ids that a proxy in front of us may set; others could forge log lines.
_GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

CLIENT_GONE = 499
"""nginx's status for a client that disconnected before the response."""

# Otherwise a client keeps sending a body that is never read.
_CLOSE = {"connection": "close"}

_MAX_MESSAGE = 1000


def answer_failure(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return the response for an error: `errorCode` and `errorMsg`, which is shortened if it is long."""
    if len(message) > _MAX_MESSAGE:
        # It repeats a URL or key of the request; the reason is at its end.
        message = f"{message[: _MAX_MESSAGE // 2]}…{message[-_MAX_MESSAGE // 2 + 1 :]}"
    # Keys in JSON may contain unpaired surrogates, which UTF-8 cannot encode.
    message = message.encode(errors="backslashreplace").decode()
    return JSONResponse({"errorCode": status, "errorMsg": message}, status, headers)


class RequestFrame:
    """ASGI middleware: a request's id, size and time limits, log line and metrics. No error passes through it.

    All requests share `budget`. Each part of a body is taken from it on arrival, through the `share` in the request's
    state.
    """

    def __init__(
        self, app: ASGIApp, *, max_body_bytes: int, budget: Budget, timeout_s: float, paths: frozenset[str]
    ) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._budget = budget
        self._timeout_s = timeout_s
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with Share(self._budget) as share:
            await self._answer(scope, receive, send, share)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, share: Share) -> None:
        start = time.perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(REQUEST_ID.encode(), b"")
        request_id = given.decode() if _GIVEN_ID.fullmatch(given) else uuid.uuid4().hex
        facts = dict[str, Any]()
        scope.setdefault("state", {}).update(facts=facts, share=share)
        status = CLIENT_GONE
        received = 0
        gone = False

        async def receive_counted() -> Message:
            nonlocal received, gone
            message = await receive()
            gone = message["type"] == "http.disconnect"
            count = len(message.get("body", b""))
            received += count
            if received > self._max_body_bytes:
                raise self._refuse_size()
            try:
                share.take(count)
            except BusyError as error:
                raise HTTPException(503, str(error), {"retry-after": str(error.retry_after_s), **_CLOSE}) from None
            return message

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                # FastAPI reports half a body as a bad request, also after a disconnect.
                status = CLIENT_GONE if gone else message["status"]
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID.encode(), request_id.encode())]
            await send(message)

        async def fail(code: int, message: str, headers: Mapping[str, str] | None = None) -> None:
            if status == CLIENT_GONE:
                await answer_failure(code, message, dict(headers or {}))(scope, receive, send_named)

        try:
            announced = headers.get(b"content-length", b"")
            if announced.isdigit() and int(announced) > self._max_body_bytes:
                raise self._refuse_size()
            await asyncio.wait_for(self._app(scope, receive_counted, send_named), self._timeout_s)
        except HTTPException as error:
            await fail(error.status_code, error.detail, error.headers)
        except asyncio.TimeoutError:
            await fail(504, f"the request took longer than {self._timeout_s:g} s")
        except Exception:
            logger.exception("request failed", extra={"facts": {"request_id": request_id}})
            await fail(500, "internal error")
        finally:
            seconds = time.perf_counter() - start
            # Unknown paths share one metric, so that clients cannot create any number of them.
            path = scope["path"] if scope["path"] in self._paths else "other"
            metrics.REQUESTS.labels(path, str(status)).inc()
            metrics.REQUEST_SECONDS.labels(path).observe(seconds)
            facts = {
                "request_id": request_id,
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "duration_ms": round(seconds * 1000, 1),
                "body_bytes": received,
                **facts,
            }
            logger.info("request", extra={"facts": facts})

    def _refuse_size(self) -> HTTPException:
        limit_mb = self._max_body_bytes / 2**20
        return HTTPException(413, f"the request is larger than {limit_mb:g} MB", _CLOSE)


class JsonFormatter(logging.Formatter):
    """Formats log records as JSON, one object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON, with the `facts` given by `extra={"facts": …}`."""
        content: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        # ASCII only: paths may contain U+2028 or U+009B, which break lines or control terminals.
        return json.dumps(content)
