"""Transcripts as people read them in a terminal."""

import re
from collections.abc import Sequence

from rich.text import Text

from consumers.conversations import Conversation
from consumers.search import Found
from consumers.weaving import PlacedCall
from schemas.chat import Turn
from schemas.event import rfc3339

_STYLES = {"user": "bold cyan", "agent": "bold green", "system": "dim", "tool": "magenta", "other": "yellow"}
_MATCH = "bold black on yellow"

_EXCERPT = 400  # characters of a turn in a list of matches: some five lines


def conversation_lines(it: Conversation) -> list[Text]:
    lines = [Text.assemble((it.session_id, "bold"), (f"  agent {it.agent_id or 'unknown'}", "dim"))]
    duration = "unknown duration" if it.duration_ms is None else f"{it.duration_ms / 1000:g} s"
    lines.append(Text(f"{when(it.started_at, it.received_at)}, {duration}, {it.original_status or 'no status'}", "dim"))
    lines += [Text(""), *(_turn_line(said) if isinstance(said, Turn) else _call_line(said) for said in it.talk())]
    if it.chat_state == "none" or (it.chat_state == "ok" and not it.turns):
        lines.append(Text("Nothing was said." if it.chat_state == "ok" else "No chat was sent.", "italic"))
    elif it.chat_state == "unreadable":
        lines += [Text("The chat could not be read. As it came:", "italic"), Text(it.original_chat or "")]
    if it.calls_without_place:
        lines += [Text(""), *(_call_line(call) for call in it.calls_without_place)]
    if it.function_calls_state == "unreadable":
        lines += [Text(""), Text("The function calls could not be read; the event has them as they came.", "italic")]
    return lines


def _turn_line(turn: Turn) -> Text:
    return Text.assemble((f"{speaker(turn):>6}  ", _STYLES.get(turn.role, "")), turn.text)


def _call_line(call: PlacedCall) -> Text:
    line = Text.assemble(("called  ", "bold magenta"), (call.name, "magenta"), f"({call.params or ''})")
    return line if call.result is None else line.append(f" -> {call.result}")


def found_lines(found: Sequence[Found], words: Sequence[str]) -> list[Text]:
    lines: list[Text] = []
    session: str | None = None
    for it in found:
        if it.session_id != session:
            session = it.session_id
            facts = f"  {when(it.started_at, it.received_at)}, agent {it.agent_id or 'unknown'}"
            lines += [Text("")] * bool(lines) + [Text.assemble((session, "bold"), (facts, "dim"))]
        line = Text.assemble((f"{it.position:>4} ", "dim"), (f"{it.role:>6}  ", _STYLES.get(it.role, "")))
        lines.append(line.append_text(_excerpt(it.text, words)))
    return lines


def _excerpt(said: str, words: Sequence[str]) -> Text:
    """The turn with its matches marked, of a long one what stands around the first."""
    parts = {part for word in words for part in re.findall(r"[^\W_]+", word)}
    either = "|".join(sorted(map(re.escape, parts), key=len, reverse=True))
    match = re.compile(rf"(?i)(?<![^\W_])(?:{either})(?![^\W_])")
    first = match.search(said)
    start = max(0, (first.start() if first else 0) - _EXCERPT // 2)
    cut = said[start : start + _EXCERPT]
    text = Text(f"{'…' * (start > 0)}{cut}{'…' * (start + len(cut) < len(said))}")
    text.highlight_regex(match, _MATCH)
    return text


def speaker(turn: Turn) -> str:
    """The role; of one that we don't know, what was sent."""
    return turn.original_role or turn.role if turn.role == "other" else turn.role


def when(started_at: int | None, received_at: int) -> str:
    """To the second, in UTC."""
    time = rfc3339(received_at if started_at is None else started_at)
    return ("received " if started_at is None else "") + time[:19].replace("T", " ") + " UTC"
