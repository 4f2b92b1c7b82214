"""`ringlog serve --with-profiles`: two processes that look like one, the second of which may end at any time."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from runtime.process import EXIT_SETTINGS
from runtime.scheduling import SLICE_NS
from runtime.settings import Settings
from state.generations import Generations
from state.lock import StoreBusy
from tests.building import environment_of, eventually
from tests.edge import BEARER, EMPTY, NUMBER, call
from tests.slices import slice_ns

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0

BUILDER = "RINGLOG_BUILDER_OPS_PORT"


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for it in sockets:
            it.bind(("127.0.0.1", 0))
        return [int(it.getsockname()[1]) for it in sockets]


@dataclass
class Pair:
    process: asyncio.subprocess.Process
    http: aiohttp.ClientSession
    port: int
    ops_port: int
    builder_ops_port: int
    log: Path

    async def health(self, port: int) -> Any:
        """What `/health/ready` says there; nothing while nobody listens."""
        with contextlib.suppress(aiohttp.ClientConnectionError):
            async with self.http.get(f"http://127.0.0.1:{port}/health/ready") as answer:
                return await answer.json()
        return {}

    async def metadata(self) -> Any:
        """What a prefetch tells of the caller."""
        query = {"session_id": "another", "agent_id": "-Om", "from": NUMBER, "to": "+15557654321"}
        url = f"http://127.0.0.1:{self.port}/webhooks/prefetch"
        async with self.http.get(url, params=query, headers=BEARER) as answer:
            assert answer.status == 200
            return (await answer.json())["metadata"]

    async def end(self, session_id: str) -> None:
        url = f"http://127.0.0.1:{self.port}/webhooks/end-of-call"
        async with self.http.post(url, data=call(session_id), headers=BEARER) as answer:
            assert answer.status == 200

    async def calls_are(self, number: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while (await self.metadata()).get("ringlog_calls") != number:  # noqa: ASYNC110 - another process builds it
                await asyncio.sleep(0.05)

    async def builder(self, former: int = 0) -> psutil.Process:
        """The child, once one other than `former` answers by itself."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                children = psutil.Process(self.process.pid).children()
                if [it.pid for it in children] not in ([], [former]) and await self.health(self.builder_ops_port):
                    (child,) = children
                    return child
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def serving(settings: Settings, log: Path, **changes: str) -> AsyncIterator[Pair]:
    port, ops_port, builder_ops_port = free_ports(3)
    environment = environment_of(settings) | {
        "RINGLOG_PORT": str(port),
        "RINGLOG_OPS_PORT": str(ops_port),
        BUILDER: str(builder_ops_port),
        "RINGLOG_IDENTITY_KEY": "identity-key-of-the-tests",
        "RINGLOG_WEBHOOK_KEYS": "tests:webhook-secret-of-the-tests",
        "RINGLOG_LOG_FORMAT": "json",
    }
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli.main", "serve", "--with-profiles"),
            env=environment | changes,
            cwd=ROOT,
            stdout=output,
            stderr=output,
        )
    async with aiohttp.ClientSession() as http:
        pair = Pair(process, http, port, ops_port, builder_ops_port, log)
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not (await pair.health(ops_port)).get("ready"):
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
            yield pair
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def said(pair: Pair, is_said: Callable[[Any], bool]) -> Any:
    """The service's readiness, once it says so."""
    async with asyncio.timeout(DEADLINE_S):
        while not is_said(health := await pair.health(pair.ops_port)):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
    return health


async def test_it_answers_by_what_its_builder_folds_also_after_the_builder_was_killed(
    settings: Settings, topics: tuple[str, ...], tmp_path: Path
) -> None:
    async with serving(settings, tmp_path / "log") as pair:
        assert await pair.metadata() == EMPTY["metadata"]
        await pair.end("s-1")
        await pair.calls_are(1)
        first = await pair.builder()
        assert (await pair.health(pair.ops_port))["builder"] == "running"
        first.kill()
        await pair.end("s-2")
        await pair.calls_are(2)
        second = await pair.builder(first.pid)
        assert second.pid != first.pid
        assert (await pair.health(pair.ops_port))["builder"] == "running"
        pair.process.terminate()
        assert await asyncio.wait_for(pair.process.wait(), DEADLINE_S) == 0
        assert not second.is_running()
    lines = pair.log.read_text()
    # Both speak in one place, and the builder ends last, in order.
    assert '"profiles was killed by SIGKILL, starting it again"' in lines
    assert lines.index('"the service has stopped"') < lines.rindex('"event": "stopped"')
    assert '"process": "profiles"' in lines
    assert "Traceback" not in lines


async def test_a_builder_that_can_t_start_is_tried_again_and_takes_no_call_with_it(
    settings: Settings, topics: tuple[str, ...], tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        builder_ops_port = taken.getsockname()[1]
        async with serving(settings, tmp_path / "log", **{BUILDER: str(builder_ops_port)}) as pair:
            pair.builder_ops_port = builder_ops_port
            refused = f"ended with exit code {EXIT_SETTINGS}, starting it again"
            health = await said(pair, lambda health: health.get("builder") == refused)
            assert health["ready"] is True
            await pair.end("s-1")
            assert await pair.metadata() == EMPTY["metadata"]
            taken.close()
            await pair.calls_are(1)
            await said(pair, lambda health: health.get("builder") == "running")


def may_build(settings: Settings) -> bool:
    with contextlib.suppress(StoreBusy):
        Generations(settings.state_dir).building().release()
        return True
    return False


async def test_a_service_that_is_killed_leaves_no_builder_and_no_lock(
    settings: Settings, topics: tuple[str, ...], tmp_path: Path
) -> None:
    async with serving(settings, tmp_path / "log") as pair:
        await pair.end("s-1")
        await pair.calls_are(1)
        builder = await pair.builder()
        pair.process.send_signal(signal.SIGKILL)
        await eventually(lambda: not builder.is_running() or builder.status() == psutil.STATUS_ZOMBIE)
        await eventually(lambda: may_build(settings))  # the last of its threads closes the file


@pytest.mark.skipif(not slice_ns(os.getpid()), reason="this kernel has no slices to ask for (Linux 6.12 has)")
async def test_the_service_is_let_in_soon_and_its_builder_as_everybody(
    settings: Settings, topics: tuple[str, ...], tmp_path: Path
) -> None:
    async with serving(settings, tmp_path / "log") as pair:
        builder = await pair.builder()
        assert slice_ns(pair.process.pid) == SLICE_NS
        assert slice_ns(builder.pid) == slice_ns(os.getpid())
        of_service = {
            it.laddr.port for it in psutil.Process(pair.process.pid).net_connections() if it.status == "LISTEN"
        }
        of_builder = {it.laddr.port for it in builder.net_connections() if it.status == "LISTEN"}
        assert of_service == {pair.port, pair.ops_port}
        assert of_builder == {pair.builder_ops_port}
