"""The ended calls that a test puts into `calls.ended` by itself, and what the books must say of them in the end."""

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager

import msgspec
from aiokafka import AIOKafkaProducer

from cli.simulator.call import Call
from cli.simulator.plan import Plan, Wish
from runtime.kafka import make_producer, start_within, stop_within
from runtime.settings import Settings
from schemas.caller import Caller
from schemas.event import ENDED, Envelope, Headers, event_id, headers_of
from schemas.topics import CALLS_ENDED

NOWHERE = "http://127.0.0.1:9"  # of recordings that nobody fetches in the test

_HOUR_US = 3_600_000_000
_AT_ONCE = 50


class Event(msgspec.Struct, frozen=True):
    """One delivery of an end of call, as the service would write it."""

    session_id: str
    id: str
    key: bytes
    value: bytes
    headers: Headers


class History:
    """Calls with duplicates, revisions and every odd shape, in the order in which they were received.

    What must come of them follows from the simulator's plan, which makes each body and its books together; the
    consumers' code has no part in it.
    """

    def __init__(self, settings: Settings, calls: int, *, seed: int = 1, sounds_url: str = NOWHERE) -> None:
        self._settings = settings
        self._dice = random.Random(seed)
        plan = Plan(Wish(calls=calls, duplicates=0.3, revisions=0.25, odd=0.4, seed=seed), sounds_url)
        calls_told = [plan.call(number) for number in range(calls)]
        # A prefetch alone is no event of ours: nothing may be known of that call.
        self.calls: dict[str, Call] = {call.session_id: call for call in calls_told if _bodies(call)}
        self.events: list[Event] = _events(self.calls.values())
        self.poison: list[Event] = []
        self.put_count = 0

    def poisoned(self, count: int) -> None:
        """Events that no consumer can read go among the others, at random places."""
        for number in range(count):
            id_ = f"poison-{number}"
            event = Event(id_, id_, id_.encode(), b"not an event \xff" + id_.encode(), headers_of(ENDED, id_, 1, id_))
            self.poison.append(event)
            self.events.insert(self._dice.randrange(len(self.events)), event)

    @property
    def is_put(self) -> bool:
        return self.put_count == len(self.events)

    async def put(self, count: int | None = None) -> None:
        """The next so many events, or all that are left; each into any partition, as if identities changed."""
        async with _producing(self._settings) as producer:
            await self._put(producer, len(self.events) if count is None else count)

    async def put_steadily(self, events_a_second: float, done: asyncio.Event) -> None:
        """A few at a time until `done`, then all that are left."""
        some = max(1, round(events_a_second / 10))
        async with _producing(self._settings) as producer:
            while not (self.is_put or done.is_set()):
                await self._put(producer, some)
                await asyncio.sleep(some / events_a_second)
            await self._put(producer, len(self.events))

    async def _put(self, producer: AIOKafkaProducer, count: int) -> None:
        topic = CALLS_ENDED.named(self._settings.topic_prefix)
        partitions = sorted(await producer.partitions_for(topic))
        for some in _portions(self.events[self.put_count : self.put_count + count]):
            sent = [
                await producer.send(
                    topic, it.value, it.key, partition=self._dice.choice(partitions), headers=list(it.headers)
                )
                for it in some
            ]
            await asyncio.gather(*sent)
            self.put_count += len(some)


@asynccontextmanager
async def _producing(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    producer = make_producer(settings)
    await start_within(producer)
    try:
        yield producer
    finally:
        await stop_within(producer)


def _bodies(call: Call) -> list[bytes]:
    """In the order of their delivery, copies included."""
    ends = [step for step in call.steps if step.webhook == "end-of-call" and not step.broken]
    return [step.content for step in ends for _ in range(step.copies)]


def _events(calls: Iterable[Call]) -> list[Event]:
    # An hour ago, so that it is never later than the broker's time of append, which would cut it.
    received_at = time.time_ns() // 1000 - _HOUR_US
    found = []
    for call in calls:
        for body in _bodies(call):
            received_at += 1000
            found.append(_event(call, body, received_at))
    return found


def _event(call: Call, body: bytes, received_at: int) -> Event:
    id_ = event_id(ENDED, call.session_id, body)
    agent_id = msgspec.json.decode(body).get("agent_id")
    envelope = Envelope(
        event_id=id_,
        received_at=received_at,
        session_id=call.session_id,
        agent_id=agent_id,
        caller=_caller(call),
        direction="unknown",
        body=msgspec.Raw(body),
    )
    headers = headers_of(ENDED, id_, received_at, call.session_id)
    return Event(call.session_id, id_, envelope.caller.id.encode(), msgspec.json.encode(envelope), headers)


def _caller(call: Call) -> Caller:
    number = call.books.caller if call.books else None
    digest = hashlib.sha256((number or call.session_id).encode()).hexdigest()[:32]
    return Caller(digest, "phone", number) if number else Caller(digest, "session", None)


def _portions(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    return (events[start : start + _AT_ONCE] for start in range(0, len(events), _AT_ONCE))
