"""The spool is full, its disk is full or read-only, the process is killed over it, and bytes of it are flipped.

Kafka is away for as long as the spool has to hold out; then it returns, and the oracle is asked.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from service.journal.check import check
from service.journal.sealed import MAGIC
from service.journal.spool_errors import SpoolDamaged
from tests.faults.audit import Findings
from tests.faults.ledger import Line
from tests.faults.load import Load
from tests.faults.provider import ENDED, PREFETCHED
from tests.faults.small_disk import small_disk
from tests.faults.spool_scene import SpoolScene
from tests.faults.torn_spool import DRAINS, PUTS

# What is promised in milliseconds is asked for in seconds: the machine has others to serve.
SLACK_S = 2.0
PAGE_BYTES = 4096


def prefetches_are_answered(scene: SpoolScene) -> None:
    """All of them, and at once."""
    failed = [
        (attempt.status, attempt.why)
        for line in scene.ledger.lines(PREFETCHED).values()
        for attempt in line.attempts
        if attempt.status != 200
    ]
    assert failed == []
    assert scene.ledger.slowest_s(prefetch=True) < SLACK_S


SpoolScenes = Callable[..., AbstractAsyncContextManager[SpoolScene]]


@pytest.fixture
def spool_scene(kafka: str, tmp_path: Path, seed: int) -> SpoolScenes:
    @asynccontextmanager
    async def make(**options: Any) -> AsyncIterator[SpoolScene]:
        scene = SpoolScene(kafka, tmp_path, seed, **options)
        await scene.prepare()
        try:
            yield scene
        finally:
            await scene.end()

    return make


async def refuses(scene: SpoolScene, load: Load) -> None:
    """Sends until several ends of call have been refused. Prefetches are not, and whoever asks is told why."""
    since = time.monotonic()
    async with asyncio.timeout(30):
        # A small event may still find room where a large one does not.
        while scene.ledger.statuses(since)[503] < 5 or (await scene.one.ready())[1]["spool"] == "takes events":
            await load.send(20)
    assert set(scene.ledger.statuses(since, prefetch=True)) <= {200, None}  # none: not answered yet


async def accepts(scene: SpoolScene, seconds: float = 0.5, within_s: float = 10.0) -> None:
    """Returns when nothing has been refused for some time."""
    async with asyncio.timeout(within_s + seconds):
        while True:
            since = time.monotonic()
            await asyncio.sleep(seconds)
            statuses = scene.ledger.statuses(since)
            if statuses[200] and set(statuses) <= {200, 400}:
                return


def spooled_bytes(scene: SpoolScene) -> int:
    """Of what was accepted, at least."""
    return sum(len(line.message.kept) for line in scene.ledger if line.accepted and line.message.topic == ENDED)


async def test_full_by_its_setting(
    spool_scene: SpoolScenes, clean: Callable[[Findings], None], say: Callable[[str], None]
) -> None:
    limit, largest = 1_000_000, 200_000
    async with spool_scene(spool_max_bytes=str(limit)) as scene:
        await scene.start()
        async with scene.load(workers=3) as load:
            while spooled_bytes(scene) < limit - 2 * largest:
                await load.send(10)
                assert scene.ledger.statuses()[503] == 0 or spooled_bytes(scene) > limit - 2 * largest
            while not scene.ledger.statuses()[503]:
                await load.send(10)
            assert limit - largest < (await scene.one.metric("ringlog_spool_bytes") or 0) <= limit
            await refuses(scene, load)
            scene.kafka_returns()
            await scene.one.until("ringlog_spool_events", {0.0})
            await accepts(scene)
        findings = await scene.drained()
        say(f"{scene.ledger.statuses()[503]} answers of 503")
        prefetches_are_answered(scene)
        clean(findings)


@pytest.mark.parametrize("times", [1, pytest.param(5, marks=pytest.mark.slow)])
async def test_its_disk_is_full(
    spool_scene: SpoolScenes, times: int, clean: Callable[[Findings], None], say: Callable[[str], None]
) -> None:
    with small_disk(24) as disk:
        async with spool_scene(data_dir=disk.path / "data") as scene:
            await scene.start()
            async with scene.load(workers=3) as load:
                for _ in range(times):
                    await load.send(20)
                    disk.fill()
                    await refuses(scene, load)
                    disk.free()
                    await accepts(scene)  # by itself, and with Kafka still away
                disk.fill()
                await refuses(scene, load)
                scene.kafka_returns()
                await scene.one.until("ringlog_spool_events", {0.0})
                await accepts(scene)
                assert disk.free_bytes == 0  # it was emptied without room to do it
            disk.free()
            findings = await scene.drained()
        say(f"{scene.ledger.statuses()[503]} answers of 503")
        prefetches_are_answered(scene)
        assert scene.set_aside == []
        clean(findings)


async def test_its_disk_is_read_only(spool_scene: SpoolScenes, clean: Callable[[Findings], None]) -> None:
    with small_disk(24) as disk:
        async with spool_scene(data_dir=disk.path / "data") as scene:
            await scene.start()
            async with scene.load(workers=0) as load:
                await load.send(20)
            assert scene.ledger.statuses() == {200: 20}
            await scene.one.terminate()
            disk.remount("ro")
            await scene.start()
            async with scene.load(workers=3) as load:
                await refuses(scene, load)
                scene.kafka_returns()
                await scene.one.connects()
                await accepts(scene)  # which does not wait for a disk
                disk.remount("rw")
                await scene.one.until("ringlog_drained_total", {20.0, *map(float, range(20, 1000))})
                await accepts(scene)
            prefetches_are_answered(scene)
            clean(await scene.drained())
            assert scene.set_aside == []


# Each moment of a life without Kafka, and each of one that drains what the former has left.
_SHORT = [("before put", "after publish"), ("within put", "within delete"), ("after put", "after delete")]
_FULL = [(put, drain) for drain in DRAINS for put in PUTS]


@pytest.mark.parametrize(
    "rounds",
    [
        pytest.param(_SHORT, id="short"),
        pytest.param(_FULL, id="full", marks=[pytest.mark.slow, pytest.mark.timeout(400)]),
    ],
)
async def test_torn_by_a_kill(
    spool_scene: SpoolScenes,
    seed: int,
    rounds: Sequence[tuple[str, str]],
    clean: Callable[[Findings], None],
    say: Callable[[str], None],
) -> None:
    dice = random.Random(seed)
    async with spool_scene() as scene:
        async with scene.load(workers=3):
            for put, drain in rounds:
                scene.one.start(("-m", "tests.faults.torn_spool", put, str(dice.randint(3, 10)), "serve"))
                await scene.one.struck()
                scene.kafka_returns()
                scene.one.start(("-m", "tests.faults.torn_spool", drain, "1", "serve"))
                await scene.one.struck()
                scene.kafka_goes()
            scene.kafka_returns()
            await scene.start()
            await accepts(scene)
        findings = await scene.drained()
        say(f"killed {2 * len(rounds)} times")
        assert scene.set_aside == []
        clean(findings)


Places = Callable[[bytes, Line], list[int]]


def in_its_value(content: bytes, line: Line) -> list[int]:
    at = content.index(line.message.kept)
    assert content.find(line.message.kept, at + 1) < 0, "there is another copy of it"
    return [at + len(line.message.kept) // 2]


def in_the_head_of_its_page(content: bytes, line: Line) -> list[int]:
    frame = content.rindex(MAGIC, 0, content.index(line.message.kept))
    assert frame % PAGE_BYTES == 16
    return [frame - 16]


def in_the_head_of_a_leaf(content: bytes, line: Line) -> list[int]:
    """The flags of every page that looks like one in which keys are; some of them are free, and nobody reads them."""
    pages = range(2 * PAGE_BYTES, len(content), PAGE_BYTES)
    numbered = [at for at in pages if int.from_bytes(content[at : at + 8], "little") == at // PAGE_BYTES]
    leaves = [at for at in numbered if content[at + 10 : at + 12] == b"\2\0"]
    return [at + 10 for at in leaves if ENDED.encode() in content[at : at + PAGE_BYTES]]


def flip(scene: SpoolScene, places: Places) -> Line:
    """One byte, the last that matters; the event that was chosen."""
    content = scene.spool_file.read_bytes()
    ended = scene.ledger.lines(ENDED).values()
    large = [line for line in ended if line.accepted and len(line.message.kept) > PAGE_BYTES]
    victim = large[len(large) // 2]
    with scene.spool_file.open("r+b", buffering=0) as file:
        for at in reversed(places(content, victim)):
            os.pwrite(file.fileno(), bytes([content[at] ^ 0xFF]), at)
            try:
                check(scene.spool_file.parent)
            except SpoolDamaged:
                return victim
            os.pwrite(file.fileno(), content[at : at + 1], at)
    raise AssertionError("nothing that was flipped matters")


async def while_stopped(scene: SpoolScene, places: Places) -> Line:
    await scene.one.terminate()
    victim = flip(scene, places)
    await scene.start()
    return victim


async def while_running(scene: SpoolScene, places: Places) -> Line:
    return flip(scene, places)


Moment = Callable[[SpoolScene, Places], Awaitable[Line]]

_FLIPS = [
    pytest.param(while_stopped, in_its_value, 1, id="value-stopped"),
    pytest.param(while_running, in_its_value, 1, id="value-running"),
]
_SLOW_FLIPS = [
    pytest.param(while_stopped, in_the_head_of_its_page, 0, id="head-stopped", marks=pytest.mark.slow),
    pytest.param(while_stopped, in_the_head_of_a_leaf, 0, id="leaf-stopped", marks=pytest.mark.slow),
    pytest.param(while_running, in_the_head_of_a_leaf, 0, id="leaf-running", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("moment", "places", "lost"), [*_FLIPS, *_SLOW_FLIPS])
async def test_a_flipped_byte(
    spool_scene: SpoolScenes,
    moment: Moment,
    places: Places,
    lost: int,
    clean: Callable[[Findings], None],
    say: Callable[[str], None],
) -> None:
    """Of an event whose own bytes are damaged nothing is left that could be sent; everything else arrives."""
    async with spool_scene() as scene:
        await scene.start()
        async with scene.load(workers=0) as load:
            await load.send(60)
            victim = await moment(scene, places)
            await load.send(20)
            scene.kafka_returns()
            await scene.one.connects()
            await load.send(20)
            await scene.one.settled()
        assert scene.ledger.statuses() == {200: 100}
        damaged = await scene.one.metric("ringlog_spool_errors_total", reason="damaged")
        findings = await scene.drained()
        say(f"{findings}; {victim.message.event_id} was damaged")
        assert len(scene.set_aside) == 1
        assert damaged == 1
        assert "the spool was damaged and is set aside" in scene.one.log_file.read_text()
        if lost:
            (violation,) = findings.violations
            assert violation.startswith(f"lost: {victim.message.event_id} ")
        else:
            clean(findings)
