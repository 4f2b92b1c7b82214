"""A builder without a store starts from a snapshot: with what came since it is what the topics say, to the byte."""

import asyncio
import contextlib
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from consumers.profiles import ProfileBuilder
from consumers.snapshots.manifest import decoded, encoded
from runtime.clock import system_clock
from runtime.settings import Settings
from runtime.topics import apply
from schemas.topics import CALLERS_FACTS
from state.generations import FROM_SNAPSHOT, Generations
from state.view import copy_store
from tests.building import (
    building,
    dump_of,
    eventually,
    folded_afresh,
    forget,
    seen,
    send,
    served,
    some_events,
    with_admin,
)
from tests.integration.state_command import state
from tests.integration.test_profiles import keep_sending
from tests.snapshots import EVENTS, bit_flipped, built, files_of, folded, lose_the_store, snapshot_of
from tests.unit.state.events import fact

pytestmark = pytest.mark.usefixtures("topics")


async def test_snapshot_and_tail_are_the_topics_to_the_byte(settings: Settings, tmp_path: Path) -> None:
    """Taken while the builder writes."""
    await send(settings, *some_events(EVENTS, 1))
    sent: list[int] = []
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == EVENTS)
        sending = asyncio.create_task(keep_sending(settings, sent))
        await eventually(lambda: len(sent) > 0)
        made = await state(settings, "snapshot", "--json")
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending
    assert made.code == 0
    lose_the_store(settings)
    await send(settings, *some_events(50, 13))
    total = EVENTS + sum(sent) + 50
    already = sum(made.json["snapshot"]["positions"].values())
    assert 0 < already < total
    assert await built(settings, total) == total - already
    assert dump_of(settings) == await folded_afresh(settings, tmp_path / "afresh")
    assert (served(settings) / FROM_SNAPSHOT).read_text().strip() == made.json["snapshot"]["name"]
    assert (await state(settings, "verify")).code == 0
    hashed = (await state(settings, "hash", "--json")).json
    assert sum(hashed["positions"].values()) == total


async def test_without_a_snapshot_of_use_the_topics_are_read(settings: Settings, tmp_path: Path) -> None:
    await send(settings, *some_events(EVENTS, 4))
    await built(settings, EVENTS)
    bit_flipped(settings, await snapshot_of(settings))
    lose_the_store(settings)
    assert await built(settings, EVENTS) == EVENTS
    assert not (served(settings) / FROM_SNAPSHOT).exists()
    assert dump_of(settings) == await folded_afresh(settings, tmp_path / "afresh")


async def test_snapshot_from_before_deletions_that_may_be_forgotten_is_gone_past(settings: Settings) -> None:
    await send(settings, fact("ann", "tier", "gold"))
    await built(settings, 1)
    await snapshot_of(settings)
    lose_the_store(settings)
    before, stop = folded(), asyncio.Event()
    builder = ProfileBuilder(settings, lambda: system_clock() + 30 * 86_400_000_000)
    running = asyncio.create_task(builder.run(stop))
    await eventually(lambda: seen(builder) == 1)
    stop.set()
    await running
    assert folded() - before == 1


async def test_snapshot_keeps_what_retention_took_since(settings: Settings) -> None:
    await send(settings, *some_events(EVENTS, 5))
    await built(settings, EVENTS)
    before = dump_of(settings)
    await snapshot_of(settings)
    lose_the_store(settings)
    await forget(settings, 0)
    assert await built(settings, EVENTS) == 0
    assert dump_of(settings) == before


async def test_snapshot_of_which_retention_took_the_tail_is_gone_past(settings: Settings, tmp_path: Path) -> None:
    await send(settings, *some_events(EVENTS, 6))
    await built(settings, EVENTS)
    await snapshot_of(settings)
    lose_the_store(settings)
    await send(settings, *some_events(EVENTS, 7))
    await forget(settings, 5)
    await built(settings, 2 * EVENTS)
    assert not (served(settings) / FROM_SNAPSHOT).exists()
    assert dump_of(settings) == await folded_afresh(settings, tmp_path / "afresh")


