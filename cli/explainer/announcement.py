"""The events of prefetches, found in the log."""

import asyncio
from collections.abc import Callable, Mapping

import msgspec
from sqlalchemy import select

from cli.database import opened
from consumers.database import DatabaseUnavailable, read_only
from consumers.log_reader import LogReader
from consumers.positions import Partition
from consumers.tables import call_log
from runtime.settings import Settings
from runtime.threads import in_thread
from schemas.event import Envelope, Record, decode_envelope
from schemas.lenient import UNREADABLE
from schemas.partition import partition_of
from schemas.topics import CALLS_PREFETCH

# The provider asks again, if at all, within moments.
TOGETHER_MS = 600_000

# Told what is done now, how far it is, and of how many.
Told = Callable[[str, int, int], None]


class Interrupted(Exception):
    """It was stopped before its end."""


class Announcement(msgspec.Struct, frozen=True):
    """`place` is where the event lies."""

    event: Envelope
    place: tuple[str, int, int]
    appended_ms: int

    @property
    def caller(self) -> bytes:
        return self.event.caller.id.encode()


async def of_session(settings: Settings, session: str, stop: asyncio.Event, tell: Told) -> list[Announcement]:
    """The prefetches of a session that came together, in their order; none when there is none.

    The log of calls in the database says where to look, when it knows the call; else the whole topic is read. Raises
    `KafkaUnavailable` and `Interrupted`.
    """
    async with LogReader(settings, CALLS_PREFETCH.named(settings.topic_prefix)) as log:
        hint = await in_thread(_hint, settings, session)
        if hint is not None:
            caller_id, prefetched_ms = hint
            offsets = await log.offsets_at(prefetched_ms)
            likely = sorted(log.ends)[partition_of(caller_id.encode(), len(log.ends))]
            log.at[likely] = offsets[likely]
            if found := await _read(log, {likely: log.ends[likely]}, session, stop, tell):
                return found
        log.at = dict(log.starts)
        return await _read(log, log.ends, session, stop, tell)


async def last(settings: Settings, number: int, stop: asyncio.Event, tell: Told) -> list[Announcement]:
    """The last so many prefetches by the broker's time, each event once. Raises as `of_session`."""
    async with LogReader(settings, CALLS_PREFETCH.named(settings.topic_prefix)) as log:
        log.at = {partition: max(log.starts[partition], end - number) for partition, end in log.ends.items()}
        records: list[Record] = []
        total = log.events_before(log.ends)
        async for some in log.read(log.ends):
            records += some
            tell("Reading prefetches", len(records), total)
            if stop.is_set():
                raise Interrupted
    records.sort(key=lambda record: (record.appended_ms, record.partition, record.offset))
    found: dict[str, Announcement] = {}
    for record in reversed(records):
        announcement = _announcement(record)
        if announcement is not None and len(found) < number:
            found[announcement.event.event_id] = announcement  # of one that came twice the first counts
    return list(found.values())[::-1]


async def _read(
    log: LogReader, targets: Mapping[Partition, int], session: str, stop: asyncio.Event, tell: Told
) -> list[Announcement]:
    found: list[Announcement] = []
    total = log.events_before(targets)
    async for records in log.read(targets):
        for record in records:
            # The header first: it is there, and to read millions of values takes long.
            if record.header("ce_subject") in (session, None) and (announcement := _announcement(record)) is not None:
                found += [announcement] if announcement.event.session_id == session else []
        tell("Looking for the session", total - log.events_before(targets), total)
        if stop.is_set():
            raise Interrupted
        if found and records[-1].appended_ms > found[0].appended_ms + TOGETHER_MS:
            break
    return sorted(found, key=lambda it: it.appended_ms)


def _announcement(record: Record) -> Announcement | None:
    try:
        event = decode_envelope(record.value or b"")
    except UNREADABLE:
        return None
    return Announcement(event, (record.topic, record.partition, record.offset), record.appended_ms)


def _hint(settings: Settings, session: str) -> tuple[str, int] | None:
    """Whose call it is, and when its prefetch was received, in milliseconds: it was appended then or later."""
    columns = call_log.c.caller_id, call_log.c.prefetched_at
    try:
        with opened(settings) as engine, read_only(engine).connect() as tx:
            row = tx.execute(select(*columns).where(call_log.c.session_id == session)).one_or_none()
    except DatabaseUnavailable:
        return None
    return None if row is None or row.prefetched_at is None else (row.caller_id, row.prefetched_at // 1000)
