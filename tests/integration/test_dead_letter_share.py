"""A consumer that would give up too much of what it reads stops and loses nothing; a restart is no fresh budget."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest
from sqlalchemy import Connection, Engine, select

from consumers import letter_book, process
from consumers.effects import TooManyDeadLetters
from consumers.letter_book import Share
from consumers.publisher import Publisher
from consumers.runner import Runner
from consumers.tables import positions
from runtime.process import EXIT_STUCK
from runtime.settings import Settings
from schemas.event import Record
from schemas.topics import dead_letters
from tests.tally import Counted, Tally, total
from tests.tallying import create, opened, prepare, publish, read, running, until


class Mended(Tally):
    """As after a deployment that can handle what the one before could not."""

    def handle(self, tx: Connection, records: Sequence[Record]) -> None:
        super().handle(tx, [msgspec.structs.replace(it, value=msgspec.json.encode(Counted(1))) for it in records])


def through(engine: Engine) -> int:
    with engine.connect() as tx:
        return sum(tx.execute(select(positions.c.next_offset)).scalars())


async def test_a_broken_deployment_does_not_empty_the_log_into_the_dead_letters(
    settings: Settings, database_url: str
) -> None:
    own = await prepare(settings.model_copy(update={"database_url": database_url}))
    await publish(own, [Counted(1, "unreadable")] * 40)
    with opened(own) as engine:
        for said in (
            r"11 of its last 11 events \(100\.0%\)",
            r"11 of its last 11 events",
            "DEAD_LETTER_SHARE allows 5.0%",
        ):
            with pytest.raises(TooManyDeadLetters, match=said):
                await Runner(own, Tally(), engine, Publisher(own)).run(asyncio.Event())
            assert through(engine) == 10, "no position passes the event, and a restart gives up no more"
        assert len(await read(own, dead_letters("tally"))) == 10
        async with running(own, Mended(), engine):
            await until(lambda: through(engine) == 40)
        assert total(engine) == 30
        with engine.connect() as tx:
            assert letter_book.share(tx, "tally") == Share(10, 40)


async def test_a_share_that_is_allowed_is_given_up(settings: Settings) -> None:
    own = await prepare(settings.model_copy(update={"dead_letter_share": 0.5}))
    await publish(own, [Counted(1), Counted(1, "unreadable"), Counted(1)] * 15)
    with opened(own) as engine:
        async with running(own, Tally(), engine):
            await until(lambda: total(engine) == 30 and through(engine) == 45)
        assert len(await read(own, dead_letters("tally"))) == 15


async def test_the_process_ends_and_says_what_to_do(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    own = await prepare(settings)
    await create(own, (dead_letters("billing"),))
    await publish(own, [Counted(1)] * 12)  # nothing that billing could read
    assert await asyncio.wait_for(process.consume(own, "billing", asyncio.Event()), 30) == EXIT_STUCK
    said = "".join(capfd.readouterr())
    for part in (
        "stopped: too much of what it reads fails",
        f"with the event at {own.topic_prefix}calls.ended/",
        "which failed with UnreadableEvent, billing would have given up 11 of its last 11 events (100.0%)",
        "RINGLOG_DEAD_LETTER_SHARE allows 5.0%. Nothing is lost",
        "`ringlog dead-letters list billing`",
    ):
        assert part in said
