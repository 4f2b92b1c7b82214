"""Recordings: made from their names, and served as badly as the provider may serve them."""

import asyncio
import io
import socket
import time
import wave

import aiohttp
import pytest

from cli.simulator.sound import MAX_BYTES, MIN_BYTES, sound_of, wav
from cli.simulator.sound_server import SLOW_S, SoundServer, SoundServerError


async def get(url: str) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        return answer.status, await answer.read()


def test_a_sound_is_a_valid_file_of_bounded_size() -> None:
    for name in ("a", "b", "-Oabc", "ü"):
        content = wav(name)
        with wave.open(io.BytesIO(content)) as read:
            assert (read.getnchannels(), read.getsampwidth(), read.getframerate()) == (1, 1, 8000)
            assert read.getnframes() == len(content) - 44
        assert MIN_BYTES <= len(content) <= MAX_BYTES + 44


def test_a_name_has_one_sound_and_another_name_another() -> None:
    assert wav("a") == wav("a") != wav("b")
    assert sound_of("a").bytes == len(wav("a"))


async def test_sounds_are_served_as_their_paths_say() -> None:
    server = SoundServer(None)
    await server.start()
    try:
        assert await get(f"{server.url}/sounds/x.wav") == (200, wav("x"))
        assert await get(f"{server.url}/recording123") == (200, wav("recording123"))
        assert await get(f"{server.url}/sounds/moved/x.wav") == (200, wav("x"))
        assert (await get(f"{server.url}/sounds/late/x.wav"))[0] == 404
        assert await get(f"{server.url}/sounds/late/x.wav") == (200, wav("x"))
        began = time.monotonic()
        assert await get(f"{server.url}/sounds/slow/x.wav") == (200, wav("x"))
        assert time.monotonic() - began > SLOW_S * 0.9
    finally:
        await server.stop()


async def test_a_second_simulator_uses_the_sounds_of_the_first() -> None:
    first = SoundServer(None)
    await first.start()
    second = SoundServer(first.url.removeprefix("http://"))
    try:
        await second.start()
        assert second.url == first.url
    finally:
        await second.stop()
        await first.stop()


async def test_an_address_that_somebody_else_has_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SoundServerError, match=address):
            await SoundServer(address).start()


async def test_a_listener_who_hangs_up_leaves_no_error_behind(caplog: pytest.LogCaptureFixture) -> None:
    server = SoundServer(None)
    await server.start()
    try:
        async with aiohttp.ClientSession() as http:
            answer = await http.get(f"{server.url}/sounds/slow/x.wav")
            answer.close()
        await asyncio.sleep(SLOW_S * 1.5)
        assert server.served == 0
        assert [record for record in caplog.records if record.exc_info] == []
    finally:
        await server.stop()
