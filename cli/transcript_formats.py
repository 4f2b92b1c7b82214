"""Transcripts as files: Markdown, JSON Lines, CSV. What was said is a guest's word, and must do nothing in a reader."""

import csv
import io
import re
from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from cli.terminal import printable
from cli.transcript_text import speaker, when
from consumers.conversations import Conversation
from consumers.weaving import PlacedCall
from schemas.chat import Turn
from schemas.event import rfc3339


class Format(Protocol):
    """How a file of transcripts begins, and how each of them is written in it. It keeps nothing between two of them."""

    suffix: str
    head: bytes

    def of(self, conversation: Conversation) -> bytes: ...


class JsonLines:
    """What `show --json` prints, one a line: everything, as it is."""

    suffix = "jsonl"
    head = b""

    def of(self, conversation: Conversation) -> bytes:
        return msgspec.json.encode(conversation) + b"\n"


# Spreadsheets take a cell that begins so for a formula, which may fetch and send things. After an apostrophe it is
# text; where one was already, there are two, so that taking one away leaves what was said.
_FORMULA = ("=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'")

_COLUMNS = (
    *("session_id", "agent_id", "caller_id", "started_at", "received_at", "duration_ms", "status", "chat_state"),
    *("line", "kind", "role", "text", "function", "params", "result", "place_known"),
)


class Csv:
    """A row for each turn and each function call, in their order, with what is known of the call before it."""

    suffix = "csv"

    def __init__(self) -> None:
        self.head = _csv_row(_COLUMNS)

    def of(self, conversation: Conversation) -> bytes:
        it = conversation
        call = (
            *(it.session_id, it.agent_id, it.caller_id, _time(it.started_at), _time(it.received_at)),
            *(it.duration_ms, it.original_status, it.chat_state),
        )
        lines = enumerate(_csv_lines(it), 1)
        return b"".join(_csv_row((*call, number, *line)) for number, line in lines)


def _csv_lines(it: Conversation) -> Iterator[tuple[Any, ...]]:
    """kind, role, text, function, params, result, place_known. A call of which nothing is known has one line, too."""
    empty = True
    if it.original_chat is not None:
        empty = False
        yield "original", None, it.original_chat, None, None, None, None
    for said in (*it.talk(), *it.calls_without_place):
        empty = False
        if isinstance(said, Turn):
            yield "turn", speaker(said), said.text, None, None, None, None
        else:
            yield "call", None, None, said.name, said.params, said.result, _yes(said.turns_before is not None)
    if empty:
        yield ("nothing", *(None,) * 6)


def _yes(true: bool) -> str:
    return "yes" if true else "no"


def _csv_row(cells: tuple[Any, ...]) -> bytes:
    row = io.StringIO()
    csv.writer(row).writerow([_cell(cell) for cell in cells])
    return row.getvalue().encode()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = printable(value)
    return "'" + text if text.startswith(_FORMULA) else text


def _time(micros: int | None) -> str | None:
    return None if micros is None else rfc3339(micros)


# What has a meaning in Markdown anywhere in a line; and at the beginning of one, where it would be a list or a heading.
_MEANINGFUL = re.compile(r"[\\`*_\[\]<>&#|~!$]")
_AT_THE_BEGINNING = re.compile(r"([-+=]|\d+(?=[.)]))")


class Markdown:
    """For people: a heading for each call, then what was said. No word of it is a link, an image or HTML."""

    suffix = "md"
    head = b""

    def of(self, conversation: Conversation) -> bytes:
        return ("\n\n".join(printable(part) for part in _paragraphs(conversation)) + "\n\n").encode()


def _paragraphs(it: Conversation) -> Iterator[str]:
    yield f"# {_code(it.session_id)}"
    duration = "unknown duration" if it.duration_ms is None else f"{it.duration_ms / 1000:g} s"
    facts = (when(it.started_at, it.received_at), duration, it.original_status or "no status")
    yield f"{_plain(', '.join(facts))}, agent {_code(it.agent_id) if it.agent_id else 'unknown'}"
    for said in it.talk():
        yield f"**{_plain(speaker(said))}:** {_plain(said.text)}" if isinstance(said, Turn) else _called(said)
    if it.original_chat is not None:
        yield "*The chat could not be read. As it came:*"
        yield _code(it.original_chat)
    elif not it.turns:
        yield "*Nothing was said.*" if it.chat_state == "ok" else "*No chat was sent.*"
    if it.calls_without_place:
        yield "*When these were called is not known:*"
        yield from map(_called, it.calls_without_place)
    if it.function_calls_state == "unreadable":
        yield "*The function calls could not be read; the event has them as they came.*"


def _called(call: PlacedCall) -> str:
    params = "" if call.params is None else f" with {_code(call.params)}"
    return f"**called** {_code(call.name)}{params}" + ("" if call.result is None else f", result {_code(call.result)}")


def _plain(text: str) -> str:
    """One paragraph, whatever it says; its lines stay lines, by a backslash at their end."""
    return "\\\n".join(_plain_line(line.strip()) for line in text.strip().splitlines())


def _plain_line(line: str) -> str:
    beginning = _AT_THE_BEGINNING.match(line)
    plain = _MEANINGFUL.sub(r"\\\g<0>", line)
    if not beginning:
        return plain
    if beginning[1] in "-+=":
        return "\\" + plain
    return f"{beginning[1]}\\{plain[len(beginning[1]) :]}"


def _code(text: str) -> str:
    """A span of code: between more backticks than it holds, on one line."""
    line = " ".join(text.splitlines()) or " "
    ticks = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{ticks} {line} {ticks}" if line[0] in "` " or line[-1] in "` " else f"{ticks}{line}{ticks}"
