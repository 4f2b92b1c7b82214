"""The table `recordings` as a queue of work, shared by several processes on PostgreSQL."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Column, ColumnElement, Connection, Engine, Row, Update, or_, select, text, update

from consumers import outbox
from consumers.database import read_only
from consumers.outbox import OutboxEvent
from consumers.recordings.backoff import JITTER, LONGEST_DELAY_S, STORAGE_AWAY_DELAY_S
from consumers.recordings.consumer import NAME, stems
from consumers.recordings.storage import StoredSound
from consumers.revisions import COLUMNS, Revision
from consumers.tables import recordings, revisions
from runtime.clock import Clock, system_clock
from schemas.caller import Caller
from schemas.derived import RecordingStored
from schemas.event import RECORDED, event_id
from schemas.topics import RECORDINGS_STORED

# How long a row stays with a worker that has died. It is renewed several times in that time, so it may be short.
LEASE_S = 60.0

# No delay of ours is longer. A row that is due later than this, or leased for longer than a lease lasts, was written
# under a clock that has been set back since: it would wait for days, until its address has expired.
FARTHEST_S = LONGEST_DELAY_S * (1 + JITTER) + STORAGE_AWAY_DELAY_S

_MAX_ERROR_LENGTH = 500

_US = 1_000_000


class Job(msgspec.Struct):
    """A row that one worker has for itself until `leased_until`, which also tells its holder from any later one."""

    session_id: str
    event_id: str
    url: str
    stems: Sequence[str]
    attempts: int
    leased_until: int


class WorkTable:
    """Every method is one transaction; raises what the database raises. Blocks: call it in a thread.

    A worker whose lease has lapsed, and whose row is another's, changes nothing: its methods return False.

    Without a `clock` it goes by PostgreSQL's, the same for all processes whatever their own say. SQLite has none.
    """

    def __init__(self, engine: Engine, clock: Clock | None = None) -> None:
        self._engine = engine
        self._clock = clock

    def claim(self, limit: int) -> list[Job]:
        """Leases up to `limit` rows that are due, those that have waited longest first."""
        # Looking costs nobody anything; on SQLite a transaction that may write holds up all the others.
        with read_only(self._engine).connect() as looking:
            now = self._now(looking)
            due = (
                select(recordings.c.session_id)
                .where(recordings.c.status == "pending", _past(recordings.c.next_attempt_at, now, FARTHEST_S))
                .where(_past(recordings.c.leased_until, now, 2 * LEASE_S))
                .order_by(recordings.c.next_attempt_at, recordings.c.session_id)
                .limit(limit)
            )
            if looking.execute(due.limit(1)).first() is None:
                return []
        with self._engine.begin() as tx:
            ids = tx.scalars(due.with_for_update(skip_locked=True)).all()
            if not ids:
                return []
            until = now + int(LEASE_S * _US)
            mine = recordings.c.session_id.in_(ids)
            tx.execute(update(recordings).where(mine).values(leased_until=until))
            rows = tx.execute(select(recordings).where(mine).order_by(recordings.c.next_attempt_at)).all()
            histories = _histories(tx, ids)
        return [_job(row, histories[row.session_id], until) for row in rows]

    def renew(self, job: Job) -> bool:
        with self._engine.begin() as tx:
            until = self._now(tx) + int(LEASE_S * _US)
            kept = tx.execute(_of(job).values(leased_until=until)).rowcount == 1
        if kept:
            job.leased_until = until
        return kept

    def stored(self, job: Job, sound: StoredSound) -> bool:
        """The row becomes `stored`, and `recordings.stored` will tell of it.

        A stored row keeps nothing of how it came about, so that a rebuilt one is the same to the byte.
        """
        plain = {"attempts": 0, "next_attempt_at": 0, "leased_until": 0, "error": None}
        with self._engine.begin() as tx:
            if tx.execute(_of(job).values(status="stored", **msgspec.structs.asdict(sound), **plain)).rowcount != 1:
                return False
            row = tx.execute(select(recordings).where(recordings.c.session_id == job.session_id)).one()
            outbox.post(tx, NAME, [_event(row, sound)])
        return True

    def again(self, job: Job, error: str, delay_s: float) -> bool:
        """Not this time: counts an attempt."""
        return self._end(job, error, delay_s, status="pending", attempts=job.attempts + 1)

    def failed(self, job: Job, error: str) -> bool:
        """The last of its attempts was in vain."""
        return self._end(job, error, status="failed", attempts=job.attempts + 1)

    def refused(self, job: Job, reason: str) -> bool:
        return self._end(job, reason, status="refused", attempts=job.attempts + 1)

    def postponed(self, job: Job, error: str, delay_s: float) -> bool:
        """Later, without counting an attempt: it was not the recording's fault."""
        return self._end(job, error, delay_s)

    def release(self, job: Job) -> None:
        """Gives the row back as it was."""
        with self._engine.begin() as tx:
            tx.execute(_of(job).values(leased_until=0))

    def _end(self, job: Job, error: str, delay_s: float | None = None, **values: str | int) -> bool:
        with self._engine.begin() as tx:
            if delay_s is not None:
                values["next_attempt_at"] = self._now(tx) + int(delay_s * _US)
            # A revision may have brought another URL meanwhile: what was said of the old one doesn't hold for it.
            ended = tx.execute(
                _of(job)
                .where(recordings.c.url == job.url)
                .values(error=error[:_MAX_ERROR_LENGTH], leased_until=0, **values)
            )
            if ended.rowcount == 1:
                return True
            tx.execute(_of(job).values(leased_until=0))
        return False

    def _now(self, tx: Connection) -> int:
        return now_us(tx) if self._clock is None else self._clock()


