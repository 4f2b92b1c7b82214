"""`ringlog lag` against a real broker and both databases: who is behind, by how much, and since when."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from datetime import datetime
from typing import Any

import pytest
from msgspec.structs import replace

from consumers.database import migrate, open_engine
from consumers.positions import put
from runtime.cluster import connected
from runtime.settings import Settings
from state.generations import Generations
from state.slices import Slice
from state.store import ProfileStore
from tests.command import Command, environment, publish
from tests.ended_calls import ended, prefetched
from tests.integration.test_serve_command import ROOT

OURS = ["billing", "calls", "recordings", "transcripts"]


class Scene(Command):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.cluster_id = asyncio.run(self._cluster_id())

    async def _cluster_id(self) -> str:
        async with connected(self.settings) as cluster:
            return await cluster.id()

    def put(self, consumer: str, cluster: str = "", **offsets: int) -> None:
        """`calls_ended_0=3` is the position in partition 0 of calls.ended."""
        engine = open_engine(self.settings)
        targets = {}
        for name, offset in offsets.items():
            topic, _, partition = name.replace("_", ".", 1).rpartition("_")
            targets[self.settings.topic_prefix + topic, int(partition)] = offset
        with engine.begin() as tx:
            put(tx, consumer, cluster or self.cluster_id, targets)
        engine.dispose()

    def lag(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        return {it["consumer"]: it for it in self.json("lag", *arguments, code=code)}


@pytest.fixture
def ringlog(settings: Settings, topics: object, database_url: str) -> Scene:
    """Three ended calls in partition 0 and one in partition 1, announced before."""
    settings = settings.model_copy(update={"database_url": database_url})
    migrate(settings)
    scene = Scene(settings)
    records = [prefetched("s", 1), *(ended(f"s{number}", number, {}) for number in range(3))]
    asyncio.run(publish(settings, *records, replace(ended("t", 9, {}), partition=1)))
    return scene


def rows(told: dict[str, Any]) -> list[tuple[Any, ...]]:
    names = ("partition", "position", "start", "end", "lag", "trouble")
    return [tuple(row[name] for name in names) for row in told["partitions"]]


def test_whoever_has_not_read_yet_has_everything_before_it(ringlog: Scene) -> None:
    before = time.time()
    told = ringlog.lag()
    assert sorted(told) == OURS
    assert (told["billing"]["lag"], told["calls"]["lag"]) == (4, 5)
    assert rows(told["billing"]) == [(0, None, 0, 3, 3, "has not read yet"), (1, None, 0, 1, 1, "has not read yet")]
    # A partition in which nothing is has no position, and that is no trouble.
    assert [row[-1] for row in rows(told["calls"]) if row[-2] == 0] == [None]
    oldest = datetime.fromisoformat(told["billing"]["oldest_unread_at"]).timestamp()
    assert before - 60 < oldest < time.time()


def test_what_is_unread_begins_at_the_position(ringlog: Scene) -> None:
    ringlog.put("billing", calls_ended_0=2, calls_ended_1=1)
    told = ringlog.lag("billing")
    assert list(told) == ["billing"] and told["billing"]["lag"] == 1
    assert rows(told["billing"]) == [(0, 2, 0, 3, 1, None), (1, 1, 0, 1, 0, None)]
    first, second = told["billing"]["partitions"]
    assert second["oldest_unread_at"] is None
    whole = ringlog.lag("transcripts")["transcripts"]["partitions"][0]["oldest_unread_at"]
    assert whole <= first["oldest_unread_at"] == told["billing"]["oldest_unread_at"]


def test_a_consumer_of_ones_own_is_there_with_all_partitions_of_what_it_reads(ringlog: Scene) -> None:
    ringlog.put("crm", calls_ended_1=1)
    assert rows(ringlog.lag()["crm"]) == [(0, None, 0, 3, 3, "has not read yet"), (1, 1, 0, 1, 0, None)]
    said = ringlog("lag", "crm", "--partitions").stdout
    assert "calls.ended/0" in said and "has not read yet" in said
    assert "crm" in (said := ringlog("lag")).stdout
    assert said.stderr == "", "its client is stopped in time"


def test_the_exit_code_is_for_scripts(ringlog: Scene) -> None:
    ringlog.put("billing", calls_ended_0=1, calls_ended_1=1)
    ringlog("lag", "billing", "--fail-above", "2")
    ringlog("lag", "billing", "--fail-above", "1", code=1)
    ringlog("lag", "--fail-above", "2", code=1)
    said = ringlog("lag", "nobody", code=1)
    assert said.stdout == "" and "There is no position of nobody" in said.stderr


def test_a_position_that_belongs_to_another_history_has_no_lag_and_is_never_fine(ringlog: Scene) -> None:
    ringlog.put("billing", calls_ended_0=9, calls_ended_1=1)
    ringlog.put("crm", "another", calls_ended_0=1)
    told = ringlog.lag("billing", "crm", "--fail-above", "1000", code=1)
    assert told["billing"]["lag"] is None
    assert rows(told["billing"])[0] == (0, 9, 0, 3, None, "the topic ends before it")
    assert rows(told["crm"])[0] == (0, 1, None, None, None, "of another Kafka cluster")
    assert "?" in ringlog("lag", "billing").stdout


def test_the_builder_of_this_machine_is_there_when_its_store_is(ringlog: Scene) -> None:
    generations = Generations(ringlog.settings.state_dir)
    store = ProfileStore(path := generations.begin())
    store.fold([Slice("calls.ended", 0, 1, ()), Slice("calls.ended", 1, 1, ())])
    store.close()
    generations.swap(path)
    assert rows(ringlog.lag()["profiles"]) == [(0, 1, 0, 3, 2, None), (1, 1, 0, 1, 0, None)]


def test_watching_measures_again_until_it_is_interrupted(ringlog: Scene) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "lag", "billing", "--watch", "--json"],
        env={**environment(ringlog.settings), "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())[0]["lag"] == 4
    ringlog.put("billing", calls_ended_0=3, calls_ended_1=1)
    while json.loads(process.stdout.readline())[0]["lag"]:
        pass
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def test_without_a_database_it_says_so(settings: Settings) -> None:
    assert "There is no database" in Command(settings)("lag", code=1).stderr
