"""The turns in which words were said. Only SQL; printing is the command's."""

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, TextClause, text

from consumers.database import clean_text


class NoWords(ValueError):
    """What was asked for holds no letter and no digit: nothing that an index of words could find."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A turn in which all the words occur. Times in microseconds since the epoch."""

    session_id: str
    agent_id: str | None
    received_at: int
    started_at: int | None
    position: int
    role: str
    text: str


_FOUND = "t.session_id, s.agent_id, s.received_at, s.started_at, t.position, t.role, t.text"
_NEWEST_FIRST = "ORDER BY s.received_at DESC, t.session_id, t.position LIMIT :limit"

_ON_SQLITE = text(
    f"SELECT {_FOUND} FROM transcript_search f"  # noqa: S608 - constants of this file
    " JOIN transcript_turns t ON t.rowid = f.rowid JOIN transcripts s ON s.session_id = t.session_id"
    f" WHERE transcript_search MATCH :words {_NEWEST_FIRST}"
)
_ON_POSTGRESQL = text(
    f"SELECT {_FOUND} FROM transcript_turns t"  # noqa: S608 - constants of this file
    " JOIN transcripts s ON s.session_id = t.session_id"
    f" WHERE t.search @@ plainto_tsquery('simple', :words) {_NEWEST_FIRST}"
)


def find(tx: Connection, words: str, limit: int) -> list[Found]:
    """Turns in which all the words occur, the newest calls first. Raises `NoWords`.

    Words are words and never syntax: an `OR`, a quote or a star in them has no meaning of its own.
    """
    asked = asked_words(words)
    if not asked:
        raise NoWords(f"{words!r} holds no word to look for")
    statement: TextClause
    if tx.dialect.name == "sqlite":
        # Quoted, each is a string to FTS5, which splits it by its own rules and looks for the parts side by side.
        statement, said = _ON_SQLITE, " ".join('"' + word.replace('"', '""') + '"' for word in asked)
    else:
        statement, said = _ON_POSTGRESQL, " ".join(asked)
    return [Found(**row) for row in map(_named, tx.execute(statement, {"words": said, "limit": limit}))]


def asked_words(words: str) -> list[str]:
    """What stands between spaces, without what has neither letter nor digit: FTS5 finds nothing for an empty string."""
    return [word for word in clean_text(words).split() if any(letter.isalnum() for letter in word)]


def _named(row: Row[Any]) -> dict[str, Any]:
    return dict(row._mapping)
