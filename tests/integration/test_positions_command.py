"""`ringlog positions` against a real broker and both databases, with a billing that runs and one that does not."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection

from consumers import letter_book
from consumers.billing import Billing
from consumers.database import migrate, open_engine
from consumers.letter_book import Letter
from consumers.publisher import Publisher
from consumers.runner import Runner
from runtime.settings import Settings
from tests.command import Command, publish
from tests.ended_calls import ended
from tests.integration.test_lag_command import Scene
from tests.tallying import until


class Diary(Billing):
    """Notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.handled: list[tuple[int, int]] = []

    def handle(self, tx: Connection, records: Any) -> None:
        self.handled += [(record.partition, record.offset) for record in records]
        super().handle(tx, records)


@pytest.fixture
def ringlog(settings: Settings, topics: object, database_url: str) -> Scene:
    """Four ended calls in partition 0, one in partition 1; billing has read all but the last of partition 0."""
    settings = settings.model_copy(update={"database_url": database_url})
    migrate(settings)
    scene = Scene(settings)
    records = [ended(f"s{number}", number, {}) for number in range(4)]
    asyncio.run(publish(settings, *records, replace(ended("t", 9, {}), partition=1)))
    scene.put("billing", calls_ended_0=3, calls_ended_1=1)
    return scene


def at(ringlog: Scene, consumer: str = "billing") -> list[int | None]:
    return [row["position"] for row in ringlog.json("positions", "show", consumer)["positions"]]


def test_positions_are_shown_beside_their_topics(ringlog: Scene) -> None:
    told = ringlog.json("positions", "show", "billing")
    names = ("topic", "partition", "position", "start", "end")
    topic = ringlog.settings.topic_prefix + "calls.ended"
    assert [tuple(row[name] for name in names) for row in told["positions"]] == [
        (topic, 0, 3, 0, 4),
        (topic, 1, 1, 0, 1),
    ]
    assert told["processes"] == 0
    assert "0 processes in the group." in ringlog("positions", "show", "billing").stdout
    assert "There is no position of nobody" in ringlog("positions", "show", "nobody", code=1).stderr


def test_going_back_says_what_comes_again(ringlog: Scene) -> None:
    said = ringlog("positions", "set", "billing", "calls.ended/0=1", "--yes").stdout
    assert "reads 2 again" in said and "1 position is moved." in said
    assert at(ringlog) == [1, 1]
    topic = ringlog.settings.topic_prefix + "calls.ended"
    assert ringlog.json("positions", "set", "billing", f"{topic}=beginning", "--yes")["moved"] == [
        {"topic": topic, "partition": 0, "before": 1, "after": 0, "again": 1, "skipped": 0},
        {"topic": topic, "partition": 1, "before": 1, "after": 0, "again": 1, "skipped": 0},
    ]


def test_going_back_reminds_of_dead_letters(ringlog: Scene) -> None:
    engine = open_engine(ringlog.settings)
    topic = ringlog.settings.topic_prefix + "calls.ended"
    with engine.begin() as tx:
        place = {"topic": topic, "partition": 0, "offset": 1, "letter_partition": 0, "letter_offset": 0}
        letter = Letter(**place, event_id="e", session_id="s1", error="KeyError", given_up_at=1)
        letter_book.enter(tx, "billing", letter)
    engine.dispose()
    said = ringlog("positions", "set", "billing", "calls.ended/0=1", "--yes").stderr
    assert "billing has 1 unsettled dead letter, which" in said
    assert "dead letter" not in ringlog("positions", "set", "billing", "calls.ended/0=3", "--yes", "--skip").stderr


def test_skipping_is_asked_for_by_its_name(ringlog: Scene) -> None:
    said = ringlog("positions", "set", "billing", "calls.ended=end", "--yes", code=2)
    assert "skips 1" in said.stdout and "billing would never read 1 events. Say --skip" in said.stderr
    assert at(ringlog) == [3, 1]
    assert "there is nobody to ask" in ringlog("positions", "set", "billing", "calls.ended/0=0", code=2).stderr
    ringlog("positions", "set", "billing", "calls.ended=end", "--yes", "--skip")
    assert at(ringlog) == [4, 1]


