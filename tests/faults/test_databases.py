"""The database goes away, freezes or fills up under the consumers: no event is blamed, and all goes on by itself."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.faults.books_scene import BooksScene, books_settings, prepare, until
from tests.faults.consumer_process import ConsumerProcess, consuming
from tests.faults.history import History
from tests.faults.own_postgres import OwnPostgres, own_postgres
from tests.faults.small_disk import SmallDisk, small_disk

BOOKS = ("billing",)

SMALL_MB = 40  # a fresh database takes ten
WHOLE_SERVER_MB = 160  # and a fresh server some sixty more

SHORT_S = 5
FULL_S = 2
LONG_S = 30


@pytest.fixture
def server() -> Iterator[OwnPostgres]:
    with own_postgres() as server:
        yield server


@asynccontextmanager
async def at_work(
    kafka: str, database_url: str, directory: Path
) -> AsyncIterator[tuple[BooksScene, list[ConsumerProcess]]]:
    """Consumers while calls end; afterwards everything must be in the books, and nothing in the dead letters."""
    settings = books_settings(kafka, database_url, directory)
    await prepare(settings)
    scene = BooksScene(settings, History(settings, 80), directory, BOOKS)
    done = asyncio.Event()
    feeding = asyncio.create_task(scene.history.put_steadily(20, done))
    processes = [scene.process(name) for name in (*BOOKS, "counting")]
    with consuming(*processes):
        await until(lambda: all(scene.read_count(process.name) for process in processes), "they read")
        yield scene, processes
        done.set()
        await feeding
        await scene.settled()
        assert await scene.wrong() == []


async def away(processes: list[ConsumerProcess]) -> None:
    """Each has noticed, and says so to whoever asks."""
    for process in processes:
        await until(partial(says_away, process), f"{process.name} knows")


def says_away(process: ConsumerProcess) -> bool:
    return process.health().get("database") == "away"


@pytest.mark.parametrize("lasts_s", [SHORT_S, pytest.param(LONG_S, marks=pytest.mark.slow)])
async def test_a_server_that_dies_and_comes_back(
    quick_kafka: str, server: OwnPostgres, tmp_path: Path, lasts_s: int
) -> None:
    async with at_work(quick_kafka, server.url, tmp_path) as (_scene, processes):
        await asyncio.to_thread(server.kill)
        await away(processes)
        await asyncio.sleep(lasts_s)
        await asyncio.to_thread(server.start)


@pytest.mark.slow
async def test_a_server_that_freezes(quick_kafka: str, server: OwnPostgres, tmp_path: Path) -> None:
    """Connections stay open and nothing answers. Kafka goes on hearing from the consumers, and a stop is a stop."""
    async with at_work(quick_kafka, server.url, tmp_path) as (scene, _processes):
        with ExitStack() as stack:
            second = scene.process("billing")
            stack.callback(second.kill)
            await until(lambda: second.health().get("partitions"), "it shares the partitions")
            server.freeze()
            stack.callback(server.thaw)
            await asyncio.sleep(LONG_S)
            assert second.stop() == 0, second.last_words()
            late = scene.process("billing")  # one that never saw it awake
            stack.callback(late.kill)
            await until(lambda: late.health().get("ready") is False, "it says that it waits")
            assert late.stop() == 0, late.last_words()


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
async def test_its_disk_is_full(quick_kafka: str, tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(SMALL_MB))
        if kind == "sqlite":
            url = f"sqlite:///{disk.path}/books.db"
        else:
            server = stack.enter_context(own_postgres())
            url = on_the_disk(server, disk)
        async with at_work(quick_kafka, url, tmp_path) as (_scene, processes):
            disk.fill()
            await until(partial(says_away, processes[0]), "it is noticed")
            await asyncio.sleep(FULL_S)
            disk.free()


def on_the_disk(server: OwnPostgres, disk: SmallDisk) -> str:
    """The URL of a database whose tables lie there; what the server itself needs has room elsewhere."""
    shutil.chown(disk.path, (server.directory / "PG_VERSION").owner())
    server.execute(f"CREATE TABLESPACE small LOCATION '{disk.path}'")
    server.execute("ALTER DATABASE books SET TABLESPACE small")
    return server.url


@pytest.mark.slow
async def test_the_disk_of_the_whole_server_is_full(quick_kafka: str, tmp_path: Path) -> None:
    """PostgreSQL itself gives up when it can't write its log. Somebody makes room and starts it; the rest is ours."""
    with small_disk(WHOLE_SERVER_MB) as disk, own_postgres(disk.path / "data") as server:
        async with at_work(quick_kafka, server.url, tmp_path) as (_scene, processes):
            disk.fill()
            await asyncio.to_thread(server.exhaust)
            await away(processes)
            await asyncio.sleep(SHORT_S)
            disk.free()
            if not server.is_running:
                await asyncio.to_thread(server.start)
            await asyncio.to_thread(server.wait_until_it_answers)
