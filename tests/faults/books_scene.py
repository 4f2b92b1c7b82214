"""What the fault tests of the consumers stand on: settings that are ready, processes, and the oracle's word."""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sqlalchemy import func, select

from consumers.database import migrate, open_engine, read_only
from consumers.tables import positions
from runtime.settings import Settings, load_settings
from runtime.topics import apply
from schemas.topics import CALLS_ENDED
from tests.faults import counting
from tests.faults.book_audit import BookAudit
from tests.faults.consumer_process import ConsumerProcess
from tests.faults.counting import miscounted
from tests.faults.history import History
from tests.faults.saboteur import Sabotage
from tests.faults.whole_topic import ends_of

PARTITIONS = 3

SETTLE_S = 60.0

# What the oracle said of the books, test after test: `conftest` shows it at the end of a run.
AUDITED: list[str] = []


class BooksScene:
    """`consumers` are ours, without the one that counts."""

    def __init__(self, settings: Settings, history: History, directory: Path, consumers: Sequence[str]) -> None:
        self.settings = settings
        self.history = history
        self._directory = directory
        self._consumers = consumers
        self._counted = False

    def process(
        self, name: str, sabotage: Sabotage | None = None, environment: Mapping[str, str] | None = None
    ) -> ConsumerProcess:
        """Running. With an environment of its own it is started anew, otherwise forked."""
        self._counted |= name == counting.NAME
        log = self._directory / f"{name}.log"
        anew = environment is not None
        return ConsumerProcess(self.settings, name, log, sabotage=sabotage, environment=environment, anew=anew)

    async def settled(self, within_s: float = SETTLE_S) -> None:
        """All that was put is in the books, as far as the positions say."""
        await self._audit(self._read_by).settled(within_s)

    async def wrong(self) -> list[str]:
        """What the oracle has to object to, once everything has settled."""
        wrong = await self._audit(self._consumers).wrong()
        if self._counted:
            ends = await ends_of(self.settings, CALLS_ENDED)
            engine = open_engine(self.settings)
            wrong += await asyncio.to_thread(miscounted, engine, ends)
            engine.dispose()
        history = self.history
        AUDITED.append(
            f"{history.put_count} events of {len(history.calls)} calls, {len(history.poison)} of them poison;"
            f" objections to the books: {len(wrong)}"
        )
        return wrong

    def read_count(self, name: str) -> int:
        """How many events the consumer is through, by its positions."""
        engine = read_only(open_engine(self.settings))
        with engine.connect() as tx:
            mine = select(func.sum(positions.c.next_offset)).where(positions.c.consumer == name)
            count = int(tx.execute(mine).scalar_one() or 0)
        engine.dispose()
        return count

    @property
    def _read_by(self) -> list[str]:
        return [*self._consumers, *([counting.NAME] if self._counted else [])]

    def _audit(self, consumers: Sequence[str]) -> BookAudit:
        return BookAudit(self.settings, self.history, consumers)


def books_settings(kafka: str, database_url: str | None, directory: Path) -> Settings:
    """Under a topic prefix of their own. On SQLite without a URL."""
    return load_settings(
        kafka_bootstrap_servers=kafka,
        topic_prefix=f"f{secrets.token_hex(4)}.",
        topic_partitions=PARTITIONS,
        topic_replication=1,
        database_url=database_url,
        data_dir=directory / "data",
    )


async def prepare(settings: Settings) -> None:
    """Topics and tables."""
    await apply(settings)
    await asyncio.to_thread(_tables, settings)


def _tables(settings: Settings) -> None:
    migrate(settings)
    engine = open_engine(settings)
    counting.metadata.create_all(engine)
    engine.dispose()


async def until(condition: Callable[[], object], what: str, within_s: float = SETTLE_S) -> None:
    """Asks in a thread: what is asked for may block."""
    try:
        async with asyncio.timeout(within_s):
            while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - what is waited for happens elsewhere
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not within {within_s:g} s: {what}") from None
