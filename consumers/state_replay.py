"""The topics read from their beginning exactly as far as a store has read them, and folded into another one."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

from aiokafka.errors import KafkaError

from consumers.follower import Follower, Interrupted, Offsets, Partition
from consumers.stopping import Stopped
from runtime.kafka import KafkaUnavailable
from runtime.settings import Settings
from runtime.threads import in_thread
from schemas.topics import CALLERS_FACTS
from state.events import Unreadable, read_fact
from state.fold import TOPICS
from state.slices import Slice
from state.store import ProfileStore

# Kafka answers a fetch within half a second, and a new leader within a dozen.
PATIENCE_S = 20.0

# Whatever comes between two questions for the end of a topic is little; a topic that grows faster is not waited for.
ROUNDS = 5


Use = Callable[[list[Slice]], Awaitable[object]]


class StateReplay:
    """An asynchronous context manager; inside it `lineage`, `starts` and `ends` are those of the topics.

    `read` is how many offsets were passed so far. Everything raises `KafkaUnavailable`, also for a topic that is not
    there, and `Stopped` soon after `stop` was set.
    """

    def __init__(self, settings: Settings, stop: asyncio.Event, tell: Callable[[int], None]) -> None:
        self._follower = Follower(settings, TOPICS, time.monotonic)
        self._stop = stop
        self._tell = tell
        self._at: Offsets = {}
        self.read = 0

    @property
    def lineage(self) -> str:
        return self._follower.lineage

    @property
    def starts(self) -> Offsets:
        return self._follower.starts

    @property
    def ends(self) -> Offsets:
        return self._follower.ends

    async def __aenter__(self) -> Self:
        try:
            await self._follower.open()
            self._follower.start({})
            self._at = dict(self.starts)
        except BaseException as error:
            await self._follower.close()
            raise _explained(error) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._follower.close()
        if error is not None and (explained := _explained(error)) is not error:
            raise explained from error

    async def confirm_ends(self, positions: Offsets) -> None:
        await self._follower.confirm_ends(positions)

    async def fold(self, store: ProfileStore, targets: Mapping[Partition, int]) -> None:
        """Folds what lies before the targets and was not read before; then these are the positions of the store.

        The order of the topics doesn't matter to the fold, so `targets` may name some partitions now, others later.
        """

        async def fold(slices: list[Slice]) -> None:
            await in_thread(store.fold, slices)

        await self._each(targets, fold)
        # Marks of transactions, and records that were compacted away, bring no message to fold.
        await in_thread(store.fold, [Slice(*where, target, ()) for where, target in targets.items()])

    async def facts_since(self, positions: Mapping[Partition, int]) -> dict[bytes, set[str]]:
        """By caller: which facts have a record at or after the positions, up to the end of the topic by now."""
        named: dict[bytes, set[str]] = {}

        async def note(slices: list[Slice]) -> None:
            for message in (message for part in slices for message in part.messages):
                try:
                    fact = read_fact(message.key, None)
                except Unreadable:
                    continue
                named.setdefault(fact.caller, set()).add(fact.name)

        for _ in range(ROUNDS):
            ends = await self._follower.ask_ends()
            targets = {where: ends[where] for where in positions if where[0] == CALLERS_FACTS.name}
            if all(self._at[where] >= target for where, target in targets.items()):
                break
            await self._each(targets, note)
        return named

    async def _each(self, targets: Mapping[Partition, int], use: Use) -> None:
        self._follower.start(self._at)  # more was fetched, perhaps, than was wanted
        reading: set[Partition] = set()
        moved_at = time.monotonic()
        while behind := {where for where, target in targets.items() if self._at[where] < target}:
            if self._stop.is_set():
                raise Stopped
            if behind != reading:
                self._follower.only(behind)
                reading = behind
            slices = [_before(targets, part) for part in await self._follower.poll()]
            if slices:
                await use(slices)
            positions = await self._follower.positions()
            passed = 0
            for where in behind:
                to = min(positions[where], targets[where])
                passed += to - self._at[where]
                self._at[where] = to
            if passed:
                self.read += passed
                self._tell(self.read)
                moved_at = time.monotonic()  # only now: what was done with them may have taken long
            elif time.monotonic() - moved_at > PATIENCE_S:
                raise TimeoutError(f"nothing came for {PATIENCE_S:g} s")


def _before(targets: Mapping[Partition, int], part: Slice) -> Slice:
    target = targets[part.topic, part.partition]
    if part.next_offset <= target:
        return part
    messages = [message for message in part.messages if message.offset < target]
    return Slice(part.topic, part.partition, target, messages)


def _explained(error: BaseException) -> BaseException:
    if isinstance(error, KafkaError | TimeoutError | Interrupted) and not isinstance(error, KafkaUnavailable):
        return KafkaUnavailable(f"Kafka can't be read: {str(error) or 'it gave no answer'}")
    return error
