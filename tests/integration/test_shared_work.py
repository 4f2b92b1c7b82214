"""Two processes of each consumer share the work on PostgreSQL, and one goes on when the other is gone."""

import asyncio
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, select

from consumers.database import migrate, open_engine, read_only
from consumers.tables import (
    billing_entries,
    recordings,
    revisions,
    transcript_function_calls,
    transcript_turns,
    transcripts,
)
from runtime.settings import Settings
from schemas.topics import CALLS_ENDED
from tests.faults.bad_sounds import bad_sounds
from tests.faults.books_scene import PARTITIONS, BooksScene, books_settings, prepare, until
from tests.faults.consumer_process import ConsumerProcess, consuming, kill_all
from tests.faults.history import History
from tests.faults.saboteur import Sabotage

NAMES = ("billing", "transcripts", "recordings")
CALLS = 60

# Kafka's shortest session, and a lease of seconds: how long a killed process is waited for. The rest is the product's.
QUICK = Sabotage(session_timeout_ms=6000, lease_s=2.0, retry_s=0.2)

# What follows from the events alone. Of a recording that is not when, and at which try, it was fetched.
STORED = tuple(recordings.c[name] for name in "session_id status url event_id agent_id object bytes sha256".split())
BOOKS: dict[Table, Sequence[Any]] = {
    revisions: revisions.c,
    billing_entries: billing_entries.c,
    transcripts: transcripts.c,
    transcript_turns: transcript_turns.c,
    transcript_function_calls: transcript_function_calls.c,
    recordings: STORED,
}


def books(settings: Settings) -> dict[str, list[tuple[Any, ...]]]:
    engine = read_only(open_engine(settings))
    with engine.connect() as tx:
        said = {
            table.name: [tuple(row) for row in tx.execute(select(*columns).order_by(*table.primary_key))]
            for table, columns in BOOKS.items()
        }
    engine.dispose()
    return said


def partitions_of(processes: Iterable[ConsumerProcess]) -> list[list[str]]:
    return [process.health().get("partitions") or [] for process in processes]


def shared(settings: Settings, pair: Sequence[ConsumerProcess]) -> bool:
    """Whether both of a consumer's processes have partitions, and each partition has one of them."""
    topic = CALLS_ENDED.named(settings.topic_prefix)
    one, other = partitions_of(pair)
    return bool(one and other) and sorted(one + other) == [f"{topic}/{number}" for number in range(PARTITIONS)]


def counts(pair: Sequence[ConsumerProcess]) -> tuple[int, int, int]:
    """Events that each has had the effects of, and together."""
    one, other = (process.consumed() for process in pair)
    return one, other, one + other


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
async def test_two_processes_share_the_work_and_one_takes_it_over(
    kafka: str, new_database: Callable[[], str], tmp_path: Path, ending: signal.Signals
) -> None:
    with bad_sounds(0) as sounds, ExitStack() as stack:
        settings = books_settings(kafka, new_database(), tmp_path)
        settings = settings.model_copy(update={"recording_private_hosts": [sounds.address]})
        await prepare(settings)
        scene = BooksScene(settings, History(settings, CALLS, sounds_url=sounds.url), tmp_path, NAMES)
        pairs = {name: [scene.process(name, QUICK) for _ in range(2)] for name in NAMES}
        everybody = [process for pair in pairs.values() for process in pair]
        stack.callback(kill_all, everybody)
        for name, pair in pairs.items():
            await until(lambda pair=pair: shared(settings, pair), f"both processes of {name} have partitions")
        half = len(scene.history.events) // 2
        await scene.history.put(half)
        await scene.settled()
        for name, pair in pairs.items():
            await until(lambda pair=pair: counts(pair)[2] == half, f"{name} has counted each event once")
            assert all(counts(pair)), f"of {name}: {counts(pair)}"

        feeding = asyncio.create_task(scene.history.put())
        for leaving, _ in pairs.values():
            leaving.send(ending)
        codes = {await asyncio.to_thread(leaving.wait, 18.0) for leaving, _ in pairs.values()}
        assert codes == {0 if ending == signal.SIGTERM else -ending}
        await feeding
        await scene.settled()
        staying = [stays for _, stays in pairs.values()]
        await until(lambda: {len(share) for share in partitions_of(staying)} == {PARTITIONS}, "one has all partitions")
        assert await scene.wrong() == []
        assert {stays.stop() for stays in staying} == {0}

        alone = settings.model_copy(update={"database_url": new_database(), "data_dir": tmp_path / "alone"})
        assert await books_of_one(alone, scene.history, tmp_path) == books(settings)


async def books_of_one(settings: Settings, history: History, directory: Path) -> dict[str, list[tuple[Any, ...]]]:
    """The same topic, from its beginning, by one process of each consumer."""
    await asyncio.to_thread(migrate, settings)
    scene = BooksScene(settings, history, directory, NAMES)
    with consuming(*(scene.process(name, QUICK) for name in NAMES)):
        await scene.settled()
    return books(settings)
