"""The provider's REST API of calls, as far as `ringlog reconcile` asks it. Source: provider facts, REST API."""

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from cli.simulator.call import Call
from cli.simulator.plan import Plan

MAX_LIMIT = 100


class CallLogs:
    """Knows every call of the plan that has ended, also those whose webhooks were lost. Empty until it has a plan."""

    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._index: asyncio.Task[_Index] | None = None
        self.asked = 0

    def know(self, plan: Plan) -> None:
        self._plan, self._index = plan, None

    def routes(self) -> Sequence[web.RouteDef]:
        return web.get("/call-logs", self._list), web.get("/call-logs/{session_id}", self._one)

    async def _list(self, request: web.Request) -> web.Response:
        """A page of those that began from `start_time` on, before `end_time`, and after the cursor: seconds."""
        index = await self._known(request)
        limit = min(int(request.query.get("limit", MAX_LIMIT)), MAX_LIMIT)
        first = bisect_left(index.began, _micros(request.query, "start_time", 0))
        if "start_after_ts" in request.query:
            first = max(first, bisect_right(index.began, _micros(request.query, "start_after_ts", 0)))
        end = bisect_left(index.began, _micros(request.query, "end_time", 2**62))
        page = range(first, min(end, first + limit))
        more = page.stop < end and len(page) > 0
        answer = {
            "histories": [_history(index.plan.at(index.positions[place])) for place in page],
            "next_cursor": index.began[page.stop - 1] / 1_000_000 if more else None,
        }
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")

    async def _one(self, request: web.Request) -> web.Response:
        index = await self._known(request)
        position = index.by_session.get(request.match_info["session_id"])
        if position is None:
            raise web.HTTPNotFound(text="{}", content_type="application/json")
        return web.Response(body=bytes(_history(index.plan.at(position))), content_type="application/json")

    async def _known(self, request: web.Request) -> "_Index":
        self.asked += 1
        if not request.headers.get("authorization"):
            raise web.HTTPUnauthorized(text="{}", content_type="application/json")
        if self._plan is None:
            raise web.HTTPServiceUnavailable(text="{}", content_type="application/json")
        if self._index is None:  # made once, and not before somebody asks: a million calls take their time
            self._index = asyncio.ensure_future(asyncio.to_thread(_Index, self._plan))
        return await asyncio.shield(self._index)


class _Index:
    """Where in the plan each call is that has ended: by session, and by when it began, in microseconds."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        ended = [(position, call) for position in range(len(plan)) if (call := plan.at(position)).body is not None]
        self.by_session = {call.session_id: position for position, call in ended}
        began = sorted((call.books.started_at or 0 if call.books else 0, position) for position, call in ended)
        self.began = [at for at, _ in began]
        self.positions = [position for _, position in began]


def _history(call: Call) -> msgspec.Raw:
    """As the webhook's body, but for the name of the status."""
    members = msgspec.json.decode(call.body or b"{}", type=dict[str, msgspec.Raw])
    if "call_status" in members:
        members["status"] = members.pop("call_status")
    return msgspec.Raw(msgspec.json.encode(members))


def _micros(query: Mapping[str, Any], name: str, default: int) -> int:
    return round(float(query[name]) * 1_000_000) if name in query else default
