"""The producer under supervision: connected in the background, and made anew when it can't be trusted any more."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from runtime.kafka import KafkaUnavailable, make_producer, start_within, stop_within
from runtime.logs import logger
from runtime.metrics import KAFKA_CONNECTED, PRODUCER_REBUILDS
from runtime.settings import Settings, SettingsError
from runtime.topics import refuse_forgetful
from schemas.topics import Topic
from service.journal.lane import ACK_DEADLINE_S

METADATA_DEADLINE_S = 5.0  # a broker that we have just connected to answers at once, or is in trouble

FIRST_RETRY_S = 0.1
MAX_RETRY_S = 2.0  # a broker that is back should not wait for us

# A producer that is given up as soon as it is made (no rights on a topic) must not be made a hundred times a second.
MIN_LIFE_S = 1.0

STOP_S = 5.0


class ConnectionOwner(Protocol):
    def connected(self, producer: AIOKafkaProducer, partitions: dict[str, int]) -> None:
        """Use this one from now on. The former one is stopped once what is in flight had its time."""

    def lost(self, reason: str) -> None:
        """There is none any more."""


class Connection:
    """`run` connects and reconnects: nothing that starts the server needs Kafka.

    A producer is made anew when `rebuild` is asked for. The new one is there before the old one is let go, so what
    still works goes on working; when no new one can be made, the old one is lost, too.
    """

    def __init__(self, settings: Settings, topics: tuple[Topic, ...], owner: ConnectionOwner) -> None:
        self._settings = settings
        self._topics = topics
        self._owner = owner
        self._log = logger("service.journal")
        self._producer: AIOKafkaProducer | None = None
        self._made_at = 0.0
        self._rebuild = asyncio.Event()
        self._fresh = asyncio.Event()
        self._retiring: set[asyncio.Task[None]] = set()
        self._topics_checked = False
        self.why_not = "not connected yet"
        self.up = asyncio.Event()

    @property
    def is_up(self) -> bool:
        return self.up.is_set()

    def rebuild(self, reason: str) -> None:
        """Asked for again meanwhile, it is made once."""
        if not self._rebuild.is_set():
            self._log.warning("the producer is made anew", reason=reason)
            PRODUCER_REBUILDS.inc()
            self._fresh.clear()
            self._rebuild.set()

    async def fresh(self) -> None:
        """When a producer is there that nobody has asked to replace."""
        await self._fresh.wait()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; the producer is still there then: `close` lets it go.

        Raises `SettingsError` when the settings can't work.
        """
        stopping = asyncio.create_task(stop.wait())
        retry_s = FIRST_RETRY_S
        try:
            while not stop.is_set():
                try:
                    await self._unless(stopping, self._connect())
                except SettingsError:
                    raise
                except Exception as error:
                    self._lose(str(error) or repr(error))
                    expected = isinstance(error, KafkaUnavailable)
                    self._log.warning(
                        "Kafka is away", error=self.why_not, retry_in_s=round(retry_s, 1), exc_info=not expected
                    )
                    await asyncio.wait({stopping}, timeout=retry_s)
                    retry_s = min(retry_s * 2, MAX_RETRY_S)
                    continue
                retry_s = FIRST_RETRY_S
                await self._until_rebuilt(stopping)
        finally:
            stopping.cancel()

    async def close(self) -> None:
        self._lose("the service stops", STOP_S)
        if self._retiring:
            await asyncio.wait(self._retiring)

    async def _until_rebuilt(self, stopping: "asyncio.Task[Any]") -> None:
        wanted = asyncio.create_task(self._rebuild.wait())
        await asyncio.wait({stopping, wanted}, return_when=asyncio.FIRST_COMPLETED)
        wanted.cancel()
        age = asyncio.get_running_loop().time() - self._made_at
        if age < MIN_LIFE_S:
            await asyncio.wait({stopping}, timeout=MIN_LIFE_S - age)

    async def _unless(self, stopping: "asyncio.Task[Any]", work: Coroutine[Any, Any, None]) -> None:
        """A broker that hangs would otherwise keep us from stopping for as long as a connection may take."""
        doing = asyncio.create_task(work)
        await asyncio.wait({stopping, doing}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            doing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await doing

    async def _connect(self) -> None:
        """Raises `KafkaUnavailable`, `SettingsError`."""
        if not self._topics_checked:
            # Once: an operator who changes a topic under a running service is told by `ringlog topics check`.
            await refuse_forgetful(self._settings, self._topics)
            self._topics_checked = True
        producer = make_producer(self._settings)
        await start_within(producer)
        try:
            partitions = await asyncio.wait_for(self._partitions(producer), METADATA_DEADLINE_S)
        except BaseException as error:
            await stop_within(producer, 1.0)
            if isinstance(error, KafkaError | TimeoutError):
                raise KafkaUnavailable(f"Kafka does not tell of its topics: {error!r}") from error
            raise
        former, self._producer = self._producer, producer
        self._made_at = asyncio.get_running_loop().time()
        self._rebuild.clear()
        KAFKA_CONNECTED.set(1)
        self._log.info("connected to Kafka", partitions=partitions)
        self._owner.connected(producer, partitions)
        self.up.set()
        self._fresh.set()
        if former is not None:
            self._retire(former, ACK_DEADLINE_S, 0.5)

    async def _partitions(self, producer: AIOKafkaProducer) -> dict[str, int]:
        """How many each topic has, by the catalogue's name. Raises `KafkaUnavailable` when one is missing.

        All topics are asked for: to ask for one that is missing would make it, with settings that forget, on a cluster
        that creates topics by itself.
        """
        there = (await producer.client.fetch_all_metadata()).topics()
        names = {topic.name: topic.named(self._settings.topic_prefix) for topic in self._topics}
        for name in names.values():
            if name not in there:
                raise KafkaUnavailable(f"the topic {name} is not there: run `ringlog topics apply`")
        return {topic: len(await producer.partitions_for(name)) for topic, name in names.items()}

    def _lose(self, reason: str, stop_s: float = 0.5) -> None:
        self.why_not = reason
        KAFKA_CONNECTED.set(0)
        self.up.clear()
        self._fresh.clear()
        producer, self._producer = self._producer, None
        if producer is not None:
            self._owner.lost(reason)
            self._retire(producer, 0.0, stop_s)

    def _retire(self, producer: AIOKafkaProducer, after_s: float, stop_s: float) -> None:
        async def stop() -> None:
            await asyncio.sleep(after_s)
            await stop_within(producer, stop_s)

        task = asyncio.create_task(stop(), name="retire a producer")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
