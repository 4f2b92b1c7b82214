"""A service that is about to end takes calls, and lets nobody keep a connection to it."""

import asyncio

from aiohttp import ClientResponse

from tests.edge import BEARER, EMPTY, Edge, call


async def test_answers_close_their_connections_from_the_moment_it_is_asked(edge: Edge) -> None:
    assert closes(await edge.prefetch({"session_id": "s", "agent_id": "a"})) is False
    draining = asyncio.create_task(edge.ops("GET", "/drain?seconds=2"))
    await asyncio.sleep(0.2)
    before_and_after_the_server_made_its_headers_anew = (0.0, 1.3)
    for pause in before_and_after_the_server_made_its_headers_anew:
        await asyncio.sleep(pause)
        prefetch = await edge.prefetch({"session_id": "s", "agent_id": "a"})
        assert (prefetch.status, closes(prefetch)) == (200, True)
        assert await prefetch.json() == EMPTY
        ended = await edge.end(call())
        assert (ended.status, closes(ended)) == (200, True)
    assert not draining.done()
    assert (await draining).status == 200


async def test_the_inside_keeps_its_connections(edge: Edge) -> None:
    assert (await edge.ops("GET", "/drain?seconds=0")).status == 200
    live = await edge.ops("GET", "/health/live")
    assert (live.status, closes(live)) == (200, False)
    assert (await edge.ops("GET", "/drain?seconds=soon")).status == 400


async def test_the_drain_is_not_to_be_had_from_outside(edge: Edge) -> None:
    async with edge.http.get(f"{edge.url}/drain?seconds=0", headers=BEARER) as answer:
        assert answer.status == 404


def closes(answer: ClientResponse) -> bool:
    return answer.headers.get("connection") == "close"
