"""The turns in which words were said. Printing is the command's."""

import contextlib
import itertools
from array import array
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select, text

from consumers.database import clean_text
from consumers.rows import among
from consumers.tables import transcripts
from schemas.words import folded, indexed_words, word_numbers, words_of


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


# Both indexes know which words a call has, and not in which turns.
_CALLS = {
    "sqlite": "transcript_search f JOIN transcripts s ON s.rowid = f.rowid WHERE transcript_search MATCH :words",
    "postgresql": "transcripts s WHERE s.words @> CAST(:words AS integer[])",
}
_NEWEST_FIRST = "ORDER BY s.received_at DESC, s.session_id"

# Enough for most who look for a common word, and looked through in some milliseconds.
_CALLS_A_LOOK = 200

_COLUMNS = [transcripts.c[name] for name in ("session_id", "agent_id", "received_at", "started_at", "said", "speakers")]

_texts = msgspec.json.Decoder(list[str])
_speakers = msgspec.json.Decoder(list[tuple[str, str | None]])


def indexed(tx: Connection, texts: Iterable[str]) -> "str | array[int]":
    """The words of a call, each once, as the index of the database takes them: FTS5 as text between spaces, GIN as
    numbers. These are smaller and compared sooner, which is half of what the index costs; that two words may have the
    same is no harm, since a search looks at what was said."""
    return word_numbers(texts) if tx.dialect.name == "postgresql" else indexed_words(texts)


def find(tx: Connection, words: str, limit: int) -> list[Found]:
    """Turns in which all the words occur, the newest calls first. Raises `NoWords`.

    Words are words and never syntax: an `OR`, a quote or a star in them has no meaning of its own. What is written
    without a space, as `me@example.com`, is looked for side by side.
    """
    phrases = [words_of(together) for together in asked_words(words)]
    if not phrases:
        raise NoWords(f"{words!r} holds no word to look for")
    return list(itertools.islice(_found(tx, phrases), limit))


def asked_words(words: str) -> list[str]:
    """What stands between spaces, without what has neither letter nor digit: there is no such word."""
    return [word for word in clean_text(words).split() if any(letter.isalnum() for letter in word)]


def _found(tx: Connection, phrases: Sequence[Sequence[str]]) -> Iterator[Found]:
    words = {word for phrase in phrases for word in phrase}
    with contextlib.closing(_calls(tx, words)) as calls:
        for sessions in calls:
            these = select(*_COLUMNS).where(among(tx, transcripts.c.session_id, sessions))
            for row in tx.execute(these.order_by(transcripts.c.received_at.desc(), transcripts.c.session_id)):
                yield from _turns(row, words, phrases)


def _calls(tx: Connection, words: Iterable[str]) -> Generator[Sequence[str], None, None]:
    """Sessions in which all the words occur, the newest first, some at a time: of a common word they are many."""
    name = tx.dialect.name
    wanted: Any = " ".join(f'"{word}"' for word in words) if name == "sqlite" else list(word_numbers(words))
    statement = text(f"SELECT s.session_id FROM {_CALLS[name]} {_NEWEST_FIRST}")  # noqa: S608 - constants of this file
    # Streamed by a cursor, PostgreSQL expects to be asked for few: if the words are common, it begins with the newest.
    with tx.execute(statement.execution_options(yield_per=_CALLS_A_LOOK), {"words": wanted}) as found:
        yield from found.scalars().partitions(_CALLS_A_LOOK)


def _turns(row: Row[Any], words: Iterable[str], phrases: Sequence[Sequence[str]]) -> Iterator[Found]:
    """Of a call, those that have the phrases."""
    speakers: list[tuple[str, str | None]] = []
    for position, said in enumerate(_texts.decode(row.said)):
        plain = folded(said)
        if not all(word in plain for word in words):  # as nearly always, and sooner known
            continue
        spaced = f" {' '.join(words_of(said))} "
        if all(f" {' '.join(phrase)} " in spaced for phrase in phrases):
            speakers = speakers or _speakers.decode(row.speakers)
            yield Found(
                session_id=row.session_id,
                agent_id=row.agent_id,
                received_at=row.received_at,
                started_at=row.started_at,
                position=position,
                role=speakers[position][0],
                text=said,
            )
