"""The table `recordings` as people ask it: what has become of each call's sound, and giving some another chance."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, func, select, update
from yarl import URL

from consumers.database import clean_text, read_only
from consumers.tables import recordings

# Rows read at once, and sessions named in one statement: fewer than SQLite takes variables.
_PAGE = 500


class Status(StrEnum):
    PENDING = "pending"
    STORED = "stored"
    FAILED = "failed"
    REFUSED = "refused"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A row without its URL, of which only the host may be shown. Times in microseconds since the epoch."""

    session_id: str
    agent_id: str | None
    status: str
    received_at: int
    host: str | None
    attempts: int
    next_attempt_at: int
    error: str | None
    object: str | None
    bytes: int | None
    sha256: str | None
    content_type: str | None


def find(tx: Connection, *, status: Status | None, since_us: int | None, limit: int) -> list[Entry]:
    """The newest calls first."""
    newest = select(recordings).where(*_those(status, since_us))
    rows = tx.execute(newest.order_by(recordings.c.received_at.desc(), recordings.c.session_id).limit(limit))
    return [_entry(row) for row in rows.mappings()]


def counts(tx: Connection, *, status: Status | None = None, since_us: int | None = None) -> dict[str, tuple[int, int]]:
    """By status: how many recordings, and how many bytes."""
    of = recordings.c
    grouped = select(of.status, func.count(), func.coalesce(func.sum(of.bytes), 0)).where(*_those(status, since_us))
    return {row[0]: (int(row[1]), int(row[2])) for row in tx.execute(grouped.group_by(of.status).order_by(of.status))}


def stored(engine: Engine, since_us: int | None) -> Iterator[Entry]:
    """All that are stored, by session, a page at a time: there may be millions, and reading them takes long."""
    after = ""
    while True:
        with read_only(engine).connect() as tx:
            next_ones = select(recordings).where(*_those(Status.STORED, since_us), recordings.c.session_id > after)
            page = tx.execute(next_ones.order_by(recordings.c.session_id).limit(_PAGE)).mappings().all()
        if not page:
            return
        yield from map(_entry, page)
        after = page[-1]["session_id"]


def named(tx: Connection, session_ids: Sequence[str]) -> dict[str, Entry | None]:
    """By the id as it was said, each once; None where there is no row."""
    asked = {session_id: clean_text(session_id) for session_id in session_ids}
    found: dict[str, Entry] = {}
    for some in _pages(sorted(set(asked.values()))):
        rows = tx.execute(select(recordings).where(recordings.c.session_id.in_(some)))
        found |= {row["session_id"]: _entry(row) for row in rows.mappings()}
    return {said: found.get(clean) for said, clean in asked.items()}


def retry(tx: Connection, now_us: int, session_ids: Sequence[str]) -> int:
    """Due at once with a fresh budget, whatever has become of them; how many. What is stored is forgotten.

    A worker that has such a row keeps it: what comes of it then is newer than we are.
    """
    done = 0
    for some in _pages(session_ids):
        done += tx.execute(_anew(now_us).where(recordings.c.session_id.in_(some))).rowcount
    return done


def retry_all(tx: Connection, now_us: int, statuses: Sequence[Status], since_us: int | None) -> int:
    """As `retry`, for all of these, which are `failed` or `refused`."""
    anew = _anew(now_us).where(recordings.c.status.in_(statuses), *_those(None, since_us))
    return int(tx.execute(anew).rowcount)


def _anew(now_us: int) -> Any:
    return update(recordings).values(
        status="pending",
        attempts=0,
        next_attempt_at=now_us,
        error=None,
        object=None,
        bytes=None,
        sha256=None,
        content_type=None,
    )


def _those(status: Status | None, since_us: int | None) -> list[ColumnElement[bool]]:
    conditions = []
    if status is not None:
        conditions.append(recordings.c.status == status.value)
    if since_us is not None:
        conditions.append(recordings.c.received_at >= since_us)
    return conditions


def _pages(session_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (session_ids[start : start + _PAGE] for start in range(0, len(session_ids), _PAGE))


def _entry(row: Any) -> Entry:
    return Entry(host=host_of(row["url"]), **{name: row[name] for name in Entry.__struct_fields__ if name != "host"})


def host_of(url: str) -> str | None:
    """All of a URL that may be shown: the rest of it may be a credential."""
    try:
        return URL(url).host
    except ValueError:  # this is no place to judge a URL: the guard does
        return None
