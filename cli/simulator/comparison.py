"""What the books must say beside what they say."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from cli.simulator.book_reader import CallerSums, Said, StoredRecording, Transcript, WholeCall
from cli.simulator.call import Call, CallBooks, Costs
from cli.simulator.expectation import CallerBooks
from cli.simulator.sound import Sound

_NOTHING = "nothing"

# Of a value in a table: enough to see where two differ.
_TOLD_LENGTH = 200


class Difference(msgspec.Struct, frozen=True):
    """`about` is a session or a caller, `what` the part of the books."""

    about: str
    what: str
    expected: str
    said: str


def differences(call: Call, said: Said, *, all_announced: bool = False) -> list[Difference]:
    """What the books say wrongly of one call. `all_announced`: no prefetch may lack its event."""
    books = _unwanted(said) if call.books is None else _of_books(call.books, said)
    found = [*books, *_of_call(call, said.call, all_announced)]
    return [Difference(call.session_id, what, _told(expected), _told(other)) for what, expected, other in found]


def caller_differences(
    callers: Mapping[str, CallerBooks], ids: Mapping[str, set[str]], sums: Mapping[str, CallerSums]
) -> list[Difference]:
    """`ids` are the caller ids that the books have for the calls of a number; one number has one, and shares it not."""
    found = []
    owner: dict[str, str] = {}
    for number, books in callers.items():
        known = sorted(ids.get(number, ()))
        if len(known) != 1:
            found.append(Difference(number, "caller ids", "1", str(len(known))))
            continue
        if (other := owner.setdefault(known[0], number)) != number:
            found.append(Difference(number, "caller id", "its own", f"that of {other}"))
        said = sums.get(known[0], CallerSums())
        found += [
            Difference(number, what, str(getattr(books, what)), str(getattr(said, what)))
            for what in ("calls", "total_micros", "duration_ms")
            if getattr(books, what) != getattr(said, what)
        ]
    return found


def shared_profiles(nameless: Iterable[tuple[str, str]], known: Mapping[str, set[str]]) -> list[Difference]:
    """Calls of nobody, as (session, caller id): none may share its profile with another call or with a number."""
    taken = {caller_id: number for number, ids in known.items() for caller_id in ids}
    found = []
    for session_id, caller_id in nameless:
        if (other := taken.setdefault(caller_id, session_id)) != session_id:
            found.append(Difference(session_id, "caller id", "its own", f"that of {other}"))
    return found


_Found = Iterator[tuple[str, Any, Any]]


def _unwanted(said: Said) -> _Found:
    books = {"bill": said.costs, "transcript": said.transcript, "recording": said.recording}
    if present := [name for name, row in books.items() if row is not None]:
        yield "books", "in none of them", ", ".join(present)


def _of_call(call: Call, said: WholeCall | None, all_announced: bool) -> _Found:
    """Nobody waits for the event of a prefetch: when a service was killed it may be missing. None must be made up."""
    books = call.books
    if said is None:
        if books is not None or (all_announced and call.is_announced):
            yield "call", "a row", _NOTHING
        return
    if books is None and not call.is_announced:
        yield "call", _NOTHING, "a row"
        return
    expected = WholeCall(
        prefetched=call.is_announced and (all_announced or said.prefetched),
        ended=books is not None,
        recovered=call.lost,
        status=books.status if books else None,
    )
    for name in expected.__struct_fields__:
        if getattr(expected, name) != getattr(said, name):
            yield f"call {name}", getattr(expected, name), getattr(said, name)


def _of_books(books: CallBooks, said: Said) -> _Found:
    yield from _of_costs(books.costs, said.costs)
    if said.transcript is None:
        yield "transcript", f"{books.chat_state}, {len(books.turns)} turns", _NOTHING
    else:
        yield from _of_transcript(books, said.transcript)
    yield from _of_recording(books.recording, said.recording)


def _of_costs(expected: Costs | None, said: Costs | None) -> _Found:
    if expected is None:
        if said is not None:
            yield "cost", "unknown", f"{sum(said.values())} micro-credits"
        return
    # A part that costs nothing may have an entry or none: the sums say the same.
    entries = said or {}
    for key in sorted(expected.keys() | entries.keys()):
        if expected.get(key, 0) != entries.get(key, 0):
            other = _NOTHING if key not in entries else f"{entries[key]} micro-credits"
            yield "cost of {} by {}".format(*key), f"{expected.get(key, 0)} micro-credits", other


def _of_transcript(books: CallBooks, said: Transcript) -> _Found:
    for name in ("agent_id", "status", "original_status", "started_at", "duration_ms", "chat_state"):
        if getattr(books, name) != getattr(said, name):
            yield name, getattr(books, name), getattr(said, name)
    for name in ("turns", "function_calls"):
        yield from _of_list(name, getattr(books, name), getattr(said, name))


def _of_list(name: str, expected: list[Any], said: list[Any]) -> _Found:
    if len(expected) != len(said):
        yield name, len(expected), len(said)
        return
    for position, (one, other) in enumerate(zip(expected, said, strict=True)):
        if one != other:
            yield f"{name} {position}", one, other


def _of_recording(expected: Sound | None, said: StoredRecording | None) -> _Found:
    if expected is None:
        if said is not None:
            yield "recording", _NOTHING, said.status
    elif said is None:
        yield "recording", "stored", _NOTHING
    elif said.status != "stored":
        yield "recording", "stored", f"{said.status}: {said.error}" if said.error else said.status
    elif (expected.bytes, expected.sha256) != (said.bytes, said.sha256):
        yield "recording", sound_text(expected.bytes, expected.sha256), sound_text(said.bytes, said.sha256)


def sound_text(size: int | None, sha256: str | None) -> str:
    return f"{size} bytes, sha256 {(sha256 or '')[:16]}"


def _told(value: Any) -> str:
    text = value if isinstance(value, str) else _NOTHING if value is None else repr(value)
    return text if len(text) <= _TOLD_LENGTH else text[:_TOLD_LENGTH] + "…"
