"""Explanations as people and programs read them. An answer holds what is known of a caller: so do these."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from rich.text import Text

from cli.explainer.explanation import Explanation
from cli.letter_text import when
from schemas.answered import Answered
from schemas.event import rfc3339

_ID_CHARACTERS = 12

_STYLES = {"+": "green", "-": "red", "@": "cyan"}


class _Body(msgspec.Struct):
    metadata: Any
    extra_prompt: str


def answer_lines(body: bytes) -> list[str]:
    """Two answers can be compared by them: the metadata's keys are in order, the prompt has its own lines."""
    said = msgspec.json.decode(body, type=_Body)
    metadata = msgspec.json.format(msgspec.json.encode(said.metadata, order="sorted"), indent=2).decode()
    return ["metadata:", *metadata.splitlines(), "extra_prompt:", *said.extra_prompt.splitlines()]


def diff_lines(before: bytes, after: bytes, named_before: str, named_after: str) -> list[str]:
    lines = answer_lines(before), answer_lines(after)
    return list(difflib.unified_diff(*lines, named_before, named_after, lineterm=""))


def explanation_lines(it: Explanation, compared: str | None) -> Iterator[Text]:
    """`compared` names the folder of other templates, if there is one."""
    event, (topic, partition, offset) = it.announcement.event, it.announcement.place
    yield Text.assemble(
        (event.session_id, "bold"),
        f"  prefetch of {when(event.received_at)} UTC, agent {event.agent_id or 'unknown'},"
        f" caller {event.caller.id[:_ID_CHARACTERS]}, event {topic}/{partition}/{offset}",
    )
    if event.answered is not None:
        yield Text(_answered(event.answered), "dim")
    yield Text("")
    if it.then is None:
        yield Text(f"As of then it can't be made again. {it.why}", "yellow")
    elif it.confirmed:
        yield Text(it.why or "Made again, as of then: the same answer, to the byte.", "green")
    else:
        yield Text(f"Made again, as of then: {it.why}", "yellow")
    if it.then is not None:
        yield from (Text(f"  {line}") for line in answer_lines(it.then))
    yield Text("")
    yield from _compared(it.then, it.now, "As of now, with the templates in use", "as of now")
    if compared is not None:
        yield Text("")
        yield from _compared(it.then, it.other, f"As of then, with {compared}", compared)


def _compared(then: bytes | None, other: bytes | None, title: str, name: str) -> Iterator[Text]:
    if other is None:
        yield Text(f"{title}: nobody can know.")
    elif then is None:
        yield Text(f"{title}:")
        yield from (Text(f"  {line}") for line in answer_lines(other))
    elif then == other:
        yield Text(f"{title}: the same.")
    else:
        yield Text(f"{title}: another answer.")
        yield from styled(diff_lines(then, other, "as of then", name))


def styled(diff: Sequence[str]) -> Iterator[Text]:
    return (Text(line, _STYLES.get(line[:1], "")) for line in diff)


def _answered(answered: Answered) -> str:
    parts = [answered.outcome]
    if answered.took_us is not None:
        parts.append(f"made in {answered.took_us} us")
    if answered.template is not None:
        parts.append(f"with the template {answered.template}")
    if answered.ended_offset is not None:
        offsets = f"calls.ended before {answered.ended_offset}, callers.facts before {answered.facts_offset}"
        parts.append(f"from the caller's partition of {offsets}")
    return ", ".join(parts)


def explanation_json(it: Explanation, compared: str | None) -> dict[str, Any]:
    """Answers are as they went out. `then` is null when it can't be made again; `why` says why."""
    event, (topic, partition, offset) = it.announcement.event, it.announcement.place
    told = {
        "session_id": event.session_id,
        "event_id": event.event_id,
        "received_at": rfc3339(event.received_at),
        "agent_id": event.agent_id,
        "caller": event.caller,
        "event": {"topic": topic, "partition": partition, "offset": offset},
        "answered": event.answered,
        "then": _raw(it.then),
        "confirmed": it.confirmed,
        "why": it.why,
        "now": _raw(it.now),
    }
    return told if compared is None else told | {"prompts": compared, "other": _raw(it.other), "differs": it.differs}


def _raw(body: bytes | None) -> msgspec.Raw | None:
    return None if body is None else msgspec.Raw(body)
