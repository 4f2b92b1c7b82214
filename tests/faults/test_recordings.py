"""Recordings of a server at its worst, by processes that are killed: never missing, never doubled, never half."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.faults.bad_sounds import BEHAVIOURS, BadSounds, bad_sounds
from tests.faults.books_scene import SETTLE_S, BooksScene, books_settings, prepare
from tests.faults.consumer_process import consuming, kill_all
from tests.faults.history import History
from tests.faults.quick_kafka import QUICK_MS
from tests.faults.saboteur import Sabotage
from tests.faults.small_disk import small_disk

RECORDINGS = ("recordings",)

# As in the product, but that a dead worker's row is free after two seconds, and a failed one tried again soon.
QUICK = Sabotage(session_timeout_ms=QUICK_MS, lease_s=2.0, retry_s=0.2)

slow = [pytest.mark.slow, pytest.mark.timeout(400)]


@asynccontextmanager
async def recorded(
    kafka: str, database_url: str | None, directory: Path, *, calls: int, tries: int, url: str | None = None
) -> AsyncIterator[tuple[BooksScene, BadSounds]]:
    """All events are in the topic; afterwards every sound must be in the storage, once and whole."""
    with bad_sounds(tries) as sounds:
        settings = books_settings(kafka, database_url, directory)
        own = {"recording_private_hosts": [sounds.address], "recordings_url": url}
        settings = settings.model_copy(update=own)
        await prepare(settings)
        scene = BooksScene(settings, History(settings, calls, sounds_url=sounds.url), directory, RECORDINGS)
        await scene.history.put()
        yield scene, sounds
        with consuming(scene.process("recordings", QUICK)):
            await scene.settled()
            assert await scene.wrong() == []


@pytest.mark.parametrize("calls", [pytest.param(300, marks=slow)])
async def test_a_server_at_its_worst(quick_kafka: str, tmp_path: Path, calls: int) -> None:
    async with recorded(quick_kafka, None, tmp_path, calls=calls, tries=3) as (scene, sounds):
        with consuming(scene.process("recordings", QUICK)):
            await scene.settled()
            assert await scene.wrong() == []
        assert set(sounds.suffered) == {behaviour.__name__ for behaviour in BEHAVIOURS}


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=slow)])
async def test_killed_between_upload_and_row(
    quick_kafka: str, new_database: Callable[[], str], tmp_path: Path, kills: int
) -> None:
    chance = random.Random(kills)
    async with recorded(quick_kafka, new_database(), tmp_path, calls=30 + 6 * kills, tries=1) as (scene, _sounds):
        for _ in range(kills):
            sabotage = Sabotage(
                at="uploaded", time=chance.randint(1, 4), session_timeout_ms=QUICK_MS, lease_s=2.0, retry_s=0.2
            )
            process = scene.process("recordings", sabotage)
            try:
                code = await asyncio.to_thread(process.wait, SETTLE_S)
            finally:
                process.kill()
            assert code == -signal.SIGKILL, process.last_words()


@pytest.mark.parametrize("storage", ["folder", pytest.param("s3", marks=pytest.mark.s3)])
@pytest.mark.parametrize("kills", [pytest.param(30, marks=slow)])
async def test_killed_at_any_moment_while_the_server_is_at_its_worst(
    quick_kafka: str,
    new_database: Callable[[], str],
    tmp_path: Path,
    kills: int,
    storage: str,
    request: pytest.FixtureRequest,
) -> None:
    """Two processes that share the work, each killed again and again."""
    url = request.getfixturevalue("s3") if storage == "s3" else None
    chance = random.Random(kills)
    async with recorded(quick_kafka, new_database(), tmp_path, calls=300, tries=3, url=url) as (scene, _sounds):
        processes = [scene.process("recordings", QUICK) for _ in range(2)]
        with ExitStack() as stack:
            stack.callback(kill_all, processes)
            for kill in range(kills):
                await asyncio.sleep(chance.uniform(0.3, 2.0))
                assert processes[kill % 2].exit_code is None, processes[kill % 2].last_words()
                processes[kill % 2].kill()
                processes[kill % 2] = scene.process("recordings", QUICK)


@pytest.mark.slow
async def test_the_storages_disk_is_full(quick_kafka: str, tmp_path: Path) -> None:
    with small_disk(2) as disk:
        folder = disk.path / "recordings"
        async with recorded(quick_kafka, None, tmp_path, calls=40, tries=0, url=folder.as_uri()) as (scene, sounds):
            disk.fill()
            with consuming(scene.process("recordings", QUICK)):
                await asyncio.sleep(3)
            assert sounds.asked, "it was tried"
            disk.free()
