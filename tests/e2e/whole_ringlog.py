"""A whole ringlog on this machine, as `make run` starts it, for tests that use it as its user does."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import sqlalchemy

START_WITHIN_S = 120.0  # two cores, six processes, and perhaps another test run beside this one
STOP_WITHIN_S = 90.0
SETTLE_WITHIN_S = 60.0


class WholeRinglog:
    """`with WholeRinglog(directory) as ringlog:` is one run of `ringlog up`; its data outlives it."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        self.data_dir = directory / "data"
        self._settings = {f"RINGLOG_{name.upper()}": value for name, value in settings.items()}
        self._process: subprocess.Popen[bytes] | None = None
        self._output = directory / "up.log"
        self._all_pids: set[int] = set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        own = {"RINGLOG_DATA_DIR": str(self.data_dir), "RINGLOG_PORT": str(_free_port()), **self._settings}
        own.setdefault("RINGLOG_OPS_PORT", str(_free_port()))
        return {**os.environ, **own, "COLUMNS": "200"}

    def start(self) -> None:
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "up"],
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.wait(lambda: b"ringlog is up" in self._output.read_bytes()[self._said :], "it is up", START_WITHIN_S)
        self._all_pids |= set(self.up["pids"].values())

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """As Ctrl-C does. Returns the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._all_pids |= set(self.up["pids"].values()) if (self.data_dir / "up.json").exists() else set()
            self._process.send_signal(how)
        code = self._process.wait(STOP_WITHIN_S)
        self._said = len(self._output.read_bytes())
        return code

    _said = 0

    @property
    def up(self) -> dict[str, Any]:
        """up.json"""
        found: dict[str, Any] = json.loads((self.data_dir / "up.json").read_bytes())
        return found

    @property
    def in_effect(self) -> dict[str, str]:
        """The settings of its processes, for another one of them."""
        up = self.up
        said = {name.removeprefix("RINGLOG_").lower(): value for name, value in up["settings"].items()}
        return said | {"database_url": up["database_url"]}

    def left_behind(self) -> list[int]:
        """Which of the processes that it ever had still run."""
        return [pid for pid in self._all_pids if Path(f"/proc/{pid}").exists()]

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> int:
        pid: int = self.up["pids"][name]
        os.kill(pid, how)
        return pid

    def prefetch(self, **query: str) -> dict[str, Any]:
        status, answer = self._request(f"/webhooks/prefetch?{urlencode(query)}", None)
        assert status == 200, answer
        return answer

    def end_of_call(self, body: Any) -> tuple[int, dict[str, Any]]:
        return self._request("/webhooks/end-of-call", body if isinstance(body, bytes) else json.dumps(body).encode())

    def rows(self, query: str, **values: object) -> list[dict[str, Any]]:
        """What the books say: rows of a query on the database of up.json."""
        engine = sqlalchemy.create_engine(self.up["database_url"])
        try:
            with engine.connect() as connection:
                return [dict(row._mapping) for row in connection.execute(sqlalchemy.text(query), values)]
        finally:
            engine.dispose()

    def ringlog(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Runs a command beside it, as a user would in another terminal, with `settings` in its environment."""
        own = {"RINGLOG_DATA_DIR": str(self.data_dir), "COLUMNS": "200"}
        return subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            env={**os.environ, **own, **{f"RINGLOG_{name.upper()}": value for name, value in settings.items()}},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def spawn(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        """The same, in the background; a process that stays wants to be told everything."""
        own = {"RINGLOG_DATA_DIR": str(self.data_dir), "COLUMNS": "200"}
        return subprocess.Popen(
            [sys.executable, "-m", "cli.main", *arguments],
            env={**os.environ, **own, **{f"RINGLOG_{name.upper()}": value for name, value in settings.items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait(self, until: Callable[[], object], what: str, within_s: float = SETTLE_WITHIN_S) -> Any:
        """What `until` returned when it was true."""
        deadline = time.monotonic() + within_s
        while not (found := until()):
            assert self._process is not None
            if self._process.poll() is not None:
                raise AssertionError(f"ringlog ended while waiting until {what}:\n{self._output.read_text()[-3000:]}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {within_s:g} s: {what}\n{self._output.read_text()[-3000:]}")
            time.sleep(0.1)
        return found

    def _request(self, path: str, body: bytes | None) -> tuple[int, dict[str, Any]]:
        up = self.up
        headers = {"authorization": f"Bearer {up['webhook_key']}", "content-type": "application/json"}
        request = Request(up["webhooks_url"] + path, body, headers)  # noqa: S310 - our own loopback address
        try:
            with urlopen(request, timeout=10) as response:  # noqa: S310
                return response.status, json.loads(response.read())
        except HTTPError as error:
            return error.code, json.loads(error.read())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