def now_us(tx: Connection) -> int:
    """By PostgreSQL's clock, or the process's on SQLite, which has none."""
    if tx.dialect.name == "sqlite":
        return system_clock()
    return int(tx.execute(text("SELECT extract(epoch FROM clock_timestamp()) * 1000000")).scalar_one())


def _past(time: Column[int], now: int, farthest_s: float) -> ColumnElement[bool]:
    return or_(time <= now, time > now + int(farthest_s * _US))


def _job(row: Row[Any], history: Sequence[Revision], leased_until: int) -> Job:
    return Job(row.session_id, row.event_id, row.url, stems(row.session_id, history), row.attempts, leased_until)


def _of(job: Job) -> Update:
    """The row, if it is still the job's."""
    return update(recordings).where(
        recordings.c.session_id == job.session_id,
        recordings.c.status == "pending",
        recordings.c.leased_until == job.leased_until,
    )


def _histories(tx: Connection, session_ids: Sequence[str]) -> dict[str, list[Revision]]:
    """The revisions of the sessions, in their order."""
    mine = (revisions.c.consumer == NAME) & revisions.c.session_id.in_(session_ids)
    found: dict[str, list[Revision]] = {}
    for session_id, *revision in tx.execute(select(revisions.c.session_id, *COLUMNS).where(mine)):
        found.setdefault(session_id, []).append(Revision(*revision))
    return {session_id: sorted(history, key=lambda it: it.order) for session_id, history in found.items()}


def _event(row: Row[Any], sound: StoredSound) -> OutboxEvent:
    caller = msgspec.json.decode(row.caller, type=Caller)
    # By what is stored: a rebuilt database says it again, under the same id.
    id_ = event_id(RECORDED, row.session_id, f"{sound.object}\0{sound.sha256}".encode())
    value = RecordingStored(
        event_id=id_,
        session_id=row.session_id,
        agent_id=row.agent_id,
        caller=caller,
        source_event_id=row.event_id,
        **msgspec.structs.asdict(sound),
    )
    return OutboxEvent(
        topic=RECORDINGS_STORED,
        caller_id=caller.id,
        event_type=RECORDED,
        event_id=id_,
        time=row.received_at,
        session_id=row.session_id,
        value=msgspec.json.encode(value),
    )
