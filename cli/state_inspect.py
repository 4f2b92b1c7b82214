"""`ringlog state inspect CALLER`"""

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import typer

from cli.context import EXIT_FAILED, complain, explained, load, out
from cli.state_dump import positions_text
from cli.state_store import opened, store_of
from cli.terminal import printable
from runtime.settings import Settings
from schemas.event import rfc3339
from schemas.money import credits_text
from state.dump import described_profile, described_session
from state.events import MAX_CALLER_ID_LENGTH
from state.fold import FOLD_VERSION
from state.generations import FROM_SNAPSHOT
from state.layout import Damaged
from state.view import StoreView

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def inspect(
    caller: Annotated[str, typer.Argument(help="A phone number, such as +15551234567, or a caller's id.")],
    json: Json = False,
) -> None:
    """Show all that is known of a caller, each call with all events that came for it, and how far topics were read.

    A session is known by the hash of its id, and by the ids of its events, which are in the topics. Exit code 1 when
    nothing is known.

    Example:

        ringlog state inspect +15551234567
    """
    with explained():
        settings = load()
        path = store_of(settings)
        with opened(path) as view:
            said = _said(view, _id_of(settings, view, caller))
            begun_with = path / FROM_SNAPSHOT
            snapshot = begun_with.read_text().strip() if begun_with.exists() else None
    if said is None:
        complain("Nothing is known of this caller.")
        raise typer.Exit(EXIT_FAILED)
    said["store"] |= {"path": str(path), "snapshot": snapshot}
    if json:
        typer.echo(msgspec.json.encode(said))
        return
    for line in _lines(said):
        out.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def _id_of(settings: Settings, view: StoreView, caller: str) -> bytes:
    """What is no caller's id is a number. Raises `SettingsError` for a number, without the key that hashes it."""
    as_id = caller.encode(errors="replace")
    if len(as_id) <= MAX_CALLER_ID_LENGTH and view.profile(as_id) is not None:
        return as_id
    identity = settings.identity()
    number = identity.e164(caller)
    return as_id if number is None else identity.id_of_number(number).encode()


def _said(view: StoreView, caller: bytes) -> dict[str, Any] | None:
    profile, about = view.profile(caller), view.about()
    if profile is None:
        return None
    calls = [_call(view, key) for key in view.sessions_of(caller)]
    calls.sort(key=lambda call: call["at"])
    return {
        "caller": caller.decode(),
        "profile": described_profile(profile),
        "calls": calls,
        "store": {
            "fold_version": FOLD_VERSION,
            "lineage": about.lineage if about else None,
            "caught_up": about.caught_up if about else False,
            "positions": {f"{topic}/{number}": at for (topic, number), at in sorted(view.positions().items())},
        },
    }


def _call(view: StoreView, key: bytes) -> dict[str, Any]:
    """How it counts, and all that came for it."""
    session = view.session(key)
    call = session.call() if session else None
    if session is None or call is None:
        raise Damaged(f"there is no session {key.hex()} that a caller has")
    return {"session": key.hex(), "at": call.at, "cost_micros": call.cost_micros} | described_session(session)


def _lines(said: dict[str, Any]) -> Iterator[str]:
    profile, store = said["profile"], said["store"]
    yield f"Caller {said['caller']}"
    for title in ("facts", "metadata"):
        for name, value in profile[title].items():
            yield f"  {title.removesuffix('s')} {name} = {msgspec.json.encode(value).decode()}"
    unknown = f", {profile['unknown_costs']} of unknown cost" if profile["unknown_costs"] else ""
    yield (
        f"  {_counted(profile['calls'], 'call')}, {_seconds(profile['duration_ms'])},"
        f" {credits_text(profile['cost_micros'])} credits{unknown}; {profile['prefetches']} announced"
    )
    for call in said["calls"]:
        yield from _call_lines(call)
    yield f"Store {store['path']}, fold version {store['fold_version']}, of {lineage_text(store['lineage'] or '/')}"
    if store["snapshot"]:
        yield f"  begun with the snapshot {store['snapshot']}"
    yield f"  read up to {positions_text(store['positions'])}"
    if not store["caught_up"]:
        yield "  It has not caught up with the topics yet, so nobody is answered from it."


def _call_lines(call: dict[str, Any]) -> Iterator[str]:
    last = call["revisions"][-1]
    cost = "unknown cost" if call["cost_micros"] is None else f"{credits_text(call['cost_micros'])} credits"
    yield (
        f"Call {rfc3339(call['at'])}: {last['status'] or 'no status'}, {_seconds(last['duration_ms'])}, {cost},"
        f" agent {last['agent_id'] or 'unknown'}"
    )
    yield f"  session {call['session']} (a hash of its id)"
    if prefetch := call["prefetch"]:
        yield f"  announced {rfc3339(prefetch['received_at'])}, event {prefetch['event_id']}"
    for revision in call["revisions"]:
        what = "recovered" if revision["recovered"] else "ended"
        yield f"  {what} {rfc3339(revision['received_at'])}, event {revision['event_id']}"


def lineage_text(lineage: str) -> str:
    """Of `<cluster id>/<topic prefix>`."""
    cluster, _, prefix = lineage.partition("/")
    return f"cluster {cluster or 'unknown'}" + (f", topics {prefix}*" if prefix else "")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _seconds(duration_ms: int | None) -> str:
    return "unknown length" if duration_ms is None else f"{duration_ms / 1000:g} s"
