"""The downloader against a bare download-and-hash of the same sounds, in the same run. `make bench-recordings`.

- **bare**: aiohttp reads each sound and hashes it; nothing is stored, judged or written down: what a line can give.
- **ringlog**: `consumers.recordings.Downloader` as it runs in `ringlog consume recordings`: rows in SQLite, leases, the
  guard, storage in a folder with fsync, an event for each in the outbox.

Both have the server of `bench.sounds` on one core, and the other for themselves. *Full speed* asks what we cost; *a
line* gives each download a fixed width, as the internet does, and asks whether they are bounded by it or by us.
"""

import asyncio
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import aiohttp
import msgspec
import typer
import uvloop
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

from bench import cpu
from bench.report import spread
from consumers.database import migrate, open_engine
from consumers.recordings import Downloader, Recordings
from consumers.tables import recordings
from runtime.logs import configure_logs
from runtime.settings import load_settings
from schemas.caller import Caller
from schemas.event import ENDED, Envelope, Record, event_id, headers_of

BARE, RINGLOG = "bare", "ringlog"
MIB = 1024 * 1024

console = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Case:
    """`rate` is what each connection may carry, in bytes a second; 0 is no bound."""

    name: str
    sounds: int
    bytes: int
    rate: int


@dataclass(frozen=True)
class Result:
    """`cpu_s` is processor time of the process that downloads, in seconds for each GB."""

    round: int
    case: str
    way: str
    bytes_per_s: float
    cpu_s: float


@contextmanager
def server_of(case: Case, core: int) -> Iterator[int]:
    """Its port."""
    command = [sys.executable, "-m", "bench.sounds", str(case.bytes), str(case.rate)]
    with cpu.on_core(core), subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


async def bare(case: Case, port: int, at_once: int) -> None:
    free = asyncio.Semaphore(at_once)

    async def one(http: aiohttp.ClientSession, number: int) -> None:
        async with free, http.get(f"http://127.0.0.1:{port}/{number}") as answer:
            digest, size = hashlib.sha256(), 0
            while chunk := await answer.content.readany():
                digest.update(chunk)
                size += len(chunk)
            digest.hexdigest()
            assert size == case.bytes

    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as http:
        await asyncio.gather(*(one(http, number) for number in range(case.sounds)))


def ended(session_id: str, url: str) -> Record:
    """The end of a call, as it lies in the topic."""
    body = msgspec.json.encode({"recording": {"recording_url": url}})
    id_, caller, now_us = (
        event_id(ENDED, session_id, body),
        Caller("c0ffee", "phone", "+15550100"),
        1_790_000_000_000_000,
    )
    envelope = Envelope(
        event_id=id_,
        received_at=now_us,
        session_id=session_id,
        agent_id="agent",
        caller=caller,
        direction="unknown",
        body=msgspec.Raw(body),
    )
    return Record(
        topic="calls.ended",
        partition=0,
        offset=0,
        appended_ms=now_us // 1000,
        key=None,
        value=msgspec.json.encode(envelope),
        headers=headers_of(ENDED, id_, now_us, session_id),
    )


@asynccontextmanager
async def prepared(case: Case, port: int, at_once: int, folder: Path) -> AsyncIterator[asyncio.Task[None]]:
    """All rows are there; yields what ends when all are stored."""
    settings = load_settings(data_dir=folder, recording_private_hosts=[f"127.0.0.1:{port}"], recording_workers=at_once)
    migrate(settings)
    engine = open_engine(settings)
    with engine.begin() as tx:
        calls = [ended(f"s{number}", f"http://127.0.0.1:{port}/{number}") for number in range(case.sounds)]
        Recordings().handle(tx, calls)
    stop = asyncio.Event()

    def left() -> int:
        with engine.connect() as tx:
            pending = select(func.count()).select_from(recordings).where(recordings.c.status != "stored")
            return int(tx.execute(pending).scalar_one())

    async def work() -> None:
        running = asyncio.create_task(Downloader(settings, engine).run(stop))
        while await asyncio.to_thread(left):  # noqa: ASYNC110 - the database says it
            await asyncio.sleep(0.05)
        stop.set()
        await running

    yield asyncio.create_task(work())
    engine.dispose()


async def measured(round_: int, case: Case, way: str, port: int, at_once: int) -> Result:
    async def timed(work: "asyncio.Task[None]") -> tuple[float, float]:
        began, used = time.perf_counter(), cpu.used_s("self")
        await work
        return time.perf_counter() - began, cpu.used_s("self") - used

    if way == BARE:
        seconds, used = await timed(asyncio.create_task(bare(case, port, at_once)))
    else:
        with tempfile.TemporaryDirectory(prefix="ringlog-bench-") as folder:
            async with prepared(case, port, at_once, Path(folder)) as work:
                seconds, used = await timed(work)
    total = case.sounds * case.bytes
    return Result(round_, case.name, way, total / seconds, used / total * 1e9)


def run(cases: list[Case], rounds: int, at_once: int) -> list[Result]:
    """Which goes first changes with each round."""
    found = []
    theirs, ours = cpu.cores()
    with cpu.on_core(ours):
        for case in cases:
            with server_of(case, theirs) as port:
                for round_ in range(rounds):
                    for way in (BARE, RINGLOG) if round_ % 2 else (RINGLOG, BARE):
                        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as our processes do
                            one = runner.run(measured(round_, case, way, port, at_once))
                        console.print(
                            f"round {round_ + 1} {case.name} {way:8} {one.bytes_per_s / 1e6:7.1f} MB/s,"
                            f" {one.cpu_s:.2f} s of a core for each GB"
                        )
                        found.append(one)
    return found


def table_of(found: list[Result]) -> Table:
    table = Table("", "bare MB/s", "ringlog MB/s", "ringlog / bare", "CPU, ringlog / bare")
    for case in dict.fromkeys(one.case for one in found):
        by_way = {way: [one for one in found if (one.case, one.way) == (case, way)] for way in (BARE, RINGLOG)}
        for some in by_way.values():
            some.sort(key=lambda one: one.round)
        pairs = list(zip(by_way[RINGLOG], by_way[BARE], strict=True))
        table.add_row(
            case,
            *(spread([one.bytes_per_s / 1e6 for one in by_way[way]]).text(1) for way in (BARE, RINGLOG)),
            spread([ours.bytes_per_s / theirs.bytes_per_s for ours, theirs in pairs]).text(),
            spread([ours.cpu_s / theirs.cpu_s for ours, theirs in pairs]).text(),
        )
    return table


def main(
    rounds: Annotated[int, typer.Option(help="How often each is measured.")] = 3,
    at_once: Annotated[int, typer.Option(help="Downloads under way at once.")] = 50,
    size: Annotated[int, typer.Option(help="Of each sound, in MiB.")] = 4,
    rate: Annotated[float, typer.Option(help="Of the line of each download, in MiB a second.")] = 1.0,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Measure downloads at full speed, and over lines of a fixed width."""
    configure_logs("bench", "pretty", "error")
    cases = [
        Case("full speed", 4 * at_once, size * MIB, 0),
        Case(f"a line of {rate:g} MiB/s each", 4 * at_once, size * MIB, int(rate * MIB)),
    ]
    found = run(cases, rounds, at_once)
    if json_:
        print(json.dumps([asdict(one) for one in found], indent=2))
    else:
        Console().print(table_of(found))


if __name__ == "__main__":
    typer.run(main)
