"""The internal listener: alive, ready, counted, and every answer JSON."""

import json
from typing import Any

import aiohttp
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from runtime.ops import Health, ops_app
from runtime.server import HttpServer


async def ask(path: str, health: Health, method: str = "GET") -> tuple[int, str, str]:
    async def fails(_request: Request) -> Response:
        raise ValueError("a secret")

    server = HttpServer(ops_app(lambda: health, [Route("/fails", fails)]), "127.0.0.1", 0, name="ops")
    await server.start()
    try:
        url = f"http://127.0.0.1:{server.port}{path}"
        async with aiohttp.ClientSession() as http, http.request(method, url, allow_redirects=False) as response:
            return response.status, response.content_type, await response.text()
    finally:
        await server.stop(0.1)


@pytest.mark.parametrize(("ready", "status"), [(True, 200), (False, 503)])
async def test_ready_says_why(ready: bool, status: int) -> None:
    health = Health(ready, {"kafka": "connected"})
    answered, kind, text = await ask("/health/ready", health)
    assert (answered, kind, json.loads(text)) == (status, "application/json", {"ready": ready, "kafka": "connected"})


async def test_live_is_live_though_not_ready() -> None:
    status, _, text = await ask("/health/live", Health(False, {}))
    assert (status, json.loads(text)) == (200, {"live": True})


async def test_metrics_are_prometheus_text() -> None:
    status, kind, text = await ask("/metrics", Health(True, {}))
    assert (status, kind) == (200, "text/plain")
    assert "# TYPE ringlog_requests_total counter" in text
    assert "# TYPE ringlog_events_waiting gauge" in text


@pytest.mark.parametrize(
    ("path", "method", "status", "says"),
    [
        ("/", "GET", 404, "Not Found"),
        ("/metrics/", "GET", 404, "Not Found"),
        ("/metrics", "POST", 405, "Method Not Allowed"),
        ("/fails", "GET", 500, "something went wrong here; the log has it"),
    ],
)
async def test_what_is_wrong_is_json_too(path: str, method: str, status: int, says: str) -> None:
    answered, kind, text = await ask(path, Health(True, {}), method)
    answer: dict[str, Any] = json.loads(text)
    assert (answered, kind, answer) == (status, "application/json", {"error": says})
