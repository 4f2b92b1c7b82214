"""The oracle itself: without one of the safeguards that it is there to judge, it must find something to say."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from consumers.database import open_engine
from consumers.tables import billing_entries
from tests.faults.books_scene import BooksScene, books_settings, prepare, until
from tests.faults.consumer_process import consuming
from tests.faults.history import History
from tests.faults.quick_kafka import QUICK_MS
from tests.faults.saboteur import Sabotage

BOOKS = ("billing",)


@pytest.fixture
async def scene(quick_kafka: str, tmp_path: Path, new_database: Callable[[], str]) -> BooksScene:
    settings = books_settings(quick_kafka, new_database(), tmp_path)
    await prepare(settings)
    return BooksScene(settings, History(settings, 40), tmp_path, BOOKS)


async def test_a_position_that_moves_before_its_effects_loses_a_bill(scene: BooksScene) -> None:
    await scene.history.put()
    sabotaged = scene.process("billing", Sabotage(position_first=True, session_timeout_ms=QUICK_MS))
    try:
        await asyncio.to_thread(sabotaged.wait, 60)
    finally:
        sabotaged.kill()
    with consuming(*(scene.process(name) for name in BOOKS)):
        await scene.settled()
        wrong = await scene.wrong()
    assert any("cost of" in it and ": nothing, not " in it for it in wrong)
    assert any("billing.charges comes to None" in it for it in wrong)


async def test_without_the_fence_a_zombie_has_its_effects_made_twice(scene: BooksScene) -> None:
    """It shows where effects add up; our own consumers would know the events again."""
    zombie = scene.process(
        "counting", Sabotage(at="polled", strike=signal.SIGSTOP, unfenced=True, session_timeout_ms=QUICK_MS)
    )
    try:
        await scene.history.put()
        await until(lambda: zombie.state() == "T", "the process freezes")
        with consuming(*(scene.process(name) for name in (*BOOKS, "counting"))):
            await scene.settled()
            assert await scene.wrong() == []
            zombie.send(signal.SIGCONT)
            async with asyncio.timeout(20):
                while not any(": 2 times, not 1" in it for it in await scene.wrong()):  # noqa: ASYNC110 - no event of ours
                    await asyncio.sleep(0.2)
    finally:
        zombie.kill()


async def test_books_that_were_tampered_with_are_found_out(scene: BooksScene) -> None:
    await scene.history.put()
    with consuming(*(scene.process(name) for name in BOOKS)):
        await scene.settled()
    assert await scene.wrong() == []
    engine = open_engine(scene.settings)
    with engine.connect() as tx:
        session = tx.execute(select(billing_entries.c.session_id).where(billing_entries.c.amount_micros > 0)).scalar()
    of_one = billing_entries.c.session_id == session
    harms = (
        (
            update(billing_entries).where(of_one).values(amount_micros=billing_entries.c.amount_micros + 1),
            " micro-credits, not ",
        ),
        (
            update(billing_entries).where(of_one).values(session_id="nobody's"),
            "nobody's: in billing_entries, and never sent",
        ),
        (delete(billing_entries).where(billing_entries.c.session_id == "nobody's"), ": nothing, not "),
    )
    for harm, found in harms:
        with engine.begin() as tx:
            assert tx.execute(harm).rowcount
        assert any(found in it for it in await scene.wrong()), found
    engine.dispose()