def test_one_without_a_position_would_begin_at_the_first_event(ringlog: Scene) -> None:
    said = ringlog("positions", "set", "transcripts", "calls.ended/0=2", "--yes", code=2)
    assert "skips 2" in said.stdout
    ringlog("positions", "set", "transcripts", "calls.ended/0=0", "--yes")
    assert at(ringlog, "transcripts") == [0, None]


def test_a_time_is_the_first_event_after_it(ringlog: Scene) -> None:
    ringlog("positions", "set", "billing", "calls.ended=2h", "--yes")
    assert at(ringlog) == [0, 0]
    ringlog("positions", "set", "billing", "calls.ended=2100-01-01", "--yes", "--skip")
    assert at(ringlog) == [4, 1]


NO_SENSE = (
    (("billing", "calls.ended/0=5"), 2, "has no offset 5: it begins at 0 and ends at 4"),
    (("billing", "calls.ended/7=0"), 2, "has no partition 7: it has 0 to 1"),
    (("billing", "calls.nothing/0=0"), 2, "it has billing.charges, callers.facts, calls.ended"),
    (("billing", "calls.ended=3"), 2, "names no partition"),
    (("billing", "calls.ended/0"), 2, "says no position"),
    (("billing", "calls.ended/x=0"), 2, "says no position"),
    (("billing", "calls.ended/0=soon"), 2, "'soon' is no time"),
    (("billing", "calls.ended/0=1", "calls.ended=end"), 2, "is wanted at two places"),
    (("billing", "calls.prefetch/0=0"), 2, "and not"),
    (("biling", "calls.ended/0=0"), 1, "There is no position of 'biling'"),
    (("profiles", "calls.ended/0=0"), 2, "lie in the state store"),
)


def test_what_makes_no_sense_moves_nothing(ringlog: Scene) -> None:
    for arguments, code, says in NO_SENSE:
        assert says in ringlog("positions", "set", *arguments, "--yes", "--skip", code=code).stderr
    assert at(ringlog) == [3, 1]


def test_a_new_consumer_may_be_given_its_first_positions(ringlog: Scene) -> None:
    ringlog("positions", "set", "crm", "calls.ended=end", "--yes", "--skip", "--new")
    assert at(ringlog, "crm") == [4, 1]


def test_positions_of_another_cluster_are_left_alone(ringlog: Scene) -> None:
    ringlog.put("crm", "another", calls_ended_0=1)
    said = ringlog("positions", "set", "crm", "calls.ended/0=0", "--yes", code=1).stderr
    assert "Nothing was moved: the database says that crm was at 1" in said


@contextmanager
def running(settings: Settings, consumer: Billing) -> Iterator[None]:
    """In a thread with a loop of its own: the command has the main one."""
    stop = threading.Event()

    async def main() -> None:
        stopping, publisher, engine = asyncio.Event(), Publisher(settings), open_engine(settings)
        task = asyncio.create_task(Runner(settings, consumer, engine, publisher).run(stopping))
        await until(stop.is_set, 60)
        stopping.set()
        await task
        await publisher.stop()
        engine.dispose()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


def test_a_consumer_that_runs_is_left_alone_unless_forced_and_then_reads_again(ringlog: Scene) -> None:
    diary = Diary()
    with running(ringlog.settings, diary):
        asyncio.run(until(lambda: diary.handled == [(0, 3)]))
        said = ringlog("positions", "set", "billing", "calls.ended/0=1", "--yes", code=1).stderr
        assert "billing runs (1 process): stop it first, or say --force." in said
        assert at(ringlog) == [4, 1]
        ringlog("positions", "set", "billing", "calls.ended/0=1", "--yes", "--force")
        assert at(ringlog) == [1, 1]
        asyncio.run(publish(ringlog.settings, ended("s9", 9, {})))
        asyncio.run(until(lambda: diary.handled[-1] == (0, 4) and (0, 1) in diary.handled))
    assert at(ringlog) == [5, 1]


def test_without_a_database_it_says_so(settings: Settings) -> None:
    assert "There is no database" in Command(settings)("positions", "show", "billing", code=1).stderr
