"""The ledger: what each event changed on the bill of its call, in micro-credits.

The entries of a session follow from its revisions alone. In their order, each one whose cost is known and differs from
the last known one posts the difference: so the sum of a session's entries is its last known cost, whatever the order of
arrival, and an unknown cost takes nothing away.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, delete, select

from consumers import outbox, revisions
from consumers.bills import BILLING, Bill, bill_of, decoded, encoded
from consumers.calls import derived_event_id, ended_call
from consumers.plan_charges import PlanCharges
from consumers.plans import Plans
from consumers.revisions import Revision
from consumers.rows import among, insert_rows
from consumers.tables import billing_entries
from schemas.cost import Charge
from schemas.derived import Charged
from schemas.event import CHARGED, Record
from schemas.topics import BILLING_CHARGES, CALLS_ENDED, Topic

CHARGE = "charge"
ADJUSTMENT = "adjustment"

_Key = tuple[str, str]  # type, provider

# Rows of `billing_entries` of one session, by event, type and provider.
Entries = dict[tuple[str, str, str], dict[str, Any]]


class Posting(msgspec.Struct, frozen=True):
    """What one revision posts, `history` being the revisions up to and with it, and `bill` its own."""

    kind: str
    entries: tuple[Charge, ...]
    total_micros: int
    bill: Bill
    history: Sequence[Revision]

    @property
    def source(self) -> Revision:
        return self.history[-1]


class Billing:
    """A `consumers.contract.Consumer`: `calls.ended` to `billing_entries`, `plan_charges` and `billing.charges`."""

    name = BILLING
    topics: tuple[Topic, ...] = (CALLS_ENDED,)
    thread_safe = True

    def __init__(self, plans: Plans | None = None, plan_charges: PlanCharges | None = None) -> None:
        self._plan_charges = plan_charges or PlanCharges(plans)

    def handle(self, tx: Connection, records: Sequence[Record]) -> None:
        """Raises `UnreadableEvent` for an event whose cost can't be read as money."""
        metadata_key = self._plan_charges.metadata_key
        seen: dict[str, list[Revision]] = {}
        for record in records:
            call = ended_call(record)
            seen.setdefault(call.session_id, []).append(call.revision(encoded(bill_of(call, metadata_key))))
        recorded = revisions.record(tx, self.name, seen)
        changed = recorded.changed
        stored = stored_entries(tx, recorded.known)
        gone: list[dict[str, Any]] = []
        new: list[dict[str, Any]] = []
        events: list[outbox.OutboxEvent] = []
        for session_id in sorted(changed):
            postings = list(postings_of(changed[session_id]))
            rows = entries_of(session_id, postings)
            before = stored.get(session_id, {})
            gone += [before[key] for key in before if rows.get(key) != before[key]]
            new += [row for key, row in rows.items() if before.get(key) != row]
            events += _events(session_id, postings, before, rows)
        _write(tx, gone, new)
        self._plan_charges.record(tx, changed, recorded.known)
        outbox.post(tx, self.name, events)


def postings_of(history: Sequence[Revision]) -> Iterator[Posting]:
    """What a session's revisions post, in their order."""
    last: dict[_Key, int] | None = None
    for position, revision in enumerate(history, 1):
        bill = decoded(revision.content)
        if bill.charges is None:
            continue
        cost = {(charge.type, charge.provider): charge.amount_micros for charge in bill.charges}
        # A first item of zero is posted too: it was known to be free, which is more than nothing known.
        entries = bill.charges if last is None else _differences(last, cost)
        if entries:
            kind = CHARGE if last is None else ADJUSTMENT
            yield Posting(kind, entries, sum(cost.values()), bill, history[:position])
        last = cost


def _differences(before: Mapping[_Key, int], after: Mapping[_Key, int]) -> tuple[Charge, ...]:
    """What leads from one cost to another; an item that vanished is taken back."""
    keys = sorted(before.keys() | after.keys())
    differences = (Charge(*key, after.get(key, 0) - before.get(key, 0)) for key in keys)
    return tuple(charge for charge in differences if charge.amount_micros)


def entries_of(session_id: str, postings: Iterable[Posting]) -> Entries:
    """The rows of a session, in the order in which they were posted."""
    return {_key_of(row): row for posting in postings for row in _rows(session_id, posting)}


