"""A server that trickles is given up; one that we hold up ourselves is not."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from consumers.recordings import pace as pace_module
from consumers.recordings.failure import FetchFailed
from consumers.recordings.pace import GRACE_S, WINDOW_S, Pace
from tests.unit.consumers.recordings.books import Books
from tests.unit.consumers.recordings.sound_server import WAV, SoundServer
from tests.unit.consumers.recordings.test_downloader import called


class Server:
    """Sends when it is told to, under a clock that stands still otherwise."""

    def __init__(self, floor: int) -> None:
        self._now = 0.0
        self._pace = Pace(floor, lambda: self._now)

    def sends(self, count: int, after_s: float) -> None:
        with self._pace.waiting():
            self._now += after_s
        self._pace.received(count)

    def is_held_up(self, seconds: float) -> None:
        self._now += seconds


def test_a_trickle_is_given_up_after_a_window_with_a_reason() -> None:
    server = Server(1000)
    for _ in range(int(GRACE_S + WINDOW_S) - 1):
        server.sends(999, 1.0)
    with pytest.raises(
        FetchFailed, match=r"too slow: 999 bytes a second, and RINGLOG_RECORDING_MIN_BYTES_PER_S is 1000"
    ):
        server.sends(999, 1.0)


def test_at_the_floor_it_goes_on_for_ever() -> None:
    server = Server(1000)
    for _ in range(1000):
        server.sends(1000, 1.0)


def test_the_beginning_is_not_judged() -> None:
    server = Server(1000)
    server.sends(1, GRACE_S)
    server.sends(60_000, WINDOW_S)


def test_what_came_in_the_beginning_excuses_nothing_later() -> None:
    server = Server(1000)
    server.sends(10**9, GRACE_S)
    with pytest.raises(FetchFailed, match="too slow"):
        server.sends(1, WINDOW_S)


def test_the_time_in_which_our_storage_was_slow_is_not_the_servers() -> None:
    server = Server(1000)
    for _ in range(1000):
        server.sends(1000, 1.0)
        server.is_held_up(100.0)


def test_without_a_floor_anything_goes() -> None:
    server = Server(0)
    for _ in range(10):
        server.sends(0, WINDOW_S)


async def test_an_attempt_at_a_server_that_trickles_ends(
    books: Books, sounds: SoundServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace_module, "GRACE_S", 0.2)
    monkeypatch.setattr(pace_module, "WINDOW_S", 0.2)

    async def trickling(request: web.Request) -> Any:
        response = web.StreamResponse(headers={"Content-Length": str(len(WAV))})
        await response.prepare(request)
        for byte in WAV:
            await response.write(bytes([byte]))
            await asyncio.sleep(0.02)
        return response

    sounds.paths["/1"] = trickling
    books.hear(called("s1", sounds.url("/1")))
    async with books.downloading(recording_min_bytes_per_s=5000):
        row = await books.until("s1", attempts=1, leased_until=0)
    assert row["status"] == "pending"
    assert "too slow" in str(row["error"])
    assert books.files() == {}
