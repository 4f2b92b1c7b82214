"""The topics of a consumer, read as one log."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Self

from consumers.log_reader import LogReader
from consumers.positions import Partition
from runtime.settings import Settings
from schemas.event import Record
from schemas.topics import Topic


class Log:
    """An asynchronous context manager around a `LogReader` a topic. Raises `KafkaUnavailable`."""

    def __init__(self, settings: Settings, topics: Sequence[Topic]) -> None:
        self._readers = [LogReader(settings, topic.named(settings.topic_prefix)) for topic in topics]
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for reader in self._readers:
            await self._stack.enter_async_context(reader)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def cluster_id(self) -> str:
        return self._readers[0].cluster_id

    @property
    def starts(self) -> dict[Partition, int]:
        return {partition: start for reader in self._readers for partition, start in reader.starts.items()}

    @property
    def ends(self) -> dict[Partition, int]:
        return {partition: end for reader in self._readers for partition, end in reader.ends.items()}

    @property
    def at(self) -> dict[Partition, int]:
        return {partition: at for reader in self._readers for partition, at in reader.at.items()}

    def go_to(self, at: Mapping[Partition, int]) -> None:
        """The next `read` begins there; partitions that are not named stay where they are."""
        for reader in self._readers:
            reader.at |= {partition: offset for partition, offset in at.items() if partition in reader.at}

    async def measure(self) -> None:
        for reader in self._readers:
            await reader.measure()

    async def offsets_at(self, time_ms: int) -> dict[Partition, int]:
        return {place: at for reader in self._readers for place, at in (await reader.offsets_at(time_ms)).items()}

    def events_before(self, targets: Mapping[Partition, int]) -> int:
        at = self.at
        return sum(max(0, target - at[partition]) for partition, target in targets.items())

    async def read(self, targets: Mapping[Partition, int]) -> AsyncIterator[list[Record]]:
        """What lies before the targets: one topic after the other, of each partition in its order."""
        for reader in self._readers:
            mine = {partition: target for partition, target in targets.items() if partition in reader.at}
            async for records in reader.read(mine):
                yield records

    @contextmanager
    def looking(self) -> Iterator[None]:
        """What is read inside is read again afterwards."""
        before = self.at
        try:
            yield
        finally:
            self.go_to(before)

    async def one(self, partition: Partition, offset: int) -> Record | None:
        """None for what is not there any more."""
        if not self.starts[partition] <= offset < self.ends[partition]:
            return None
        with self.looking():
            self.go_to({partition: offset})
            async for records in self.read({partition: offset + 1}):
                return records[0]
        return None
