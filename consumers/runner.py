"""Drives a consumer: reads its events, has their effects made, and starts anew after whatever goes wrong."""

import asyncio
import traceback
from collections.abc import Callable
from typing import Any

from aiokafka.errors import KafkaError
from sqlalchemy import Engine

from consumers.backoff import Backoff
from consumers.contract import Consumer
from consumers.dead_letters import DeadLetters
from consumers.effects import Effects, TooManyDeadLetters
from consumers.outage import outage
from consumers.positions import Fenced, PositionMismatch
from consumers.progress import Abandoned
from consumers.publisher import Publisher
from consumers.reader import Reader
from consumers.stopping import unless
from runtime.clock import Clock, system_clock
from runtime.logs import logger
from runtime.metrics import RETRIES
from runtime.settings import Settings, SettingsError
from runtime.topics import make_missing, refuse_forgetful
from schemas.topics import CATALOGUE, dead_letters

# Transactions at a time, of different partitions: while the database works on one, the next batch is decoded. With two,
# both of them wait for the database now and then; with four, one of the two sides is nearly always busy.
LANES = 4


class Runner:
    """One process's share of a consumer's partitions. See `consumers.contract` and `docs/consumers.md`.

    On PostgreSQL a consumer that says `thread_safe = True` has its partitions dealt to `LANES`: its `handle` is then
    called from several threads at a time, with records of different partitions and a transaction each. One that says
    nothing has a lane: its calls come one after the other.

    `committed` is called on the loop after each batch: something may be in the outbox.
    """

    def __init__(
        self,
        settings: Settings,
        consumer: Consumer,
        engine: Engine,
        publisher: Publisher,
        *,
        committed: Callable[[], None] = lambda: None,
        clock: Clock = system_clock,
    ) -> None:
        self._settings = settings
        self._consumer = consumer
        self._engine = engine
        letters = DeadLetters(settings, consumer.name, publisher, clock)
        several = engine.dialect.name == "postgresql" and getattr(consumer, "thread_safe", False)
        self._lanes = [Effects(settings, consumer, engine, letters, committed) for _ in range(LANES if several else 1)]
        self._topics = [*consumer.topics, *(topic for topic in CATALOGUE if topic.owner == consumer.name)]
        # `ringlog topics apply` makes those of the catalogue, and knows no consumer of somebody's own.
        self._uncatalogued = [topic for topic in (dead_letters(consumer.name),) if topic not in CATALOGUE]
        self._topics_checked = False
        self._reader: Reader | None = None
        self._log = logger("consumers.runner").bind(consumer=consumer.name)

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether it reads, and what it reads. A process without partitions is ready: another one has them."""
        reader = self._reader
        reading = reader is not None and reader.is_reading
        away = next((lane.outage for lane in self._lanes if lane.outage), None)
        other_side = next((lane.away for lane in self._lanes if lane.away), None)
        return reading and not away and not other_side, {
            "kafka": "reading" if reading else "waiting",
            "database": "away" if away else "there",
            **({"database_says": away.reason} if away else {}),
            **({"delivery": "waiting", "delivery_says": other_side} if other_side else {}),
            "partitions": reader.partitions if reader else [],
            "lag": reader.lag if reader else None,
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then the batch in flight is finished. Kafka and the database may be away at any time.

        Raises `PositionMismatch`, when going on would make wrong books, and `SettingsError`, when a topic that it
        reads or writes would forget, or its dead letters have no topic and it may make none, and `TooManyDeadLetters`.
        """
        backoff = Backoff()
        while not stop.is_set():
            self._reader = reader = Reader(self._settings, self._consumer, self._engine, len(self._lanes))
            try:
                if not self._topics_checked:
                    await unless(stop, make_missing(self._settings, self._uncatalogued))
                    await unless(stop, refuse_forgetful(self._settings, self._topics))
                    self._topics_checked = True
                await unless(stop, reader.open())
                await self._all_lanes(reader, stop, backoff)
            except (PositionMismatch, SettingsError, TooManyDeadLetters):
                raise
            except Exception as error:
                self._tell(error)
                await backoff.wait(stop)
            finally:
                await reader.close()
                self._reader = None

    async def _all_lanes(self, reader: Reader, stop: asyncio.Event, backoff: Backoff) -> None:
        """Until `stop`, or until one of them fails; the others then finish what they have in flight, as on a stop."""
        halt = asyncio.Event()
        lanes = [asyncio.create_task(self._lane(number, reader, halt, backoff)) for number in range(len(self._lanes))]
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([*lanes, stopping], return_when=asyncio.FIRST_COMPLETED)
            halt.set()
            await asyncio.gather(*lanes, return_exceptions=True)
        finally:
            for task in (*lanes, stopping):
                task.cancel()
        for lane in lanes:
            lane.result()

    async def _lane(self, number: int, reader: Reader, stop: asyncio.Event, backoff: Backoff) -> None:
        while not stop.is_set():
            await self._step(number, reader, stop)
            if reader.is_reading:
                backoff.reset()

    async def _step(self, lane: int, reader: Reader, stop: asyncio.Event) -> None:
        """One poll and what came of it. Raises what a new reader is needed for."""
        effects = self._lanes[lane]
        epoch = reader.epoch
        try:
            polled = await unless(stop, reader.poll(lane))
            effects.outage = effects.away = None
            if polled and polled.records:
                epoch = polled.epoch  # not the reader's: the group may have rebalanced since
                with reader.working():
                    await effects.of(polled.records, epoch, reader, stop)
        except Fenced as error:
            # An own commit whose answer was lost looks the same, and the answer is the same too.
            self._log.warning("another process has been here; reading the positions again", reason=str(error))
            reader.reposition(epoch)
        except Abandoned:
            return  # the positions are taken anew already, or all of it stops
        except Exception as error:
            if (found := outage(error)) is None:
                raise
            effects.wait_for(found)
            await Backoff(first_s=1.0).wait(stop)

    def _tell(self, error: Exception) -> None:
        RETRIES.labels(self._consumer.name, "kafka").inc()
        if isinstance(error, KafkaError | ConnectionError | TimeoutError):
            self._log.warning("the connection to Kafka is made anew", error=type(error).__name__, reason=str(error))
        else:  # a fault of ours; its text may quote an event
            where = traceback.format_tb(error.__traceback__)
            self._log.error("the consumer starts anew", error=type(error).__name__, where=where)
