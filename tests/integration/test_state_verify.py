"""`ringlog state verify`: the store against a real log, and stores of which somebody has changed something."""

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import lmdb
import msgspec
import pytest
from aiokafka.admin import RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import TopicPartition

from runtime.settings import Settings
from schemas.topics import CALLERS_FACTS, CALLS_ENDED
from state.generations import Generations
from state.layout import ABOUT_KEY, About, seal, unseal
from state.profile import ProfileRow
from tests.building import (
    PARTITIONS,
    building,
    eventually,
    seen,
    send,
    some_events,
    with_admin,
)
from tests.edge import records_of
from tests.integration.state_command import Ended, end, start, state
from tests.integration.test_profiles import keep_sending
from tests.unit.state.events import fact, no_fact

pytestmark = pytest.mark.usefixtures("topics")

EVENTS = 300


async def built(settings: Settings, events: int = EVENTS) -> None:
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == events)


def change(settings: Settings, database: bytes, change: Callable[[Any], Any]) -> None:
    """As no builder would: `change` is given a cursor."""
    env = lmdb.open(str(Generations(settings.state_dir).serving()), max_dbs=4)
    with env.begin(write=True) as tx:
        change(tx.cursor(db=env.open_db(database, txn=tx, dupsort=database == b"calls", dupfixed=database == b"calls")))
    env.close()


def one_cent_more(cursor: Any) -> None:
    cursor.first()
    key, sealed = cursor.item()
    row = msgspec.msgpack.decode(unseal(key, sealed), type=ProfileRow)
    row.cost_micros += 10_000
    cursor.put(key, seal(key, msgspec.msgpack.encode(row)))


def flip_a_bit(cursor: Any) -> None:
    cursor.first()
    key, sealed = cursor.item()
    cursor.put(key, sealed[:-1] + bytes((sealed[-1] ^ 1,)))


def drop_one(cursor: Any) -> None:
    cursor.first()
    cursor.delete()


def add_one(cursor: Any) -> None:
    key = b"stranger"
    cursor.put(key, seal(key, msgspec.msgpack.encode(ProfileRow(calls=1))))


async def test_store_that_is_what_the_topics_say_is_verified_while_its_builder_goes_on(settings: Settings) -> None:
    await send(settings, *some_events(EVENTS, 1))
    sent: list[int] = []
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == EVENTS)
        sending = asyncio.create_task(keep_sending(settings, sent))
        verified = await state(settings, "verify", "--json")
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    assert (verified.code, verified.json["different"]) == (0, 0)
    assert verified.json["events"] == sum(verified.json["positions"].values()) >= EVENTS
    assert verified.json["rows"] > 100
    assert not list(settings.state_dir.glob("scratch-*"))


@pytest.mark.parametrize(
    ("database", "spoil", "what"),
    [
        (b"profiles", one_cent_more, "cost_micros"),
        (b"profiles", flip_a_bit, "damaged"),
        (b"profiles", add_one, "only the store say so"),
        (b"sessions", drop_one, "only the topics say so"),
        (b"calls", drop_one, "only the topics say so"),
    ],
)
async def test_what_differs_is_named(settings: Settings, database: bytes, spoil: Any, what: str) -> None:
    await send(settings, *some_events(EVENTS, 2))
    await built(settings)
    change(settings, database, spoil)
    said, as_json = await state(settings, "verify"), await state(settings, "verify", "--json")
    assert (said.code, as_json.code) == (1, 1)
    assert as_json.json["different"] == 1
    (difference,) = as_json.json["differences"]
    assert difference["database"] == database.decode()
    assert said.out.startswith(f"{database.decode()} {difference['key']}")
    assert what in said.out
    assert said.out.splitlines()[-1].startswith("1 of ")


async def test_store_of_a_beginning_that_is_gone_is_not_verified(settings: Settings) -> None:
    await send(settings, *some_events(EVENTS, 3))
    await built(settings)
    cut = {TopicPartition(CALLS_ENDED.named(settings.topic_prefix), 1): RecordsToDelete(5)}
    await with_admin(settings, lambda admin: admin.delete_records(cut))
    verified = await state(settings, "verify")
    assert verified.code == 3
    assert verified.said.startswith(
        "The state can't be verified: calls.ended/1 begins at 5: 5 events before it are gone"
    )


async def test_store_of_other_topics_is_not_verified(settings: Settings) -> None:
    await send(settings, *some_events(EVENTS, 4))
    await built(settings)
    about = seal(ABOUT_KEY, msgspec.msgpack.encode(About("elsewhere/", True, 2_000_000_000_000)))
    change(settings, b"meta", lambda cursor: cursor.put(ABOUT_KEY, about))
    verified = await state(settings, "verify")
    assert verified.code == 3
    assert "it was built from other topics (elsewhere/" in verified.said


async def test_facts_that_compaction_took_since_are_not_called_wrong(settings: Settings) -> None:
    """Of `tier` of ann and bob the topic has only what was written after the store had read it."""
    await with_admin(settings, lambda admin: admin.alter_configs([compacting_at_once(settings)]))
    await send(settings, fact("ann", "tier", "tin"), fact("ann", "vip", True), fact("bob", "tier", "tin"))
    await built(settings, 3)
    await send(settings, fact("ann", "tier", "gold"), no_fact("bob", "tier"))
    before = len(await records_of(settings, CALLERS_FACTS))
    await compacted(settings, before)
    verified = await state(settings, "verify", "--json")
    assert (verified.code, verified.json["different"]) == (0, 0), verified.out
    assert verified.json["newer_facts"] >= 2
    assert "facts were written again meanwhile" in (await state(settings, "verify")).out

    change(settings, b"profiles", _without_vip)
    verified = await state(settings, "verify", "--json")
    assert (verified.code, [it["key"] for it in verified.json["differences"]]) == (1, ["ann"])


def _without_vip(cursor: Any) -> None:
    key = b"ann"
    row = msgspec.msgpack.decode(unseal(key, cursor.get(key)), type=ProfileRow)
    row.set_fact("vip", None)
    cursor.put(key, seal(key, msgspec.msgpack.encode(row)))


def compacting_at_once(settings: Settings) -> ConfigResource:
    name = CALLERS_FACTS.named(settings.topic_prefix)
    said = CALLERS_FACTS.config(1) | {"segment.ms": "100", "min.cleanable.dirty.ratio": "0.01"}
    return ConfigResource(ConfigResourceType.TOPIC, name, configs=said)


async def compacted(settings: Settings, before: int) -> None:
    """The segment that is written to is not compacted: each round closes one."""
    for n in range(100):
        await asyncio.sleep(0.5)
        await send(settings, *(no_fact(f"nobody-{m}", f"fact-{n}") for m in range(PARTITIONS * 3)))
        keys = [record.key for record in await records_of(settings, CALLERS_FACTS)]
        if keys.count(b"ann/tier") == keys.count(b"bob/tier") == 1:
            return
    raise AssertionError(f"the topic was not compacted; it had {before} records")


async def test_verification_is_stopped_by_ctrl_c_and_leaves_nothing(settings: Settings) -> None:
    await send(settings, *some_events(EVENTS, 5))
    await built(settings)
    nowhere = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    away = await state(nowhere, "verify")
    assert (away.code, "Kafka can't be reached" in away.said) == (1, True)
    process = await start(settings, "verify")
    await eventually(lambda: bool(list(settings.state_dir.glob("scratch-*/live"))))
    process.send_signal(signal.SIGINT)
    stopped: Ended = await end(process)
    assert stopped.code in (130, 0)  # 0: it was through before
    assert not list(settings.state_dir.glob("scratch-*"))
