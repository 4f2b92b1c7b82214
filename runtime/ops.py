"""The internal listener of every process: is it alive, is it ready, what does it count."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ExceptionHandler

from runtime.metrics import exposition


class Health(msgspec.Struct):
    """`ready`: whether work may be sent here. `reasons` says why, and what else is worth knowing, as JSON."""

    ready: bool
    reasons: dict[str, Any]


def ops_app(health: Callable[[], Health], extra: Sequence[BaseRoute] = ()) -> Starlette:
    """`health` is asked at each request and must not block."""

    async def live(_request: Request) -> Response:
        return json_response({"live": True})  # that this runs is the answer: the loop turns

    async def ready(_request: Request) -> Response:
        now = health()
        return json_response({"ready": now.ready, **now.reasons}, 200 if now.ready else 503)

    async def metrics(_request: Request) -> Response:
        return Response(exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    routes = [Route("/health/live", live), Route("/health/ready", ready), Route("/metrics", metrics), *extra]
    app = Starlette(routes=routes, exception_handlers=JSON_ERRORS)
    app.router.redirect_slashes = False  # an empty redirect is no JSON
    return app


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    return json_response({"error": error.detail}, error.status_code, error.headers)


async def _server_error(_request: Request, _error: Exception) -> Response:
    return json_response({"error": "something went wrong here; the log has it"}, 500)


# Every answer is JSON, those of the framework too.
JSON_ERRORS: Mapping[Any, ExceptionHandler] = {HTTPException: _http_error, Exception: _server_error}
