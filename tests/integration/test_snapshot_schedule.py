"""`ringlog state snapshot --every`: again and again, whatever fails in between, until it is told to stop."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest

from runtime.settings import Settings
from state.generations import FROM_SNAPSHOT
from tests.building import DEADLINE_S, send, served, some_events
from tests.integration.state_command import Ended, end, start, state
from tests.snapshots import EVENTS, built, files_of, lose_the_store

pytestmark = pytest.mark.usefixtures("topics")

# Lists nothing, as a bucket in which there is nothing.
NOTHING = b"<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated></ListBucketResult>"


class Schedule:
    """The command as a process, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._logged: list[dict[str, Any]] = []
        self.port = 0

    async def logged(self, event: str) -> dict[str, Any]:
        """The next line of its log that says so."""
        assert self._process.stderr is not None
        async with asyncio.timeout(DEADLINE_S):
            while line := await self._process.stderr.readline():
                self._logged.append(json.loads(line))
                if self._logged[-1]["event"] == event:
                    return self._logged[-1]
        raise AssertionError(f"it never said {event!r}: {self._logged}")

    async def printed(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return json.loads(await asyncio.wait_for(self._process.stdout.readline(), DEADLINE_S))

    async def health(self) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}/health/ready"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            found: dict[str, Any] = await answer.json()
            assert found["ready"] is (answer.status == 200)
            return found

    async def printed_of(self, settings: Settings) -> str:
        """The next snapshot whose files are where they belong: one was taken, perhaps, before they were taken away."""
        while True:
            name: str = (await self.printed())["snapshot"]["name"]
            if all(path.exists() for path in files_of(settings, name)):
                return name

    async def until(self, so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """What its readiness says as soon as it is so."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                if so(found := await self.health()):
                    return found
                await asyncio.sleep(0.1)

    async def stopped(self) -> Ended:
        self._process.send_signal(signal.SIGTERM)
        return await end(self._process)


@asynccontextmanager
async def schedule(settings: Settings, every: str, **changes: str) -> AsyncIterator[Schedule]:
    changes = {"HOST": "127.0.0.1", "OPS_PORT": "0", "LOG_FORMAT": "json", **changes}
    process = await start(settings, "snapshot", "--every", every, "--json", **changes)
    running = Schedule(process)
    try:
        running.port = (await running.logged("started"))["ops_port"]
        yield running
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_one_is_taken_at_once_and_again_each_time(settings: Settings) -> None:
    await send(settings, *some_events(EVENTS, 1))
    await built(settings, EVENTS)
    async with schedule(settings, "1s", SNAPSHOTS_KEEP="2") as running:
        names = [(await running.printed())["snapshot"]["name"] for _ in range(3)]
        await send(settings, *some_events(50, 2))
        await built(settings, EVENTS + 50)
        while sum((last := await running.printed())["snapshot"]["positions"].values()) < EVENTS + 50:
            names.append(last["snapshot"]["name"])
        assert last["removed"] == [names[-2]]
        assert (await running.stopped()).code == 0
    assert names == sorted(set(names))
    lose_the_store(settings)
    assert await built(settings, EVENTS + 50) == 0
    assert (served(settings) / FROM_SNAPSHOT).exists()


async def test_none_is_taken_before_the_newest_is_so_old_whoever_took_it(settings: Settings) -> None:
    await send(settings, *some_events(EVENTS, 3))
    await built(settings, EVENTS)
    by_hand = (await state(settings, "snapshot", "--json")).json["snapshot"]["name"]
    async with schedule(settings, "1h") as running:
        health = await running.until(lambda health: health["newest"] is not None)
        assert (health["newest"], health["last"]) == (by_hand, "good")
        stopped = await running.stopped()
        assert (stopped.code, stopped.out) == (0, "")


async def test_storage_that_fails_does_not_end_it(settings: Settings) -> None:
    await send(settings, *some_events(EVENTS, 4))
    await built(settings, EVENTS)
    folder = settings.data_dir / "snapshots"
    async with schedule(settings, "1s") as running:
        await running.printed()
        folder.rename(settings.data_dir / "aside")
        folder.touch()  # whoever runs the tests may write where nobody may; but not into what is no folder
        said = await running.until(lambda health: not health["ready"])
        assert said["last"].startswith("failed: ") and said["failed_in_a_row"] >= 3
        folder.unlink()
        await running.until(lambda health: health["ready"])
        await running.printed_of(settings)
        assert (await running.stopped()).code == 0
    assert not list(settings.state_dir.glob("scratch-*"))


async def test_folder_that_is_removed_is_made_again(settings: Settings) -> None:
    await send(settings, *some_events(EVENTS, 5))
    await built(settings, EVENTS)
    async with schedule(settings, "1s") as running:
        await running.printed()
        (settings.data_dir / "snapshots").rename(settings.data_dir / "aside")
        await running.printed_of(settings)


async def test_store_that_is_not_there_yet_is_waited_for(settings: Settings) -> None:
    async with schedule(settings, "1h") as running:
        assert (
            "There is no state store" in (await running.logged("there is no new snapshot; it is tried again"))["reason"]
        )
        await send(settings, *some_events(EVENTS, 6))
        await built(settings, EVENTS)
        assert sum((await running.printed())["snapshot"]["positions"].values()) == EVENTS
        assert (await running.stopped()).code == 0


async def test_stop_does_not_wait_for_an_upload_that_hangs(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = asyncio.Event()

    async def list_and_hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (head := await reader.readuntil(b"\r\n\r\n")).startswith(b"GET"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\n")
            writer.write(b"content-length: %d\r\n\r\n%s" % (len(NOTHING), NOTHING))
        assert head.startswith((b"POST", b"PUT"))
        hanging.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(list_and_hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    s3 = {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "REGION": "us-east-1", "ALLOW_HTTP": "true"}
    for name, value in {**s3, "ENDPOINT_URL": f"http://127.0.0.1:{port}"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    await send(settings, *some_events(EVENTS, 7))
    await built(settings, EVENTS)
    async with schedule(settings, "1h", SNAPSHOTS_URL="s3://bucket/prefix") as running:
        await asyncio.wait_for(hanging.wait(), DEADLINE_S)
        stopped = await running.stopped()
    assert (stopped.code, stopped.out) == (0, "")
    assert [json.loads(line)["event"] for line in stopped.said.splitlines()] == ["stopped"]  # no try that failed
    assert not list(settings.state_dir.glob("scratch-*"))
    server.close()


async def test_what_can_not_be_meant_is_one_sentence_with_exit_code_2(settings: Settings) -> None:
    never = await state(settings, "snapshot", "--every", "soon")
    assert (never.code, "--every is wrong: 'soon' is no span of time" in never.said) == (2, True)
    nowhere = await state(settings, "snapshot", "--every", "1h", SNAPSHOTS_URL="nonsense://x")
    assert (nowhere.code, "RINGLOG_SNAPSHOTS_URL is wrong" in nowhere.said) == (2, True)
