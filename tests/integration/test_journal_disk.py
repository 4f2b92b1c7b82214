"""The journal when the spool's disk fails, is full, or is another's."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.settings import Settings
from runtime.topics import apply
from service import health
from service.journal import Journal, NotDurable, spooler
from service.journal.layout import DATA_FILE
from service.journal.sealed import MAGIC
from service.journal.spool_lock import SpoolLock
from service.journal.spooler import Spooler
from tests.edge import EMPTY, Edge, call, metric, running
from tests.faults.hanging_disk import HangingDisk, hanging_disk
from tests.faults.small_disk import small_disk
from tests.journaling import SLACK_S, entry, ids_in, is_drained, journal_of, until


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[HangingDisk]:
    with hanging_disk(tmp_path, 16) as disk:
        yield disk


async def test_to_be_flushed_no_partition_waits_for_what_others_commit_meanwhile(tmp_path: Path) -> None:
    subject, stop = Spooler(tmp_path / "spool", 2**28, lambda: None), asyncio.Event()
    task = asyncio.create_task(subject.run(stop))

    async def keep_spooling() -> None:
        while not stop.is_set():
            await subject.append([entry("others")])

    spooling = [asyncio.create_task(keep_spooling()) for _ in range(8)]
    await until(lambda: subject.backlog.events > 0)
    for _ in range(5):
        mine = subject.append([entry("mine")])
        async with asyncio.timeout(SLACK_S):
            await subject.flushed()
        assert mine.done()
    stop.set()
    await asyncio.gather(task, *spooling)
    await subject.close()


@pytest.mark.parametrize("more", [0, 4])
async def test_what_waits_for_its_commit_when_kafka_comes_is_published_and_not_overtaken(
    settings: Settings, hanging: HangingDisk, more: int
) -> None:
    on_disk = settings.model_copy(update={"data_dir": hanging.path / "data"})
    async with journal_of(on_disk, connected=False) as journal:
        await until(lambda: metric("ringlog_spool_usable") == 1)
        with hanging.hanging():
            publishing = [asyncio.create_task(journal.publish(entry(f"{n}"))) for n in range(4)]
            await apply(settings)
            await until(lambda: journal.is_connected)
            publishing += [asyncio.create_task(journal.publish(entry(f"{n}"))) for n in range(4, 4 + more)]
            await asyncio.sleep(0.2)
        await asyncio.gather(*publishing)
        await until(is_drained)
    assert await ids_in(settings) == [str(n) for n in range(4 + more)]


async def test_a_disk_that_hangs_keeps_nobody_waiting_and_nothing_from_kafka(
    settings: Settings, hanging: HangingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooler, "COMMIT_DEADLINE_S", 1.5)
    on_disk = settings.model_copy(update={"data_dir": hanging.path / "data"})

    async def outcome(journal: Journal, name: str) -> tuple[bool, float]:
        started = time.perf_counter()
        try:
            await journal.publish(entry(name))
        except NotDurable:
            return False, time.perf_counter() - started
        return True, time.perf_counter() - started

    async with journal_of(on_disk, connected=False) as journal:
        await journal.publish(entry("spooled"))
        with hanging.hanging():
            waiting = [asyncio.create_task(outcome(journal, "first"))]
            await asyncio.sleep(0.5)
            waiting.append(asyncio.create_task(outcome(journal, "second")))
            await asyncio.sleep(2.5)
            assert not journal.accepts
            assert "has not answered" in journal.reasons()["spool"]
            waiting.append(asyncio.create_task(outcome(journal, "third")))
            await asyncio.sleep(0.1)
            assert [(took, took_s < 2.5) for took, took_s in [task.result() for task in waiting]] == [(False, True)] * 3
            await apply(settings)
            await until(lambda: journal.accepts)
            await journal.publish(entry("past-the-disk"))
        await until(lambda: journal.reasons()["spool"] == "takes events" and is_drained())
    found = await ids_in(settings)
    assert set(found) == {"spooled", "first", "past-the-disk"}  # of the first it was never said that it would be lost


async def test_a_full_spool_refuses_calls_in_time_keeps_room_for_them_and_is_emptied(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "STATE_GRACE_S", 0.0)  # nobody builds a state here
    max_bytes = 200_000
    small = settings.model_copy(update={"spool_max_bytes": max_bytes})
    async with running(small, connected=False) as edge:
        for n in range(250):
            response = await edge.prefetch({"session_id": f"p-{n}"})
            assert (response.status, await response.json()) == (200, EMPTY)
        await until(lambda: metric("ringlog_events_waiting") == 0)
        assert max_bytes * 0.4 < (metric("ringlog_spool_bytes") or 0) <= max_bytes * 0.5
        assert (metric("ringlog_events_dropped_total", topic="calls.prefetch") or 0) > 0
        assert (await ready(edge))[0] == 200

        answers = [await edge.end(call(f"e-{n}", chat="x" * 3000)) for n in range(40)]
        accepted = [response for response in answers if response.status == 200]
        refused = [response for response in answers if response.status == 503]
        assert len(accepted) + len(refused) == 40
        assert len(accepted) > 20
        assert refused
        assert {response.headers["retry-after"] for response in refused} == {"2"}
        assert (await edge.prefetch({"session_id": "s"})).status == 200
        status, said = await ready(edge)
        assert (status, said["ready"], said["spool"]) == (503, False, "full (RINGLOG_SPOOL_MAX_BYTES)")
        assert metric("ringlog_spool_usable") == 0

        await apply(settings)
        await until(is_drained)
        assert (await edge.end(call("afterwards"))).status == 200
        assert (await ready(edge))[0] == 200
        ids = {(await response.json())["event_id"] for response in accepted}
    assert ids <= set(await ids_in(settings))


async def ready(edge: Edge) -> tuple[int, dict[str, object]]:
    response = await edge.ops("GET", "/health/ready")
    return response.status, await response.json()


async def test_on_a_full_disk_the_service_goes_on_with_kafka_and_the_spool_comes_back_by_itself(
    settings: Settings,
) -> None:
    errors = metric("ringlog_spool_errors_total", reason="SpoolFull") or 0
    with small_disk(8) as disk:
        on_disk = settings.model_copy(update={"data_dir": disk.path / "data"})
        async with journal_of(on_disk, connected=False) as journal:
            await journal.publish(entry("before"))
            disk.fill()
            with pytest.raises(NotDurable, match="no room"):
                while True:
                    await journal.publish(entry("fills", size=20_000))
            assert metric("ringlog_spool_errors_total", reason="SpoolFull") == errors + 1
            for _ in range(25):  # it is not ready again and again
                assert (journal.accepts, metric("ringlog_spool_usable")) == (False, 0)
                assert "no room" in journal.reasons()["spool"]
                await asyncio.sleep(0.1)
            await apply(settings)
            await until(is_drained)
            assert journal.accepts
            await journal.publish(entry("with-kafka"))
            disk.free()
            await until(lambda: journal.reasons()["spool"] == "takes events")
    assert {"before", "with-kafka"} <= set(await ids_in(settings))


async def test_on_a_read_only_disk_the_service_starts_and_takes_the_spool_when_it_may_write(
    settings: Settings, topics: tuple[str, ...], hanging: HangingDisk
) -> None:
    on_disk = settings.model_copy(update={"data_dir": hanging.path / "data"})
    (hanging.path / "data").mkdir()
    hanging.remount("ro")
    async with journal_of(on_disk) as journal:
        await until(lambda: "Read-only" in journal.reasons()["spool"])
        assert (journal.accepts, metric("ringlog_spool_usable")) == (True, 0)
        await journal.publish(entry("with-kafka"))
        hanging.remount("rw")
        await until(lambda: metric("ringlog_spool_usable") == 1)
    assert await ids_in(settings) == ["with-kafka"]


async def test_another_process_has_the_spool_until_it_ends(settings: Settings, topics: tuple[str, ...]) -> None:
    lock = SpoolLock(settings.spool_dir)
    async with journal_of(settings) as journal:
        await until(lambda: "each service needs a data directory of its own" in journal.reasons()["spool"])
        assert (journal.accepts, metric("ringlog_spool_usable")) == (True, 0)
        await journal.publish(entry("with-kafka"))
        await asyncio.sleep(1.5)
        assert "each service needs" in journal.reasons()["spool"]
        lock.release()
        await until(lambda: metric("ringlog_spool_usable") == 1)
    assert await ids_in(settings) == ["with-kafka"]


def damage(settings: Settings, nth: int) -> None:
    """One bit of the nth event that lies in the spool's file."""
    file = settings.spool_dir / DATA_FILE
    content = file.read_bytes()
    at = -1
    for _ in range(nth):
        at = content.index(MAGIC, at + 1)
    with file.open("r+b") as opened:
        opened.seek(at + 100)
        opened.write(bytes([content[at + 100] ^ 1]))


@pytest.mark.parametrize("when", ["stopped", "running"])
async def test_a_damaged_spool_is_set_aside_and_what_is_sound_is_published(settings: Settings, when: str) -> None:
    names = [f"{n}" for n in range(20)]
    async with journal_of(settings, connected=False) as journal:
        await asyncio.gather(*(journal.publish(entry(name, size=1000)) for name in names))
        if when == "running":
            damage(settings, 5)
            await apply(settings)
            await until(is_drained)
            await journal.publish(entry("afterwards"))
    if when == "stopped":
        damage(settings, 5)
        await apply(settings)
        async with journal_of(settings) as journal:
            await until(is_drained)
            await journal.publish(entry("afterwards"))
    aside = list(settings.spool_dir.parent.glob("spool.damaged-*"))
    assert len(aside) == 1
    assert (aside[0] / DATA_FILE).exists()
    found = await ids_in(settings)
    assert len(found) == 20  # all but the damaged one, and what came afterwards
    assert [name for name in found if name != "afterwards"] == [name for name in names if name in found]
