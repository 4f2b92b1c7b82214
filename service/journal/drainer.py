"""From the spool to Kafka: what gathered while a partition was away, in its order."""

import asyncio
import time
from dataclasses import dataclass

from aiokafka.errors import (
    InvalidMessageError,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
)

from runtime.kafka import InvalidRecord
from runtime.logs import logger
from runtime.metrics import DRAINED
from service.journal.backlog import Place
from service.journal.connection import Connection
from service.journal.disk import DISK_ERRORS, RETRY_S
from service.journal.lane import ACK_DEADLINE_S, Lane, Unacknowledged
from service.journal.spooler import Spooler

# Some milliseconds of the loop's time, which nobody who calls may notice.
BATCH_RECORDS = 200
BATCH_BYTES = 512 * 1024

# Nobody waits for it. What is late may come yet, and a producer that is left alone outlives the election of a leader,
# which takes ten seconds; after these it is made anew.
DELIVERY_DEADLINE_S = 5.0
LATE_S = 10.0

# Partitions that are emptied at once; while one waits for its acknowledgement another is read.
PLACES_AT_ONCE = 4

FIRST_RETRY_S = 0.2
MAX_RETRY_S = 5.0

# What Kafka says of a record, not of itself or of us. An error that is not among them is waited out, however long.
REFUSALS = (
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    InvalidMessageError,
    InvalidTimestampError,
    PolicyViolationError,
    InvalidRecord,
)

TRIES = 3  # then a record that is sent by itself is taken to be refused for good


@dataclass
class _Suspects:
    """A batch was refused, and nobody says for which record: these, the first that wait, go one by one."""

    count: int = 0
    tries: int = 0  # of the first of them, by itself

    def refused(self, records: int) -> None:
        self.tries = self.tries + 1 if records == 1 else 0
        self.count = max(self.count, records)

    def cleared(self, records: int) -> None:
        self.tries = 0
        self.count = max(self.count - records, 0)


class Drainer:
    """Empties the backlog of one lane after the other. A record is deleted when Kafka has acknowledged it, never
    before: killed in between, it is published again, with the same id."""

    def __init__(self, spooler: Spooler, connection: Connection) -> None:
        self._spooler = spooler
        self._connection = connection
        self._places = asyncio.Semaphore(PLACES_AT_ONCE)
        self._log = logger("service.journal")

    async def drain(self, lane: Lane) -> None:
        """Returns when the lane is closed: nothing of it waits any more, and Kafka has taken the last of it.

        While the spool can't be read the lane is closed, too: what Kafka takes now must not wait for a disk.
        """
        retry_s = FIRST_RETRY_S
        suspects = _Suspects()
        while True:
            await self._connection.up.wait()
            try:
                await lane.late(LATE_S)
                if await self._empty(lane, suspects):
                    return
            except REFUSALS as error:
                lane.open(repr(error))
                if suspects.tries >= TRIES:
                    self._set_first_aside(lane, error)
                    suspects.cleared(1)
                self._connection.rebuild(repr(error))  # after a refused batch a producer is out of sequence for ever
                await self._connection.fresh()
            except Unacknowledged as error:
                retry_s = await self._retry(lane, error, retry_s)
            except DISK_ERRORS as error:  # Unacknowledged is an OSError, too, and not of the disk
                self._let_kafka_have_it(lane, error)
                await asyncio.sleep(RETRY_S)
            except Exception as error:
                retry_s = await self._retry(lane, error, retry_s)

    async def _retry(self, lane: Lane, error: Exception, retry_s: float) -> float:
        """Waits. How long the next time."""
        reason = str(error) or repr(error)
        self._log.info("a partition can't be emptied yet", topic=lane.topic, partition=lane.partition, reason=reason)
        lane.open(reason)
        if lane.is_late:  # it is given its time first
            return retry_s
        self._connection.rebuild(reason)
        await asyncio.sleep(retry_s)
        return min(retry_s * 2, MAX_RETRY_S)

    def _let_kafka_have_it(self, lane: Lane, error: Exception) -> None:
        reason = f"the spool can't be read: {error or type(error).__name__}"
        if self._connection.is_up and (lane.is_open or lane.is_held):
            self._log.error(
                "what waits in the spool is overtaken", topic=lane.topic, partition=lane.partition, reason=reason
            )
            lane.close()

    async def _empty(self, lane: Lane, suspects: _Suspects) -> bool:
        """Whether the lane is closed. Raises what the lane and the spool raise; then the lane may be held, and some of
        it is done."""
        place = lane.topic, lane.partition
        backlog = self._spooler.backlog
        proven = False
        while (rest := backlog.count(place)) and not (
            proven and rest == len(backlog.first(place, BATCH_RECORDS, BATCH_BYTES))
        ):
            async with self._places:
                worked_s = await self._step(lane, place, suspects, DELIVERY_DEADLINE_S)
            proven = True
            await asyncio.sleep(worked_s)  # half of the loop at the most is ours
            backlog = self._spooler.backlog
        return await self._finish(lane, place, suspects)

    async def _finish(self, lane: Lane, place: Place, suspects: _Suspects) -> bool:
        """What comes now waits behind the rest, so that no event overtakes another.

        The deletions are awaited, too: an event that is published again, because we were killed, must not come after a
        younger one.
        """
        lane.hold()
        await self._flushed()
        while lane.is_held and self._spooler.backlog.count(place):
            await self._step(lane, place, suspects, ACK_DEADLINE_S)
        await self._flushed()
        if lane.is_held and self._spooler.backlog.count(place):  # the spool was opened anew, and has some of it again
            lane.open("the spool goes first")
        if not lane.is_held:  # Kafka was lost meanwhile, and what came since is in the spool
            return False
        lane.close()
        return True

    async def _flushed(self) -> None:
        """Raises `TimeoutError`: those who wait for the lane have no more time than for Kafka."""
        async with asyncio.timeout(ACK_DEADLINE_S):
            await self._spooler.flushed()

    async def _step(self, lane: Lane, place: Place, suspects: _Suspects, deadline_s: float) -> float:
        """One batch. How long it kept the loop busy, in seconds."""
        backlog = self._spooler.backlog
        seqs = backlog.first(place, 1 if suspects.count else BATCH_RECORDS, BATCH_BYTES)
        entries = await self._spooler.read(seqs)
        if backlog is not self._spooler.backlog:  # it was opened anew, and these numbers may be others' now
            return 0.0
        if not lane.is_held:
            lane.open("the spool goes first")
        started = time.thread_time()
        try:
            count = await lane.deliver(entries, deadline_s)
        except REFUSALS:
            suspects.refused(len(entries))
            raise
        suspects.cleared(count)
        self._spooler.delete(backlog, seqs[:count])
        backlog.remove(place, count)
        DRAINED.labels(lane.topic).inc(count)
        return time.thread_time() - started

    def _set_first_aside(self, lane: Lane, error: Exception) -> None:
        backlog, place = self._spooler.backlog, (lane.topic, lane.partition)
        for seq in backlog.first(place, 1, 0):
            self._log.error("Kafka refuses an event: the spool sets it aside", topic=lane.topic, error=repr(error))
            self._spooler.refuse(backlog, seq, repr(error))
            backlog.remove(place, 1)