async def test_topics_that_were_made_anew_are_not_continued_from_a_snapshot(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.follower.END_RETRY_S", 0.05)
    await send(settings, *some_events(EVENTS, 8))
    await built(settings, EVENTS)
    await snapshot_of(settings)
    lose_the_store(settings)
    name = CALLERS_FACTS.named(settings.topic_prefix)
    await with_admin(settings, lambda admin: admin.delete_topics([name]))
    for _ in range(100):  # until the broker has let it go
        await asyncio.sleep(0.1)
        with contextlib.suppress(ConnectionError):
            if name in (await apply(settings)).created:
                break
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) > 0)
    assert not (served(settings) / FROM_SNAPSHOT).exists()


async def test_rebuild_is_from_the_topics_whatever_snapshots_there_are(settings: Settings) -> None:
    await send(settings, *some_events(EVENTS, 9))
    await built(settings, EVENTS)
    snapshot = await snapshot_of(settings)
    begun = Generations(settings.state_dir).begin()  # as by a builder that was killed before it had caught up
    copy_store(served(settings), begun, settings.state_room)
    (begun / FROM_SNAPSHOT).write_text(snapshot.name)
    rebuilt = await state(settings, "rebuild", "--json")
    assert rebuilt.code == 0, rebuilt.said
    assert (rebuilt.json["events"], rebuilt.json["resumed"]) == (EVENTS, False)


async def test_storage_that_is_away_costs_a_moment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    _credentials(monkeypatch, "http://127.0.0.1:1")
    away = settings.model_copy(update={"snapshots_url": "s3://bucket/prefix"})
    await send(settings, *some_events(EVENTS, 10))
    assert await built(away, EVENTS) == EVENTS


async def test_storage_that_hangs_is_waited_for_so_long_and_no_longer(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    _credentials(monkeypatch, f"http://127.0.0.1:{port}")
    hanging = settings.model_copy(update={"snapshots_url": "s3://bucket/prefix"})
    await send(settings, *some_events(EVENTS, 11))
    async with building(hanging) as builder:  # stopped while it waits
        await eventually(lambda: "building" in builder.health().reasons["store"])
        await asyncio.sleep(1.0)
        assert seen(builder) == -1
        started = time.monotonic()
    assert time.monotonic() - started < 10
    assert Generations(settings.state_dir).unfinished() is None  # the next start looks for snapshots again
    monkeypatch.setattr("consumers.snapshots.storage.PATIENCE_S", 1.0)
    assert await built(hanging, EVENTS) == EVENTS
    server.close()


def _credentials(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    for name, value in {
        "ACCESS_KEY_ID": "key",
        "SECRET_ACCESS_KEY": "secret",
        "ENDPOINT_URL": endpoint,
        "ALLOW_HTTP": "true",
        "REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)


async def test_command_makes_lists_and_removes(settings: Settings) -> None:
    none = await state(settings, "snapshots")
    assert (none.code, none.said) == (0, "There are no snapshots: `ringlog state snapshot` makes one.\n")
    no_store = await state(settings, "snapshot")
    assert (no_store.code, "There is no state store" in no_store.said) == (1, True)
    await send(settings, *some_events(EVENTS, 12))
    await built(settings, EVENTS)
    first = (await state(settings, "snapshot", "--json")).json["snapshot"]["name"]
    await asyncio.sleep(1.0)
    second = await state(settings, "snapshot", SNAPSHOTS_KEEP="1")
    assert second.out.startswith("Snapshot ")
    assert second.out.splitlines()[1] == f"Removed: {first}."
    (listed,) = (await state(settings, "snapshots", "--json")).json
    assert listed["name"] in second.out
    assert listed["unusable"] is None
    assert sum(listed["snapshot"]["positions"].values()) == EVENTS
    manifest, _ = files_of(settings, listed["name"])
    manifest.write_bytes(encoded(replace(decoded(listed["name"], manifest.read_bytes()), fold_version=1)))
    assert "fold version 1" in (await state(settings, "snapshots")).out
    manifest.write_bytes(b"{")
    assert "its manifest can't be read" in (await state(settings, "snapshots")).out
    wrong = await state(settings, "snapshot", SNAPSHOTS_URL="nonsense://x")
    assert (wrong.code, wrong.said.startswith("RINGLOG_SNAPSHOTS_URL is wrong")) == (2, True)
