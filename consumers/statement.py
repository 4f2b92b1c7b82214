"""The bill of one call, explained: what each body of it did, and why."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection

from consumers import revisions
from consumers.billing import Entries, Posting, postings_of, stored_entries
from consumers.bills import BILLING, KnownCall, call_of, decoded
from consumers.plan_charges import charges_of, stored_terms
from consumers.revisions import Revision
from consumers.terms import Terms


class Entry(msgspec.Struct, frozen=True):
    kind: str
    type: str
    provider: str
    amount_micros: int


class Step(msgspec.Struct, frozen=True):
    """What one body of the call posted. `event_id` is that of the event in `calls.ended`."""

    event_id: str
    received_at: int
    why: str
    entries: list[Entry]


class PlanCharge(msgspec.Struct, frozen=True):
    """The row of `plan_charges` as it is, and the terms that it names. `missing`: what it waits for."""

    row: dict[str, Any]
    terms: Terms
    missing: list[str]


class Statement(msgspec.Struct, frozen=True):
    """Amounts in micro-credits, times in microseconds since the epoch. `cost_micros` is what the entries add up to, and
    None while the provider has not told the cost."""

    session_id: str
    state: Literal["provisional", "final"]
    cost_micros: int | None
    called_at: int
    started_at: int | None
    duration_ms: int | None
    agent_id: str | None
    caller_id: str
    steps: list[Step]
    plan: PlanCharge | None


def statement_of(tx: Connection, session_id: str) -> Statement | None:
    """None when billing knows no such session."""
    history = revisions.of_session(tx, BILLING, session_id)
    if not history:
        return None
    call = call_of(history)
    entries = stored_entries(tx, [session_id]).get(session_id, {})
    known = call.cost_micros is not None
    return Statement(
        session_id=session_id,
        state="final" if known else "provisional",
        cost_micros=sum(row["amount_micros"] for row in entries.values()) if known else None,
        called_at=call.called_at,
        started_at=call.bill.started_at,
        duration_ms=call.bill.duration_ms,
        agent_id=call.bill.agent_id,
        caller_id=call.bill.caller.id,
        steps=list(_steps(history, entries)),
        plan=_plan(tx, session_id, call),
    )


def _steps(history: Sequence[Revision], stored: Entries) -> Iterator[Step]:
    postings = {posting.source.event_id: posting for posting in postings_of(history)}
    was_known = False
    for revision in history:
        is_known = decoded(revision.content).charges is not None
        entries = [
            Entry(row["kind"], row["type"], row["provider"], row["amount_micros"])
            for key, row in sorted(stored.items())
            if key[0] == revision.event_id
        ]
        why = _why(is_known, was_known, postings.get(revision.event_id))
        yield Step(revision.event_id, revision.received_at, why, entries)
        was_known |= is_known


def _why(is_known: bool, was_known: bool, posting: Posting | None) -> str:
    if not is_known:
        return "no cost told: what is known stays" if was_known else "no cost told: nothing to post yet"
    if posting is None:
        return "the same cost as before" if was_known else "the first known cost: nothing to pay for"
    return "another cost than before: the difference" if was_known else "the first known cost"


def _plan(tx: Connection, session_id: str, call: KnownCall) -> PlanCharge | None:
    row = charges_of(tx, [session_id]).get(session_id)
    if row is None:
        return None
    missing = []
    if row["minutes_micros"] is None:
        missing.append("the duration" if call.bill.duration_ms is None else "a price of the minutes below a billion")
    if row["passed_on_micros"] is None:
        missing.append("the cost" if call.cost_micros is None else "a marked-up cost below a billion")
    if row["amount_micros"] is None and not missing:
        missing.append("an amount below a billion")
    return PlanCharge(row, stored_terms(tx, [row["terms"]])[row["terms"]], missing)
