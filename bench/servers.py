"""The servers under test, each a process on the core that is theirs."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from bench.cpu import on_core
from runtime.local_kafka import dies_with_us

START_DEADLINE_S = 30.0
STOP_DEADLINE_S = 15.0


class ServerError(RuntimeError):
    """A server did not start, or does not answer as it must; the text says where its log is."""


class Server:
    """`name` is what the table calls it."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], port: int, log: Path) -> None:
        self.name = name
        self.port = port
        self._command = command
        self._environment = {**os.environ, **environment}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, core: int | None) -> None:
        """On this core, or on all. Raises `ServerError` when nothing listens in time."""
        with self._log.open("wb") as log, nullcontext() if core is None else on_core(core):
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdout=log,
                stderr=log,
                preexec_fn=dies_with_us(),  # noqa: PLW1509 - it neither imports nor locks in the child
            )
        deadline = time.monotonic() + START_DEADLINE_S
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServerError(f"{self.name} did not start; its log: {self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    def answer(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of one request on a connection of its own."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(request.replace(b"\r\n", b"\r\nconnection: close\r\n", 1))
            received = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, body = received.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 0.2).close()
        except OSError:
            return False
        return True


def ringlog(environment: Mapping[str, str], folder: Path) -> Server:
    """`ringlog serve`, as it is."""
    port, ops_port = free_port(), free_port()
    listen = {"RINGLOG_HOST": "127.0.0.1", "RINGLOG_PORT": str(port), "RINGLOG_OPS_PORT": str(ops_port)}
    command = [sys.executable, "-m", "cli.main", "serve"]
    return Server("ringlog", command, {**environment, **listen}, port, folder / "ringlog.log")


def uvicorn(name: str, app: str, environment: Mapping[str, str], folder: Path) -> Server:
    """An app under uvicorn with the same settings as ringlog's: uvloop, httptools, no access log."""
    port = free_port()
    options = f"--host 127.0.0.1 --port {port} --loop uvloop --http httptools --ws none --log-level warning"
    flags = ["--no-access-log", "--no-server-header", "--no-proxy-headers", "--timeout-keep-alive", "75"]
    command = [sys.executable, "-m", "uvicorn", app, *options.split(), *flags]
    return Server(name, command, environment, port, folder / f"{name.replace(' ', '-')}.log")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
