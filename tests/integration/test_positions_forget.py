"""`ringlog positions forget` against a real broker and both databases: what goes, what stays, and what is refused."""

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, func, select

from cli import position_forget
from consumers import letter_book, outbox
from consumers.database import migrate, open_engine
from consumers.letter_book import Letter, Outcome
from consumers.outbox import OutboxEvent
from consumers.revisions import Revision, record
from consumers.tables import dead_letters, positions, revisions, sessions
from runtime.settings import Settings
from schemas.topics import BILLING_CHARGES
from tests.command import publish
from tests.ended_calls import ended
from tests.integration.test_lag_command import Scene
from tests.integration.test_positions_command import Diary, at, running
from tests.tallying import until


class Crm(Diary):
    """One of somebody's own, which does all that ours do."""

    name = "crm"


@pytest.fixture
def ringlog(settings: Settings, topics: object, database_url: str) -> Scene:
    """Three ended calls. crm, of somebody's own, has read two of them, and so has billing."""
    settings = settings.model_copy(update={"database_url": database_url})
    migrate(settings)
    scene = Scene(settings)
    asyncio.run(publish(settings, *(ended(f"s{number}", number, {}) for number in range(3))))
    for consumer in ("crm", "billing"):
        scene.put(consumer, calls_ended_0=2)
    return scene


@pytest.fixture
def engine(ringlog: Scene) -> Iterator[Engine]:
    """Of the same database, with two sessions of each consumer."""
    engine = open_engine(ringlog.settings)
    with engine.begin() as tx:
        for consumer in ("crm", "billing"):
            record(tx, consumer, {name: [Revision("e", 1, b""), Revision("f", 2, b"")] for name in ("s0", "s1")})
    yield engine
    engine.dispose()


def give_up(ringlog: Scene, engine: Engine, consumer: str, outcome: Outcome | None = None) -> None:
    topic = ringlog.settings.topic_prefix + "calls.ended"
    place = {"topic": topic, "partition": 0, "offset": 1, "letter_partition": 0, "letter_offset": 0}
    letter = Letter(**place, event_id="e", session_id="s1", error="KeyError", given_up_at=1)
    with engine.begin() as tx:
        letter_book.enter(tx, consumer, letter)
        if outcome:
            letter_book.settle(tx, consumer, letter, outcome, 2)


def rows(engine: Engine, consumer: str) -> list[int]:
    with engine.connect() as tx:
        return [
            tx.execute(select(func.count()).select_from(table).where(table.c.consumer == consumer)).scalar_one()
            for table in (positions, sessions, revisions, dead_letters)
        ]


def test_one_that_was_given_up_leaves_nothing_and_takes_nothing_of_others(ringlog: Scene, engine: Engine) -> None:
    for consumer in ("crm", "billing"):
        give_up(ringlog, engine, consumer, "discarded")
    assert "crm" in ringlog.lag()
    said = ringlog("positions", "forget", "crm", "--yes").stdout
    assert "Of crm, 1 position, 2 sessions, 4 revisions, 1 dead letter are removed." in said
    assert "crm is forgotten." in said
    assert "crm" not in ringlog.lag()
    assert (rows(engine, "crm"), rows(engine, "billing")) == ([0, 0, 0, 0], [1, 2, 4, 1])
    assert "There is nothing of 'crm'" in ringlog("positions", "forget", "crm", "--yes", code=1).stderr


def test_it_says_to_programs_what_went(ringlog: Scene, engine: Engine) -> None:
    assert ringlog.json("positions", "forget", "crm", "--yes") == {
        "consumer": "crm",
        "forgotten": {"positions": 1, "sessions": 2, "revisions": 4, "dead_letters": 0},
    }


def test_nothing_is_forgotten_when_nobody_can_be_asked(ringlog: Scene, engine: Engine) -> None:
    assert "there is nobody to ask" in ringlog("positions", "forget", "crm", code=2).stderr
    assert "there is nobody to ask" in ringlog("positions", "forget", "crm", "--json", code=2).stderr
    assert rows(engine, "crm") == [1, 2, 4, 0]


def test_ours_are_not_forgotten(ringlog: Scene, engine: Engine) -> None:
    for ours in ("billing", "transcripts", "recordings", "calls", "profiles"):
        said = ringlog("positions", "forget", ours, "--yes", "--force", code=2).stderr
        assert said.startswith(f"{ours} is ringlog's own and is not forgotten")
    assert rows(engine, "billing") == [1, 2, 4, 0]


def test_what_nobody_has_settled_is_settled_first(ringlog: Scene, engine: Engine) -> None:
    give_up(ringlog, engine, "crm")
    said = ringlog("positions", "forget", "crm", "--yes", "--force", code=1).stderr
    assert "crm has 1 unsettled dead letter: forgotten with it, nobody would know" in said
    assert rows(engine, "crm") == [1, 2, 4, 1]
    ringlog("dead-letters", "discard", "crm", "--all", "--yes")
    ringlog("positions", "forget", "crm", "--yes")
    assert rows(engine, "crm") == [0, 0, 0, 0]


def test_what_waits_to_be_told_is_told_first(ringlog: Scene, engine: Engine) -> None:
    about = {"caller_id": "c", "event_type": "t", "event_id": "e", "session_id": "s0"}
    with engine.begin() as tx:
        outbox.post(tx, "crm", [OutboxEvent(topic=BILLING_CHARGES, time=1, value=b"{}", **about)])
    said = ringlog("positions", "forget", "crm", "--yes", "--force", code=1).stderr
    assert "crm has 1 derived event waiting to be published" in said
    assert (outbox.waiting(engine, "crm"), rows(engine, "crm")) == (1, [1, 2, 4, 0])


def test_one_of_another_cluster_is_forgotten_too(ringlog: Scene) -> None:
    ringlog.put("old", "another", calls_ended_0=7)
    ringlog("positions", "forget", "old", "--yes")
    assert "old" not in ringlog.lag()


def test_force_needs_no_kafka(ringlog: Scene, engine: Engine) -> None:
    away = ringlog.settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:9"})
    here, ringlog.settings = ringlog.settings, away
    assert "Kafka" in ringlog("positions", "forget", "crm", "--yes", code=1).stderr
    ringlog("positions", "forget", "crm", "--yes", "--force")
    ringlog.settings = here
    assert rows(engine, "crm") == [0, 0, 0, 0]


def test_one_that_reads_on_meanwhile_is_not_forgotten(
    ringlog: Scene, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(position_forget, "_agree", lambda *_, **__: ringlog.put("crm", calls_ended_0=3))
    said = ringlog("positions", "forget", "crm", "--yes", code=1).stderr
    assert "Nothing was forgotten: crm has read on meanwhile" in said
    assert rows(engine, "crm") == [1, 2, 4, 0]


def test_one_that_runs_is_left_alone_unless_forced_and_then_begins_anew(ringlog: Scene) -> None:
    crm = Crm()
    with running(ringlog.settings, crm):
        asyncio.run(until(lambda: crm.handled == [(0, 2)]))
        said = ringlog("positions", "forget", "crm", "--yes", code=1).stderr
        assert "crm runs (1 process), and would begin at the first event again: stop it first" in said
        assert at(ringlog, "crm") == [3, None]
        ringlog("positions", "forget", "crm", "--yes", "--force")
        asyncio.run(publish(ringlog.settings, ended("s9", 9, {})))
        asyncio.run(until(lambda: (0, 0) in crm.handled and crm.handled[-1] == (0, 3)))
    assert at(ringlog, "crm") == [4, None]
