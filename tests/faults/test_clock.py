"""The clock of one process jumps a day, both ways: neither the books nor the sounds notice."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import msgspec
import pytest

from cli.simulator.book_reader import BookReader
from tests.faults.bad_sounds import bad_sounds
from tests.faults.books_scene import BooksScene, books_settings, prepare, until
from tests.faults.consumer_process import consuming
from tests.faults.history import History
from tests.faults.instance import SECRET, Instance
from tests.faults.quick_kafka import QUICK_MS
from tests.faults.saboteur import Sabotage
from tests.faults.wrong_clock import DAY_S, WrongClock

BOOKS = ("billing", "transcripts")

JUMPS_S = (0, DAY_S, 0, -DAY_S, 0)

# A sound that waits for a clock to come true waits for a day; this is for two retries and a busy machine.
SOUND_WITHIN_S = 90.0


@pytest.mark.slow
async def test_that_of_the_consumers(quick_kafka: str, database_url: str, tmp_path: Path) -> None:
    settings = books_settings(quick_kafka, database_url, tmp_path)
    await prepare(settings)
    clock, scene = WrongClock(tmp_path), BooksScene(settings, History(settings, 60), tmp_path, BOOKS)
    scene.history.poisoned(1)
    with consuming(*(scene.process(name, environment=clock.environment) for name in BOOKS), scene.process("counting")):
        for ahead_s in JUMPS_S:
            clock.show(ahead_s)
            await scene.history.put(len(scene.history.events) // len(JUMPS_S) + 1)
            await until(lambda: scene.read_count(BOOKS[0]) == scene.history.put_count, "they are read")
        assert scene.history.is_put
        await scene.settled()
        assert await scene.wrong() == []


@pytest.mark.slow
@pytest.mark.parametrize("ahead_s", [DAY_S, -DAY_S])
async def test_that_of_the_process_that_fetches_recordings(
    quick_kafka: str, database_url: str, tmp_path: Path, ahead_s: int
) -> None:
    """It fails, and is to be tried again soon; by then the clock says something else, and later the truth again."""
    with bad_sounds(2) as sounds:
        settings = books_settings(quick_kafka, database_url, tmp_path)
        settings = settings.model_copy(update={"recording_private_hosts": [sounds.address]})
        await prepare(settings)
        history = History(settings, 30, sounds_url=sounds.url)
        clock, scene = WrongClock(tmp_path), BooksScene(settings, history, tmp_path, ["recordings"])
        quick = Sabotage(session_timeout_ms=QUICK_MS, retry_s=1.0)
        with consuming(scene.process("recordings", quick, clock.environment)):
            clock.show(ahead_s)
            await history.put()
            await until(lambda: len(sounds.asked) > 5, "some are tried")
            clock.show(0)
            await scene.settled(SOUND_WITHIN_S)
            assert await scene.wrong() == []


@pytest.fixture
def two_services(quick_kafka: str, tmp_path: Path) -> Iterator[Callable[..., tuple[Instance, Instance]]]:
    with ExitStack() as stack:

        def make(prefix: str, clock: WrongClock) -> tuple[Instance, Instance]:
            wrong = Instance("wrong", tmp_path, quick_kafka, prefix, environment=clock.environment)
            right = Instance("right", tmp_path, quick_kafka, prefix)
            stack.callback(wrong.kill)
            stack.callback(right.kill)
            return wrong, right

        yield make


async def test_that_of_a_service(
    quick_kafka: str,
    new_database: Callable[[], str],
    tmp_path: Path,
    two_services: Callable[..., tuple[Instance, Instance]],
) -> None:
    """Revisions of a call, now by the one service, now by the other: the last that was accepted is the bill."""
    settings = books_settings(quick_kafka, new_database(), tmp_path)
    await prepare(settings)
    clock = WrongClock(tmp_path)
    wrong, right = two_services(settings.topic_prefix, clock)
    await asyncio.gather(wrong.started(), right.started())
    last: dict[str, int] = {}
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {SECRET}"}) as http:
        for turn, ahead_s in enumerate(JUMPS_S):
            clock.show(ahead_s)
            for final in range(turn, len(JUMPS_S)):  # of each turn there are calls that it is the last one for
                for services in ((wrong,), (wrong, right), (right, wrong), (wrong, wrong)):
                    session = f"{final} {'-'.join(service.name for service in services)}"
                    for service in services:
                        last[session] = await revised(http, service, session, last.get(session, 0) + 1)
    process = BooksScene(settings, History(settings, 1), tmp_path, ()).process("billing")
    with consuming(process):
        reader = BookReader.open(settings)
        try:
            await until(lambda: {name: bill(reader, name) for name in last} == last, f"the books say {last}", 30)
        finally:
            reader.close()
    assert [await service.terminate() < 20 for service in (wrong, right)] == [True, True]
    assert wrong.violations + right.violations == []


async def revised(http: aiohttp.ClientSession, service: Instance, session_id: str, micros: int) -> int:
    """The amount, once it is accepted. A broker's time counts milliseconds: nothing else happens in this one."""
    cost = [{"type": "llm", "provider": "openai", "credit": f"{micros}e-6"}]
    body = {"session_id": session_id, "cost_breakdown": cost, "nonce": time.monotonic_ns()}
    async with http.post(f"{service.url}/webhooks/end-of-call", data=msgspec.json.encode(body)) as answer:
        assert answer.status == 200
    await asyncio.sleep(0.01)
    return micros


def bill(reader: BookReader, session_id: str) -> int | None:
    costs = reader.said([session_id])[session_id].costs
    return None if costs is None else sum(costs.values())
