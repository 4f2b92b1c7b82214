"""Where the simulated recordings are: a server that makes each sound from its name, as bad as the provider's may be."""

import asyncio
import errno
from collections.abc import Sequence
from contextlib import suppress

import aiohttp
from aiohttp import web

from cli.simulator.sound import CONTENT_TYPE, wav

# Seconds that a slow recording takes, in three pieces: long enough to be seen, short enough for a retry budget.
SLOW_S = 0.6

_PROBE = "probe"
_PROBE_WITHIN_S = 2.0


class SoundServerError(ValueError):
    """The address can't be used; the text says why and what to do."""


class SoundServer:
    """`/sounds/<name>.wav`, and the same below `late/` (404 the first time), `slow/` and `moved/` (a redirect).

    Any other path has a sound too, such as `/recording123` of the provider's documented example. Nothing is stored: a
    simulator started anew serves the addresses of yesterday. `url` is known after `start`. `further` routes go first.
    """

    def __init__(self, address: str | None, further: Sequence[web.RouteDef] = ()) -> None:
        host, _, port = (address or "127.0.0.1:0").rpartition(":")
        self._host, self._port = host, int(port)
        self._further = further
        self._runner: web.AppRunner | None = None
        self._asked: set[str] = set()
        self.url = ""
        self.served = 0

    async def start(self) -> None:
        """Another simulator at the address serves the same sounds: then there is nothing to do.

        Raises `SoundServerError`.
        """
        app = web.Application()
        app.add_routes(self._further)
        app.router.add_get("/sounds/late/{name}", self._late)
        app.router.add_get("/sounds/slow/{name}", self._slow)
        app.router.add_get("/sounds/moved/{name}", self._moved)
        app.router.add_get("/{path:.+}", self._sound)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SLOW_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        try:
            await site.start()
        except OSError as error:
            await self.stop()
            if error.errno == errno.EADDRINUSE and await self._is_another_simulator():
                self.url = f"http://{self._host}:{self._port}"
                return
            raise SoundServerError(
                f"Recordings can't be served at {self._host}:{self._port} ({error.strerror});"
                " stop what listens there, or run `ringlog up` again."
            ) from None
        self.url = f"http://{self._host}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _is_another_simulator(self) -> bool:
        timeout = aiohttp.ClientTimeout(total=_PROBE_WITHIN_S)
        url = f"http://{self._host}:{self._port}/sounds/{_PROBE}.wav"
        try:
            async with aiohttp.ClientSession(timeout=timeout) as http, http.get(url) as answer:
                return await answer.read() == wav(_PROBE)
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _sound(self, request: web.Request) -> web.Response:
        self.served += 1
        return web.Response(body=wav(_name(request.path)), content_type=CONTENT_TYPE)

    async def _late(self, request: web.Request) -> web.Response:
        """The provider's recordings appear some time after the call. Source: provider facts, shapes."""
        if request.path not in self._asked:
            self._asked.add(request.path)
            raise web.HTTPNotFound(text="not yet")
        return await self._sound(request)

    async def _slow(self, request: web.Request) -> web.StreamResponse:
        content = wav(_name(request.path))
        answer = web.StreamResponse(headers={"content-type": CONTENT_TYPE, "content-length": str(len(content))})
        await answer.prepare(request)
        third = -(-len(content) // 3)
        with suppress(ConnectionResetError):  # whoever fetched it was killed, as simulations do; it will come again
            for start in range(0, len(content), third):
                await asyncio.sleep(SLOW_S / 3)
                await answer.write(content[start : start + third])
            self.served += 1
        return answer

    async def _moved(self, request: web.Request) -> web.Response:
        raise web.HTTPFound(f"/sounds/{request.match_info['name']}")


def _name(path: str) -> str:
    """The last part of a path, without its ending: the same sound under each behaviour."""
    return path.rpartition("/")[2].removesuffix(".wav")
