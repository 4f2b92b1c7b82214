"""`ringlog state dump | hash | inspect` beside a running builder."""

import hashlib
import json

import pytest

from runtime.settings import Settings
from tests.building import building, dump_of, eventually, seen, send, some_events
from tests.integration.state_command import state
from tests.unit.state.events import ended, ended_raw, fact, prefetched

NUMBER = "+15551234567"

pytestmark = pytest.mark.usefixtures("topics")


async def test_dump_and_hash_read_a_store_that_is_being_built(settings: Settings) -> None:
    await send(settings, *some_events(200, 1))
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == 200)
        dump, hashed = await state(settings, "dump"), await state(settings, "hash", "--json")
        plain = await state(settings, "hash")
        await send(settings, *some_events(50, 2))
        await eventually(lambda: seen(builder) == 250)
        later = await state(settings, "hash", "--json")
    lines = [json.loads(line) for line in dump.out.splitlines()]
    databases = [line["database"] for line in lines]
    assert databases == sorted(databases, key=["profiles", "sessions", "calls", "meta"].index)
    assert len(dump_of(settings)) >= len(lines) > 100
    assert hashed.json["sha256"] == hashlib.sha256(dump.out.encode()).hexdigest()
    assert hashed.json["rows"]["profiles"] == databases.count("profiles")
    assert sum(hashed.json["positions"].values()) == 200
    assert plain.out.splitlines()[0] == hashed.json["sha256"]
    assert "calls.ended " in plain.out
    assert later.json["sha256"] != hashed.json["sha256"]
    assert sum(later.json["positions"].values()) == 250
    assert not list(settings.state_dir.glob("scratch-*"))


async def test_inspect_shows_all_that_is_known_of_a_number(settings: Settings) -> None:
    caller = settings.identity().id_of_number(NUMBER)
    cost = [{"credit": "0.0043"}]
    await send(
        settings,
        prefetched("s1", caller, 1_000_000),
        ended_raw("s1", caller, b'{"duration":1}', 5_000_000, recovered=True),
        ended("s1", caller, 2_000_000, ts=100.5, duration=61.5, call_status="user-ended", cost_breakdown=cost),
        ended("s2", caller, 3_000_000, ts=99, metadata={"plan": "x\x1b[2J"}),
        fact(caller, "tier", "gold"),
        ended("s3", "somebody else", 4_000_000),
    )
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == 6)
        said = (await state(settings, "inspect", NUMBER, "--json")).json
        by_id = (await state(settings, "inspect", caller, "--json")).json
        text = (await state(settings, "inspect", NUMBER)).out
        nobody = await state(settings, "inspect", "+15557654321")
        no_key = await state(settings, "inspect", caller, IDENTITY_KEY="")
    assert said == by_id
    assert said["caller"] == caller
    profile = said["profile"]
    assert (profile["facts"], profile["calls"], profile["cost_micros"]) == ({"tier": "gold"}, 2, 4300)
    assert [call["at"] for call in said["calls"]] == [99_000_000, 100_500_000]
    assert [revision["recovered"] for revision in said["calls"][1]["revisions"]] == [True, False]
    assert said["calls"][1]["prefetch"]["received_at"] == 1_000_000
    assert sum(said["store"]["positions"].values()) == 6
    assert said["store"]["caught_up"]
    assert said["store"]["lineage"].endswith(f"/{settings.topic_prefix}")
    assert 'fact tier = "gold"' in text
    assert "2 calls, 61.5 s, 0.0043 credits, 1 of unknown cost; 1 announced" in text
    assert "Call 1970-01-01T00:01:40.500000Z: user-ended, 61.5 s, 0.0043 credits, agent agent-1" in text
    assert "\x1b" not in text
    assert NUMBER not in text
    assert (nobody.code, nobody.said) == (1, "Nothing is known of this caller.\n")
    assert no_key.code == 0


async def test_without_a_store_each_says_so_in_a_sentence(settings: Settings) -> None:
    for arguments in (["dump"], ["hash"], ["inspect", NUMBER], ["verify"]):
        ended_ = await state(settings, *arguments)
        assert ended_.code == 1
        assert ended_.said.startswith("There is no state store in ")
        assert ended_.said.count("\n") == 1
