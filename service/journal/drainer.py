"""From the spool to Kafka: what gathered while a partition was away, in its order."""

import asyncio
import time

from aiokafka.errors import (
    InvalidMessageError,
    InvalidTimestampError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
)

from runtime.logs import logger
from runtime.metrics import DRAINED
from service.journal.backlog import Place
from service.journal.connection import Connection
from service.journal.lane import ACK_DEADLINE_S, Lane
from service.journal.spooler import DISK_ERRORS, RETRY_S, Spooler

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
)

TRIES = 3  # then a record that is sent by itself is taken to be refused for good


class Drainer:
    """Empties the backlog of one lane after the other. A record is deleted when Kafka has acknowledged it, never
    before: killed in between, it is published again, with the same id."""

    def __init__(self, spooler: Spooler, connection: Connection) -> None:
        self._spooler = spooler
        self._connection = connection
        self._places = asyncio.Semaphore(PLACES_AT_ONCE)
        self._log = logger("service.journal")

    async def drain(self, lane: Lane) -> None:
        """Returns when the lane is closed: nothing of it waits any more, and Kafka has taken the last of it."""
        retry_s = FIRST_RETRY_S
        refusals = 0
        while True:
            await self._connection.up.wait()
            try:
                await lane.late(LATE_S)
                await self._empty(lane, one_by_one=refusals > 0)
                return
            except REFUSALS as error:
                lane.open(repr(error))
                refusals += 1
                if refusals > TRIES:
                    self._set_first_aside(lane, error)
                    refusals = 0
                self._connection.rebuild(repr(error))  # after a refused batch a producer is out of sequence for ever
                await self._connection.fresh()
            except DISK_ERRORS as error:
                lane.open(f"the spool can't be read: {error}")
                await asyncio.sleep(RETRY_S)
            except Exception as error:
                reason = str(error) or repr(error)
                self._log.info(
                    "a partition can't be emptied yet", topic=lane.topic, partition=lane.partition, reason=reason
                )
                lane.open(reason)
                if not lane.is_late:  # or it is given its time first
                    self._connection.rebuild(reason)
                    await asyncio.sleep(retry_s)
                    retry_s = min(retry_s * 2, MAX_RETRY_S)

    async def _empty(self, lane: Lane, one_by_one: bool) -> None:
        """Raises what the lane and the spool raise; then the lane may be held, and some of it is done."""
        place = lane.topic, lane.partition
        records = 1 if one_by_one else BATCH_RECORDS
        proven = False
        while (rest := self._spooler.backlog.count(place)) and not (proven and rest <= BATCH_RECORDS):
            async with self._places:
                worked_s = await self._step(lane, place, records, DELIVERY_DEADLINE_S)
            proven, records = True, BATCH_RECORDS
            await asyncio.sleep(worked_s)  # half of the loop at the most is ours
        await self._finish(lane, place)

    async def _finish(self, lane: Lane, place: Place) -> None:
        """What comes now waits behind the rest, so that no event overtakes another.

        The deletions are awaited, too: an event that is published again, because we were killed, must not come after a
        younger one.
        """
        lane.hold()
        async with asyncio.timeout(2 * ACK_DEADLINE_S):
            await self._spooler.flushed()
            while self._spooler.backlog.count(place):
                await self._step(lane, place, BATCH_RECORDS, ACK_DEADLINE_S)
            await self._spooler.flushed()
        lane.close()

    async def _step(self, lane: Lane, place: Place, records: int, deadline_s: float) -> float:
        """One batch. How long it kept the loop busy, in seconds."""
        backlog = self._spooler.backlog
        seqs = backlog.first(place, records, BATCH_BYTES)
        entries = await self._spooler.read(seqs)
        started = time.thread_time()
        count = await lane.deliver(entries, deadline_s)
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
