"""How the outcome of a replay is written for people and for programs. Amounts are exact."""

from collections.abc import Iterator
from typing import Any

import msgspec

from consumers.replay.comparison import Change, Differing, Total
from consumers.replay.replay import Report
from schemas.money import credits_text

# More would push everything else off the screen.
_SHOWN_FAILURES = 20


def report_json(it: Report) -> dict[str, Any]:
    said: dict[str, Any] = msgspec.to_builtins(it)
    return said | {"different": bool(it.differing)}


def report_lines(it: Report) -> Iterator[str]:
    if it.anew:
        yield f"What an earlier replay had built was of no use: {it.anew}."
    yield f"{_count(it.events, 'event')} of {_count(it.sessions, 'call')} replayed, {_window(it)}."
    yield from _left_lines(it)
    yield from _failure_lines(it)
    if it.differing:
        yield from _difference_lines(it)
    if it.differing or (it.swapped and it.swapped.sessions):
        yield _verdict(it)
    else:
        yield f"The tables of {it.consumer} are what the log says: nothing differs."


def _difference_lines(it: Report) -> Iterator[str]:
    yield ""
    yield f"{_count(it.differing, 'call')} {'differs' if it.differing == 1 else 'differ'}."
    yield from _change_lines(it.changes)
    yield from _total_lines(it.totals)
    yield ""
    for differing in it.first:
        yield _differing_line(differing)
    if (more := it.differing - len(it.first)) > 0 and it.first:
        yield f"... and {more} more."
    yield ""


def _window(it: Report) -> str:
    until = f"until {it.window.until}" if it.window.until else f"as far as {it.consumer} is"
    return f"from {'the beginning' if it.window.since == 'beginning' else it.window.since}, {until}"


def _left_lines(it: Report) -> Iterator[str]:
    if it.given_up:
        book = f"`ringlog dead-letters list {it.consumer}` has them"
        yield f"Left out, as {it.consumer} has given them up: {_count(it.given_up, 'event')}. {book}."
    if it.partial:
        yield f"Left as they are, as not all of their events were replayed: {_count(it.partial, 'call')}."
    if it.moved and not it.swapped:
        yield f"Not compared yet, as an event of theirs came just now: {_count(it.moved, 'call')}."


def _failure_lines(it: Report) -> Iterator[str]:
    if not it.failures:
        return
    yield f"{_count(len(it.failures), 'event')} failed, and would be dead letters; their calls stay as they are:"
    for failure in it.failures[:_SHOWN_FAILURES]:
        place = f"{failure.topic}/{failure.partition}/{failure.offset}"
        yield f"  {place}  {failure.error} at {failure.place}, session {failure.session_id or 'unknown'}"
    if (more := len(it.failures) - _SHOWN_FAILURES) > 0:
        yield f"  ... and {more} more; --json says all of them."


def _change_lines(changes: list[Change]) -> Iterator[str]:
    width = max(len(change.book) for change in changes)
    yield ""
    yield f"  {'rows of':<{width}}  {'added':>8}  {'removed':>8}  {'changed':>8}"
    for it in changes:
        yield f"  {it.book:<{width}}  {it.added:>8}  {it.removed:>8}  {it.changed:>8}"


def _total_lines(totals: list[Total]) -> Iterator[str]:
    if not totals:
        return
    rows = [
        (
            f"{it.book} {it.of}",
            *map(credits_text, (it.before_micros, it.after_micros, it.difference_micros)),
        )
        for it in totals
    ]
    header = ("total of", "before", "after", "difference")
    widths = [max(len(row[n]) for row in (header, *rows)) for n in range(4)]
    yield ""
    for row in (header, *rows):
        first, *rest = row
        amounts = "  ".join(f"{text:>{width}}" for text, width in zip(rest, widths[1:], strict=True))
        yield f"  {first:<{widths[0]}}  {amounts}"


def _differing_line(it: Differing) -> str:
    money = [
        f"{_of(total)} {credits_text(total.before_micros)} -> {credits_text(total.after_micros)}" for total in it.totals
    ]
    rows = [f"{change.book} {_rows(change)}" for change in it.changes]
    return f"{it.session_id}  {'; '.join(money or rows)}"


def _of(total: Total) -> str:
    return f"charged {total.of}" if total.book == "plan_charges" else total.of


def _rows(change: Change) -> str:
    said = {"added": change.added, "removed": change.removed, "changed": change.changed}
    return ", ".join(f"{count} {what}" for what, count in said.items() if count)


def _verdict(it: Report) -> str:
    if it.swapped is None:
        return f"Nothing was changed. `ringlog replay {it.consumer} --swap` puts this in place, --discard forgets it."
    told = f", and {_count(it.swapped.told, 'derived event')} will tell of it" if it.swapped.told else ""
    return (
        f"{_count(it.swapped.sessions, 'call')} replaced in the live tables{told}."
        f" {it.consumer} waited for {it.swapped.held_s:.1f} s."
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
