"""examples/05_another_language: a reader in Go understands what ringlog writes as ringlog does."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from runtime.kafka import make_producer, start_within
from runtime.settings import Settings
from schemas.end_of_call import decode_end_of_call
from schemas.event import Record, decode_envelope, headers_of
from schemas.money import MoneyError, credits_text
from schemas.topics import CALLS_ENDED
from tests.conftest import PARTITIONS
from tests.contracts.scene import AGENT, CALL, odd_bodies
from tests.edge import Edge, call, records_of, running
from tests.ended_calls import ended

EXAMPLE = Path(__file__).parents[2] / "examples" / "05_another_language"
GO = 1, 25  # as go.mod has it

# The first build fetches and compiles the client.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="session")
def go() -> str:
    found = shutil.which("go")
    if found is None:
        pytest.skip(f"there is no Go on this machine: install {'.'.join(map(str, GO))} or newer to run this example")
    said = subprocess.run([found, "version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"go(\d+)\.(\d+)", said)
    if version is None or (int(version[1]), int(version[2])) < GO:
        pytest.skip(f"this example needs Go {'.'.join(map(str, GO))} or newer, and here is {said.strip()}")
    fetched = subprocess.run([found, "mod", "download"], cwd=EXAMPLE, capture_output=True, text=True, check=False)
    if fetched.returncode and not os.environ.get("CI"):
        pytest.skip(f"the Go modules of this example can't be fetched: {fetched.stderr.strip()}")
    assert fetched.returncode == 0, fetched.stderr
    return found


@pytest.fixture(scope="session")
def program(go: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("go") / "reader"
    subprocess.run([go, "build", "-o", str(built), "."], cwd=EXAMPLE, check=True)
    return built


@pytest.fixture
async def edge(settings: Settings, topics: tuple[str, ...]) -> AsyncIterator[Edge]:
    async with running(settings) as edge:
        yield edge


class Reader:
    """The program while it runs; `lines` are what it has printed."""

    def __init__(self, program: Path, settings: Settings, group: str = "example") -> None:
        topic = CALLS_ENDED.named(settings.topic_prefix)
        self._command = [str(program), "-brokers", settings.bootstrap_servers, "-topic", topic]
        self._command += ["-group", settings.topic_prefix + group]
        self.lines: list[str] = []

    async def __aenter__(self) -> "Reader":
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*self._command, stdout=pipe, stderr=pipe)
        return self

    async def until(self, *sessions: str) -> list[str]:
        """All lines so far, once there is one of each of these sessions."""
        assert self._process.stdout
        async with asyncio.timeout(120):
            while not all(any(f"session={name} " in line for line in self.lines) for name in sessions):
                line = await self._process.stdout.readline()
                assert line, await self._complaints()
                self.lines.append(line.decode().removesuffix("\n"))
        return self.lines

    async def _complaints(self) -> str:
        assert self._process.stderr
        return (await self._process.stderr.read()).decode()

    async def __aexit__(self, *_: object) -> None:
        """As Ctrl-C does it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)
        try:
            rest, complaints = await asyncio.wait_for(self._process.communicate(), 60)
        except TimeoutError:
            self._process.kill()
            raise
        self.lines += rest.decode().splitlines()
        assert self._process.returncode == 0, complaints.decode()


async def send(settings: Settings, *records: Record, partition: int | None = None) -> None:
    producer = make_producer(settings)
    await start_within(producer)
    for it in records:
        topic = CALLS_ENDED.named(settings.topic_prefix)
        await producer.send_and_wait(topic, it.value, key=it.key, headers=list(it.headers), partition=partition)
    await producer.stop()


def as_ringlog_reads(records: Sequence[Record]) -> list[str]:
    once = {record.header("ce_id"): record for record in records}
    return sorted(map(_line, once.values()))


def _line(record: Record) -> str:
    envelope = decode_envelope(record.value or b"")
    body = decode_end_of_call(envelope.body)
    try:
        cost = body.cost()
    except MoneyError:
        cost = None
    duration = None if body.duration_ms is None else f"{Decimal(body.duration_ms) / 1000:f}s"
    time = (record.header("ce_time") or "")[:19] + "Z"
    said = {
        "session": envelope.session_id,
        "agent": envelope.agent_id,
        "status": body.call_status,
        "duration": duration,
        "cost": None if cost is None else credits_text(cost.total_micros),
    }
    return " ".join([time, *(f"{name}={'unknown' if it is None else it}" for name, it in said.items())])


async def test_it_reads_every_shape_as_ringlog_does_each_event_once(
    program: Path, settings: Settings, edge: Edge
) -> None:
    plain = call("plain", **{name: it for name, it in CALL.items() if name not in ("session_id", "voip")})
    for body in [plain, *odd_bodies()]:
        assert (await edge.end(body)).status == 200
    records = await records_of(settings, CALLS_ENDED)
    again = [*records[::3], _of_tomorrow(records[0])]  # neither must be printed
    last = [ended(f"last of {partition}", 0, {}) for partition in range(PARTITIONS)]
    await send(settings, *again)
    for partition, record in enumerate(last):
        await send(settings, record, partition=partition)
    async with Reader(program, settings) as reader:
        await reader.until("last of 0", "last of 1")
    assert len(reader.lines) > 40
    assert sorted(reader.lines) == as_ringlog_reads([*records, *last])
    assert [line.partition(" ")[2] for line in reader.lines if "session=plain" in line] == [
        f"session=plain agent={AGENT} status=user-ended duration=300s cost=0.0168"
    ]


def _of_tomorrow(record: Record) -> Record:
    """An event of a type that nobody knows yet."""
    value = b'{"event_id": "e", "session_id": "of tomorrow"}'
    headers = headers_of("ringlog.call.moved", "e", 0, "of tomorrow")
    return msgspec.structs.replace(record, value=value, headers=headers)


async def test_started_again_it_goes_on_where_it_was(program: Path, settings: Settings, edge: Edge) -> None:
    assert (await edge.end(call("first", duration=1.5))).status == 200
    async with Reader(program, settings) as reader:
        (line,) = await reader.until("first")
        assert "duration=1.5s" in line
    assert (await edge.end(call("second"))).status == 200
    async with Reader(program, settings) as reader:
        (line,) = await reader.until("second")
        assert "duration=unknown cost=unknown" in line
    async with Reader(program, settings, "another group") as reader:
        assert len(await reader.until("first", "second")) == 2


def test_its_own_tests_pass(go: str) -> None:
    subprocess.run([go, "vet", "./..."], cwd=EXAMPLE, check=True)
    subprocess.run([go, "test", "./..."], cwd=EXAMPLE, check=True)
