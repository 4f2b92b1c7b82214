"""Transcripts read back whole: one, or all that are asked for, a page at a time. Printing is the command's."""

from collections.abc import Iterator
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, and_, func, select, true

from consumers.database import clean_text, read_only
from consumers.tables import transcripts
from consumers.weaving import PlacedCall
from schemas.chat import Turn

# Transcripts in memory at once: each is some kilobytes, and may be some megabytes.
PAGE = 50


_PARTS = [column for column in transcripts.c if column.name != "words"]

_texts = msgspec.json.Decoder(list[str])
_speakers = msgspec.json.Decoder(list[tuple[str, str | None]])
_calls = msgspec.json.Decoder(list[PlacedCall])


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A transcript as the tables have it. Times in microseconds since the epoch."""

    session_id: str
    event_id: str
    agent_id: str | None
    caller_id: str
    received_at: int
    started_at: int | None
    duration_ms: int | None
    status: str | None
    original_status: str | None
    chat_state: str
    original_chat: str | None
    turns: list[Turn]
    function_calls_state: str
    function_calls: list[PlacedCall]

    def talk(self) -> Iterator[Turn | PlacedCall]:
        """The turns, and between them the calls of which it is known where they belong."""
        waiting = sorted((it for it in self.function_calls if it.turns_before is not None), key=_turns_before)
        waiting.reverse()
        for position, turn in enumerate(self.turns):
            while waiting and _turns_before(waiting[-1]) <= position:
                yield waiting.pop()
            yield turn
        yield from reversed(waiting)

    @property
    def calls_without_place(self) -> list[PlacedCall]:
        return [call for call in self.function_calls if call.turns_before is None]


class Choice(msgspec.Struct, frozen=True):
    """Which transcripts: of an agent, and of calls that began from `since` on and before `until` (microseconds).

    Of a call that doesn't say when it began, it counts when its end was received.
    """

    since: int | None = None
    until: int | None = None
    agent_id: str | None = None

    def clause(self) -> ColumnElement[bool]:
        began = func.coalesce(transcripts.c.started_at, transcripts.c.received_at)
        clauses: list[ColumnElement[bool]] = []
        if self.since is not None:
            clauses.append(began >= self.since)
        if self.until is not None:
            clauses.append(began < self.until)
        if self.agent_id is not None:
            clauses.append(transcripts.c.agent_id == clean_text(self.agent_id))
        return and_(true(), *clauses)


def snapshots(engine: Engine) -> Engine:
    """For reading only, and each transaction sees one moment: a transcript written anew is the old one or the new one.

    SQLite's transactions are so by themselves.
    """
    reading = read_only(engine)
    if engine.dialect.name == "sqlite":
        return reading
    return reading.execution_options(isolation_level="REPEATABLE READ")


def read(tx: Connection, session_id: str) -> Conversation | None:
    """None when there is no transcript of that session."""
    found = _read(tx, select(*_PARTS).where(transcripts.c.session_id == clean_text(session_id)))
    return found[0] if found else None


def count(tx: Connection, choice: Choice) -> int:
    return tx.execute(select(func.count()).select_from(transcripts).where(choice.clause())).scalar_one()


def page(tx: Connection, choice: Choice, after: str | None, size: int = PAGE) -> list[Conversation]:
    """The next `size` after that session, ordered by session id: what is written meanwhile changes nobody's place."""
    statement = select(*_PARTS).where(choice.clause())
    if after is not None:
        statement = statement.where(transcripts.c.session_id > after)
    return _read(tx, statement.order_by(transcripts.c.session_id).limit(size))


def _read(tx: Connection, statement: Select[Any]) -> list[Conversation]:
    return [_conversation(row) for row in tx.execute(statement)]


def _conversation(row: Row[Any]) -> Conversation:
    parts = dict(row._mapping)
    said, speakers = _texts.decode(parts.pop("said")), _speakers.decode(parts.pop("speakers"))
    parts["turns"] = [Turn(role, text, sent) for text, (role, sent) in zip(said, speakers, strict=True)]
    parts["function_calls"] = _calls.decode(parts.pop("called"))
    return Conversation(**parts)


def _turns_before(call: PlacedCall) -> int:
    return call.turns_before or 0
