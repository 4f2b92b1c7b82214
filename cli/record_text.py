"""A record of any topic, as people and programs read it. Nothing that lies in a topic breaks either."""

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from rich.text import Text

from cli.letter_text import when
from cli.terminal import printable
from schemas.dead_letter import ERROR, OFFSET, PARTITION, TOPIC
from schemas.event import (
    CALLER_FACT,
    CHARGED,
    ENDED,
    PREFETCHED,
    RECORDED,
    REJECTED,
    TRANSCRIBED,
    Record,
    rfc3339,
)
from schemas.lenient import UNREADABLE
from schemas.money import credits_text

# Of a caller's id: enough to see which lines are of one caller. A key that is none may be anything, a number even.
_ID_CHARACTERS = 12
_KEY = re.compile(rb"[0-9a-f]{32}(?=/|$)")

_json = msgspec.json.Decoder()


class Read(msgspec.Struct, frozen=True):
    """The record's value, or why it can't be read. An empty record (a deletion) has neither."""

    value: Any = None
    error: str | None = None

    def member(self, *names: str) -> Any:
        """None where there is none, at any depth."""
        found = self.value
        for name in names:
            found = found.get(name) if isinstance(found, Mapping) else None
        return found

    def text(self, *names: str) -> str | None:
        found = self.member(*names)
        return found if isinstance(found, str) else None


def read(record: Record) -> Read:
    if record.value is None:
        return Read()
    try:
        return Read(_json.decode(record.value))
    except UNREADABLE as error:
        return Read(error=str(error) or type(error).__name__)


def record_json(record: Record) -> bytes:
    """One line. `value` is the JSON that lies there, to the digit. What is none is told by `unreadable`, its bytes in
    `text`, or in `base64` when they are no UTF-8."""
    told: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "appended_at": rfc3339(record.appended_ms * 1000),
        "key": _text(record.key),
        "headers": [[name, _text(value)] for name, value in record.headers],
    }
    said = read(record)
    if record.value is None:
        told["value"] = None
    elif said.error is None:
        told["value"] = msgspec.Raw(msgspec.json.format(record.value, indent=-1))
    else:
        told |= {"value": None, "unreadable": said.error, **_bytes(record.value)}
    return msgspec.json.encode(told)


def record_line(record: Record) -> Text:
    """When, where, what, whose: without phone numbers and without what was said."""
    said = read(record)
    line = Text()
    line.append(f"{when(record.appended_ms * 1000)}  ", "dim")
    line.append(f"{record.topic}/{record.partition}/{record.offset}  ", "cyan")
    line.append((record.event_type or "no event").removeprefix("ringlog."), "bold")
    for name, value in (("session", _session(record, said)), ("agent", said.text("agent_id"))):
        if value:
            line.append(f"  {name} {value}")
    if caller := _caller(record, said):
        line.append(f"  caller {caller[:_ID_CHARACTERS]}")
    if said.error is not None:
        line.append(f"  unreadable, {len(record.value or b'')} bytes: {said.error}", "red")
    else:
        line.append(f"  {_details(record, said)}")
    if (error := record.header(ERROR)) is not None:
        place = "/".join(record.header(name) or "?" for name in (TOPIC, PARTITION, OFFSET))
        line.append(f"  {error}, event at {place}", "red")
    line.rstrip()
    line.plain = printable(line.plain.replace("\n", " "))  # one for one: the styles stay where they are
    return line


def body_text(record: Record) -> str:
    """The value, indented; with whatever personal data is in it."""
    if record.value is None:
        return "(empty: a deletion)"
    try:
        return printable(msgspec.json.format(record.value, indent=2).decode())
    except UNREADABLE:
        return printable(record.value.decode(errors="replace"))


def _session(record: Record, said: Read) -> str | None:
    return said.text("session_id") or record.header("ce_subject")


def _caller(record: Record, said: Read) -> str | None:
    key = _KEY.match(record.key or b"")
    return said.text("caller", "id") or said.text("caller_id") or (key[0].decode() if key else None)


def _details(record: Record, said: Read) -> str:
    if record.value is None:
        return f"{_fact_of(record)} deleted"
    details = _DETAILS.get(record.event_type or "")
    parts = details(said) if details is not None else []
    return ", ".join(str(part) for part in parts if part is not None)


def _fact_of(record: Record) -> str:
    return (record.key or b"").decode(errors="replace").partition("/")[2]


def _ended(said: Read) -> list[Any]:
    duration = said.member("body", "duration")
    lasted = f"{duration:g} s" if isinstance(duration, int | float) and not isinstance(duration, bool) else None
    return [said.text("body", "call_status"), lasted, "recovered" if said.member("recovered") is True else None]


def _prefetched(said: Read) -> list[Any]:
    took = said.member("answered", "took_us")
    return [said.text("answered", "outcome"), f"{took} us" if isinstance(took, int) else None]


def _rejected(said: Read) -> list[Any]:
    return [said.text("webhook"), said.text("reason"), said.text("detail")]


def _charged(said: Read) -> list[Any]:
    total = said.member("total_micros")
    return [said.text("kind"), f"{credits_text(total)} credits in all" if isinstance(total, int) else None]


def _transcribed(said: Read) -> list[Any]:
    return [said.text("state"), f"{said.member('turns')} turns"]


def _recorded(said: Read) -> list[Any]:
    return [said.text("object"), f"{said.member('bytes')} bytes"]


_DETAILS: dict[str, Callable[[Read], list[Any]]] = {
    PREFETCHED: _prefetched,
    ENDED: _ended,
    REJECTED: _rejected,
    CALLER_FACT: lambda said: [said.text("fact")],
    CHARGED: _charged,
    TRANSCRIBED: _transcribed,
    RECORDED: _recorded,
}


def _text(value: bytes | None) -> Any:
    """Text, or in `{"base64": ...}` what is no UTF-8."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _bytes(value: bytes) -> dict[str, str]:
    text = _text(value)
    return {"text": text} if isinstance(text, str) else text
