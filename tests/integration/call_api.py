"""The provider's API of calls, over real HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web


class Provider:
    """`calls` is what it knows; an answer that is a number is a status. `listed` are those that its list has."""

    def __init__(self) -> None:
        self.calls: dict[str, dict[str, Any] | int] = {}
        self.listed: list[str] = []
        self.asked: list[str] = []
        self.url = ""

    async def list(self, _: web.Request) -> web.Response:
        # Shortened, as a list may be: nothing but the names must be taken from it.
        return web.json_response({"histories": [{"session_id": it, "status": "user-ended"} for it in self.listed]})

    async def one(self, request: web.Request) -> web.Response:
        session_id = request.match_info["session_id"]
        self.asked.append(session_id)
        call = self.calls.get(session_id, 404)
        return web.json_response({}, status=call) if isinstance(call, int) else web.json_response(call)


def told(session_id: str, **members: Any) -> dict[str, Any]:
    return {"session_id": session_id, "status": "user-ended", "duration": 5, **members}


@asynccontextmanager
async def provided() -> AsyncIterator[Provider]:
    provider = Provider()
    app = web.Application()
    app.router.add_get("/call-logs", provider.list)
    app.router.add_get("/call-logs/{session_id}", provider.one)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield provider
    finally:
        await runner.cleanup()
