"""`ringlog tail` against a real broker: any topic, whatever lies in it."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from msgspec.structs import replace

from runtime.kafka import connection, start_within, stop_within
from runtime.settings import Settings
from schemas.caller import Caller
from schemas.event import Record
from tests.command import Command, environment, publish
from tests.ended_calls import ended, prefetched
from tests.integration.test_serve_command import ROOT

NUMBER = "+15551234567"


@pytest.fixture
def ringlog(settings: Settings, topics: object) -> Command:
    return Command(settings)


def put(ringlog: Command, *records: Record) -> None:
    asyncio.run(publish(ringlog.settings, *records))


def lines(ringlog: Command, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ringlog("tail", *arguments, "--json").stdout.splitlines()]


def places(told: Sequence[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(it["partition"], it["offset"]) for it in told]


def test_the_last_of_all_partitions_in_the_order_of_the_brokers_time(ringlog: Command) -> None:
    for number in range(12):
        put(ringlog, replace(ended(f"s{number}", number, {}), partition=number % 3 // 2))
    told = lines(ringlog, "calls.ended")
    assert len(told) == 10
    assert [it["value"]["session_id"] for it in told] == [f"s{number}" for number in range(2, 12)]
    assert places(lines(ringlog, "calls.ended", "-n", "3")) == [(0, 6), (0, 7), (1, 3)]
    assert len(lines(ringlog, "calls.ended", "--from", "beginning")) == 12
    assert len(lines(ringlog, "calls.ended", "--from", "1h")) == 12
    assert lines(ringlog, "calls.ended", "--from", "2100-01-01") == []
    assert lines(ringlog, "calls.ended", "--from", "end") == lines(ringlog, "calls.ended", "-n", "0") == []
    # By its full name, too, and for people.
    name = ringlog.settings.topic_prefix + "calls.ended"
    assert "session s11  agent -agent" in ringlog("tail", name, "-n", "1").stdout


def test_the_last_that_match_are_found_far_from_the_end(ringlog: Command) -> None:
    settings = ringlog.settings
    ann = Caller(settings.identity().id_of_number(NUMBER), "phone", NUMBER)
    wanted = [ended("-a", 1, {}, caller=ann, agent_id="x"), ended("-a", 2, {"v": 2}), ended("b", 3, {}, caller=ann)]
    put(ringlog, *wanted, *(ended(f"s{number}", number, {}) for number in range(150)))
    assert places(lines(ringlog, "calls.ended", "--session=-a")) == [(0, 0), (0, 1)]
    assert places(lines(ringlog, "calls.ended", "--session=-a", "-n", "1")) == [(0, 1)]
    assert places(lines(ringlog, "calls.ended", "--caller", NUMBER)) == [(0, 0), (0, 2)]
    assert places(lines(ringlog, "calls.ended", "--caller", ann.id, "--agent", "x")) == [(0, 0)]
    assert len(lines(ringlog, "calls.ended", "--agent=-agent", "--from", "beginning")) == 152
    assert NUMBER not in ringlog("tail", "calls.ended", "--session=-a").stdout
    assert NUMBER in ringlog("tail", "calls.ended", "--session=-a", "--body").stdout
    assert "--caller is wrong" in ringlog("tail", "calls.ended", "--caller", "ann", code=2).stderr


def test_whatever_lies_in_a_topic_is_shown(ringlog: Command) -> None:
    good = ended("s", 1, {})
    put(ringlog, replace(good, value=b"\xff{"), replace(good, value=None), replace(good, key=None, headers=()), good)
    said = ringlog("tail", "calls.ended").stdout.splitlines()
    assert len(said) == 4 and "unreadable, 2 bytes" in said[0] and "deleted" in said[1]
    told = lines(ringlog, "calls.ended")
    assert [it.get("unreadable") is not None for it in told] == [True, False, False, False]
    assert told[0]["base64"] == "/3s=" and told[1]["value"] is None


def test_dead_letters_say_why_and_of_what(ringlog: Command) -> None:
    reason = {"error": "KeyError", "topic": "calls.ended", "partition": "1", "offset": "7"}
    headers = [(f"dead_letter_{name}", text.encode()) for name, text in reason.items()]
    letter = ended("s", 1, {})
    put(ringlog, replace(letter, topic="dead-letters.billing", headers=[*letter.headers, *headers]))
    assert "session s" in (said := ringlog("tail", "dead-letters.billing").stdout)
    assert "KeyError, event at calls.ended/1/7" in said


def test_what_was_never_committed_is_not_there(ringlog: Command) -> None:
    async def abort() -> None:
        options = connection(ringlog.settings) | {"transactional_id": ringlog.settings.topic_prefix}
        producer = AIOKafkaProducer(**options)
        await start_within(producer)
        await producer.begin_transaction()
        await publish(ringlog.settings, ended("aborted", 1, {}), producer=producer)
        await producer.abort_transaction()
        async with producer.transaction():
            await publish(ringlog.settings, ended("committed", 1, {}), producer=producer)
        await stop_within(producer)

    asyncio.run(abort())
    assert [it["value"]["session_id"] for it in lines(ringlog, "calls.ended")] == ["committed"]
    assert places(lines(ringlog, "calls.ended", "-n", "1")) == [(0, 2)]


def test_what_comes_is_followed_until_it_is_interrupted(ringlog: Command) -> None:
    put(ringlog, prefetched("s1", 1))
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "tail", "calls.prefetch", "-f", "--json"],
        env={**environment(ringlog.settings), "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for number in (1, 2, 3):
        assert json.loads(process.stdout.readline())["value"]["session_id"] == f"s{number}"
        put(ringlog, replace(prefetched(f"s{number + 1}", 1), partition=number % 2))
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def test_an_unknown_topic_is_answered_with_the_known_ones(ringlog: Command) -> None:
    said = ringlog("tail", "calls.end", code=2)
    assert said.stdout == "" and "it has billing.charges, callers.facts, calls.ended, calls.prefetch" in said.stderr
    assert "--from is wrong" in ringlog("tail", "calls.ended", "--from", "soon", code=2).stderr
