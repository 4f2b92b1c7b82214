"""A server of recordings at its worst: every address fails in several ways before it gives its sound, whole."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

from aiohttp import web

from cli.simulator.sound import CONTENT_TYPE, wav

SLOW_S = 1.0

Behaviour = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]


class BadSounds:
    """`tries` is how often each address fails; `well` is set when nothing is to fail any more."""

    def __init__(self, tries: int) -> None:
        self.url = ""
        self.tries = tries
        self.asked: Counter[str] = Counter()
        self.suffered: Counter[str] = Counter()
        self.well = threading.Event()

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        name = request.path.rpartition("/")[2].removesuffix(".wav")
        self.asked[name] += 1
        if self.well.is_set() or self.asked[name] > self.tries:
            return await whole(request, wav(name))
        behaviour = BEHAVIOURS[(sum(name.encode()) + self.asked[name]) % len(BEHAVIOURS)]
        self.suffered[behaviour.__name__] += 1
        return await behaviour(request, wav(name))


async def whole(_request: web.Request, sound: bytes) -> web.StreamResponse:
    return web.Response(body=sound, content_type=CONTENT_TYPE)


async def not_yet(_request: web.Request, _sound: bytes) -> web.StreamResponse:
    return web.Response(status=404)


async def broken(_request: web.Request, _sound: bytes) -> web.StreamResponse:
    return web.Response(status=500, text="it is not our day")


async def slow(request: web.Request, sound: bytes) -> web.StreamResponse:
    """The sound, after all."""
    response = await _begun(request, len(sound))
    for start in range(0, len(sound), len(sound) // 4 + 1):
        await asyncio.sleep(SLOW_S / 4)
        await response.write(sound[start : start + len(sound) // 4 + 1])
    return response


async def truncated(request: web.Request, sound: bytes) -> web.StreamResponse:
    """Half of what it announces, and an orderly end."""
    response = await _begun(request, len(sound))
    await response.write(sound[: len(sound) // 2])
    assert request.transport is not None
    request.transport.close()
    return response


async def reset(request: web.Request, sound: bytes) -> web.StreamResponse:
    """Half of it, then a reset, with nothing announced: only the connection tells that it was not all."""
    response = await _begun(request, None)
    await response.write(sound[: len(sound) // 2])
    await asyncio.sleep(0.05)
    assert request.transport is not None
    connection: socket.socket = request.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
    return response


async def page(_request: web.Request, _sound: bytes) -> web.StreamResponse:
    return web.Response(text="<!doctype html><title>Sorry</title>", content_type="text/html")


BEHAVIOURS: tuple[Behaviour, ...] = (not_yet, broken, slow, truncated, reset, page)


async def _begun(request: web.Request, length: int | None) -> web.StreamResponse:
    announced = {} if length is None else {"content-length": str(length)}
    response = web.StreamResponse(headers={"content-type": CONTENT_TYPE, **announced})
    await response.prepare(request)
    return response


@contextlib.contextmanager
def bad_sounds(tries: int) -> Iterator[BadSounds]:
    """On a free port of loopback, in a thread of its own: a test that waits for a process must not stop it."""
    sounds = BadSounds(tries)
    loop = asyncio.new_event_loop()
    started, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", sounds.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        sounds.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        started.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="bad sounds", daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield sounds
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
