"""Dead letters as people and programs read them."""

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from rich.table import Table

from cli.terminal import printable
from consumers.letter_book import Letter, place
from schemas.dead_letter import MESSAGE
from schemas.event import Record, rfc3339


def table_of(letters: Sequence[Letter], prefix: str) -> Table:
    settled = any(letter.outcome for letter in letters)
    table = Table(box=None, pad_edge=False)
    for name in ("letter", "given up (UTC)", "error", "session", *["outcome"] * settled):
        table.add_column(name, overflow="fold", no_wrap=name in ("letter", "given up (UTC)"))  # cut, it was no use
    for letter in letters:
        cells = [place(letter).removeprefix(prefix), when(letter.given_up_at), letter.error, letter.session_id or "-"]
        cells += [letter.outcome or "unsettled"] * settled
        table.add_row(*(printable(cell).replace("[", r"\[") for cell in cells))
    return table


def row_json(letter: Letter) -> dict[str, Any]:
    """What the book has. Times are RFC 3339."""
    return {
        "place": place(letter),
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "event_id": letter.event_id,
        "session_id": letter.session_id,
        "error": letter.error,
        "given_up_at": rfc3339(letter.given_up_at),
        "outcome": letter.outcome,
        "settled_at": None if letter.settled_at is None else rfc3339(letter.settled_at),
    }


def letter_json(letter: Letter, record: Record, event: Record) -> dict[str, Any]:
    """`body` and headers are text, or in `{"base64": ...}` what is no UTF-8."""
    return row_json(letter) | {
        "message": record.header(MESSAGE),
        "letter": {"topic": record.topic, "partition": record.partition, "offset": record.offset},
        "key": _text(event.key),
        "headers": [[name, _text(value)] for name, value in event.headers],
        "body": _text(event.value),
    }


def letter_lines(letter: Letter, record: Record, event: Record) -> Iterator[str]:
    yield f"{place(letter)}: {_outcome(letter)}"
    yield f"given up  {when(letter.given_up_at)} UTC"
    yield f"error     {letter.error}: {record.header(MESSAGE) or 'it said nothing'}"
    yield f"letter    {record.topic}/{record.partition}/{record.offset}"
    yield ""
    for name, value in event.headers:
        yield f"{name}: {value.decode(errors='replace')}"
    yield ""
    yield _pretty(event.value)


def when(time_us: int) -> str:
    """To the second."""
    return rfc3339(time_us)[:19].replace("T", " ")


def _outcome(letter: Letter) -> str:
    if letter.outcome is None or letter.settled_at is None:
        return "unsettled"
    return f"{letter.outcome} {when(letter.settled_at)}"


def _pretty(value: bytes | None) -> str:
    if value is None:
        return "(no body)"
    try:
        return msgspec.json.format(value, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return value.decode(errors="replace")


def _text(value: bytes | None) -> str | dict[str, str] | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}
