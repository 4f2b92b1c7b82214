"""A server of recordings that behaves in every way that we have to live with."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

WAV = b"RIFF\xff\xff\xff\xffWAVEfmt " + bytes(range(256)) * 64

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SoundServer:
    """`paths` says what each path answers; `requests` what was asked for, in order, with its headers."""

    def __init__(self) -> None:
        self.paths: dict[str, Handler | bytes | int | list[bytes | int]] = {}
        self.requests: list[web.Request] = []
        self.port = 0
        self._asked = asyncio.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str) -> str:
        return f"http://{self.address}{path}"

    def asked(self) -> list[str]:
        return [request.path for request in self.requests]

    async def asked_for(self, path: str) -> None:
        """Returns once it was."""
        async with asyncio.timeout(20):
            while path not in self.asked():
                self._asked.clear()
                await self._asked.wait()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self._asked.set()
        answer = self.paths.get(request.path, 404)
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, int):
            return web.Response(status=answer)
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type="application/x-whatever")
        return await answer(request)


def redirect(to: str) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"location": to, "set-cookie": "guest=1; Path=/"})

    return answer


async def truncated(request: web.Request) -> web.StreamResponse:
    """Announces twice what it sends, and closes."""
    response = web.StreamResponse(headers={"content-length": str(2 * len(WAV))})
    await response.prepare(request)
    await response.write(WAV)
    assert request.transport is not None
    request.transport.close()
    return response


async def reset(request: web.Request) -> web.StreamResponse:
    """Half of it, then a reset."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(WAV[: len(WAV) // 2])
    await asyncio.sleep(0.05)
    assert request.transport is not None
    connection: socket.socket = request.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
    return response


async def silent(request: web.Request) -> web.StreamResponse:
    """The head of a recording, then nothing."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(WAV[:100])
    await asyncio.sleep(30)
    return response


async def html(_: web.Request) -> web.Response:
    return web.Response(text="<!doctype html><title>Not yet</title>", content_type="text/html")


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[SoundServer]:
    """On a free port of loopback."""
    server = SoundServer()
    app = web.Application()
    app.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.port = runner.addresses[0][1]
        yield server
    finally:
        await runner.cleanup()
