"""One HTTP listener inside a process that has others, and owns its signals."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runtime.settings import SettingsError

BACKLOG = 2048  # connections that wait to be accepted: a burst of calls, not an attack
KEEP_ALIVE_S = 75  # longer than the usual proxy's 60 s: the proxy must be the one who closes an idle connection


# The request line and the headers together. uvicorn would take any size; the longest query that we read is 64 KiB.
MAX_HEAD_BYTES = 256 * 1024


_CLOSE = (b"connection", b"close")

_HEAD_TOO_LARGE = f"The head of the request has more than {MAX_HEAD_BYTES} bytes."


class _Protocol(HttpToolsProtocol):
    """uvicorn's, with a limit to the head of a request and an answer in JSON to what is no HTTP."""

    _refusal = ""
    _head_bytes = 0  # of what is neither a whole head nor a body: a head that has no end yet

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(_HEAD_TOO_LARGE)

    def on_headers_complete(self) -> None:
        if self._head_bytes > MAX_HEAD_BYTES:  # with what has come behind it, perhaps
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > MAX_HEAD_BYTES:
                self._refusal = _HEAD_TOO_LARGE
                raise ValueError(self._refusal)  # httptools makes it an invalid request
        self._head_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        content = b'{"error":"%s","reason":"not-http"}' % (self._refusal or msg).encode()
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(content), content)
        )
        self.transport.close()


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
            http=_Protocol,
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

    def announce_end(self) -> None:
        """From now on every answer says that its connection ends with it: who has it open opens another, elsewhere."""
        if self._server is not None and _CLOSE not in self._server.config.encoded_headers:
            # The server makes the one of the other once a second.
            self._server.config.encoded_headers = [*self._server.config.encoded_headers, _CLOSE]
            self._server.server_state.default_headers = [*self._server.server_state.default_headers, _CLOSE]

    async def stop(self, grace_s: float) -> None:
        if self._server is None or self._serving is None:
            return
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_s))
        self._server.should_exit = True
        # uvicorn cancels what is left after its grace; the second more is for it to do so.
        await asyncio.wait({self._serving}, timeout=grace_s + 1)

    def _bound(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # With the protocol named: without it asyncio leaves Nagle's algorithm on, and an answer waits 40 ms for an ACK.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self._host, self._wanted_port))
        except (OSError, UnicodeError) as error:
            listener.close()
            reason = error.strerror if isinstance(error, OSError) else "no name of a host"
            if isinstance(error, socket.gaierror | UnicodeError) or error.errno == errno.EADDRNOTAVAIL:
                raise SettingsError(
                    f"RINGLOG_HOST is wrong: {self._host!r} is no address of this machine ({reason});"
                    " 0.0.0.0 listens on all of them."
                ) from None
            raise SettingsError(
                f"{self._port_setting}: {self._host}:{self._wanted_port} can't be listened on ({reason});"
                " set another port, or stop what uses this one."
            ) from None
        listener.listen(BACKLOG)
        listener.setblocking(False)
        return listener
