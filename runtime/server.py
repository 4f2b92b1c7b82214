"""One HTTP listener inside a process that has others, and owns its signals."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from runtime.settings import SettingsError

BACKLOG = 2048  # connections that wait to be accepted: a burst of calls, not an attack
KEEP_ALIVE_S = 75  # longer than the usual proxy's 60 s: the proxy must be the one who closes an idle connection


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Two servers in one process would both take the signals, and one of them would never stop."""
        yield


class HttpServer:
    """`port` 0 takes a free one. `start` returns when the listener accepts; `stop` lets requests in flight finish."""

    def __init__(self, app: ASGIApp, host: str, port: int, *, name: str, port_setting: str = "RINGLOG_PORT") -> None:
        self.name = name
        self._app = app
        self._host = host
        self._wanted_port = port
        self._port_setting = port_setting
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self.port = port

    async def start(self) -> None:
        """Raises `SettingsError` when the address can't be had."""
        listener = self._bound()
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            loop="none",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve([listener]), name=f"http {self.name}")
        while not self._server.started:
            if self._serving.done():
                await self._serving
                raise RuntimeError(f"the {self.name} listener ended while it started")
            await asyncio.sleep(0.005)

    async def stop(self, grace_s: float) -> None:
        if self._server is None or self._serving is None:
            return
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_s))
        self._server.should_exit = True
        # uvicorn cancels what is left after its grace; the second more is for it to do so.
        await asyncio.wait({self._serving}, timeout=grace_s + 1)

    def _bound(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._host, self._wanted_port))
        except OSError as error:
            listener.close()
            raise SettingsError(
                f"{self._port_setting}: {self._host}:{self._wanted_port} can't be listened on ({error.strerror});"
                " set another port, or stop what uses this one."
            ) from None
        listener.listen(BACKLOG)
        listener.setblocking(False)
        return listener