def _rows(session_id: str, posting: Posting) -> Iterator[dict[str, Any]]:
    for charge in posting.entries:
        yield {
            "session_id": session_id,
            "event_id": posting.source.event_id,
            "type": charge.type,
            "provider": charge.provider,
            "kind": posting.kind,
            "amount_micros": charge.amount_micros,
            "agent_id": posting.bill.agent_id,
            "caller_id": posting.bill.caller.id,
            "received_at": posting.source.received_at,
        }


def _key_of(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["event_id"], row["type"], row["provider"]


def _events(session_id: str, postings: Sequence[Posting], before: Entries, rows: Entries) -> list[outbox.OutboxEvent]:
    """What the topic must say, so that the sum of what it said of a session is always the sum of its entries.

    As long as postings are only appended, each is told. When a late revision changed those before, what was told can't
    be taken back: then one event tells the difference, if there is any.
    """
    if dict(list(rows.items())[: len(before)]) == before:
        posted = {source for source, _, _ in before}
        return [_event(session_id, posting) for posting in postings if posting.source.event_id not in posted]
    if not (entries := _untold(before, postings)):
        return []
    return [_event(session_id, msgspec.structs.replace(postings[-1], kind=ADJUSTMENT, entries=entries))]


def correction(
    session_id: str, history: Sequence[Revision], before: Entries, replay: str, *, gone: bool = False
) -> outbox.OutboxEvent | None:
    """What the topic must say when a replay replaces the entries `before` by those of `history`, which is not empty,
    or takes them back, because the session is `gone`.

    One event with the difference; None when the cost stays the same. Its id is of this `replay` too: a mistake that
    was mended twice was also told twice.
    """
    postings = [] if gone else list(postings_of(history))
    if not (entries := _untold(before, postings)):
        return None
    kind = ADJUSTMENT if before else CHARGE
    if postings:
        posting = msgspec.structs.replace(postings[-1], kind=kind, entries=entries)
    else:
        posting = Posting(kind, entries, 0, decoded(history[-1].content), history)
    return _event(session_id, posting, replay)


def _untold(before: Entries, postings: Iterable[Posting]) -> tuple[Charge, ...]:
    told = _sums(Charge(row["type"], row["provider"], row["amount_micros"]) for row in before.values())
    return _differences(told, _sums(charge for posting in postings for charge in posting.entries))


def _sums(charges: Iterable[Charge]) -> dict[_Key, int]:
    sums: dict[_Key, int] = {}
    for charge in charges:
        key = charge.type, charge.provider
        sums[key] = sums.get(key, 0) + charge.amount_micros
    return sums


def _event(session_id: str, posting: Posting, replay: str = "") -> outbox.OutboxEvent:
    id_ = derived_event_id(CHARGED, session_id, posting.history, encoded(posting.entries) + replay.encode())
    charged = Charged(
        event_id=id_,
        session_id=session_id,
        agent_id=posting.bill.agent_id,
        caller=posting.bill.caller,
        source_event_id=posting.source.event_id,
        kind=posting.kind,
        entries=posting.entries,
        total_micros=posting.total_micros,
    )
    return outbox.OutboxEvent(
        topic=BILLING_CHARGES,
        caller_id=posting.bill.caller.id,
        event_type=CHARGED,
        event_id=id_,
        time=posting.source.received_at,
        session_id=session_id,
        value=msgspec.json.encode(charged),
    )


def stored_entries(tx: Connection, session_ids: Collection[str]) -> dict[str, Entries]:
    """The entries that are there, by session."""
    found: dict[str, Entries] = {}
    if not session_ids:
        return found
    of_these = among(tx, billing_entries.c.session_id, session_ids)
    for row in tx.execute(select(billing_entries).where(of_these)).mappings():
        entry = dict(row)
        found.setdefault(entry["session_id"], {})[_key_of(entry)] = entry
    return found


def _write(tx: Connection, gone: list[dict[str, Any]], new: list[dict[str, Any]]) -> None:
    key = list(billing_entries.primary_key)
    if gone:
        where = [column == bindparam(f"old_{column.name}") for column in key]
        tx.execute(
            delete(billing_entries).where(*where),
            [{f"old_{column.name}": row[column.name] for column in key} for row in gone],
        )
    insert_rows(tx, billing_entries, new)
