"""What each call costs the customer of our user, by the plans.

The charge of a call follows from its revisions and from its terms. Which terms those are is decided once: as long as
agent, metadata and day of the call stay what they were, a later revision is priced by the terms that its row names,
whatever has become of the file of plans. See `docs/decisions/0012-plans-and-old-bills.md`.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select

from consumers.bills import KnownCall, call_of
from consumers.plans import Plans, day_of
from consumers.revisions import Revision
from consumers.rows import among, insert, insert_rows
from consumers.tables import plan_charges, plan_terms
from consumers.terms import Terms, price, read_terms

PROVISIONAL = "provisional"
FINAL = "final"

_VALUES = [column.name for column in plan_charges.c if not column.primary_key]

_Row = dict[str, Any]


class PlanCharges:
    """Writes `plan_charges`. Without plans nothing new is charged, and what is charged keeps its terms."""

    def __init__(self, plans: Plans | None = None) -> None:
        self._plans = plans
        self._terms: dict[str, Terms] = {}  # by digest; what a digest means never changes

    @property
    def metadata_key(self) -> str | None:
        return self._plans.metadata_key if self._plans else None

    def record(self, tx: Connection, changed: Mapping[str, Sequence[Revision]], known: Collection[str]) -> None:
        """`changed` and `known`: as `revisions.record` gives them, which has locked these sessions."""
        stored = charges_of(tx, known)
        terms_of = self._terms_of(tx, changed, stored)
        due: list[_Row] = []
        gone: list[str] = []
        used: dict[str, Terms] = {}
        for session_id, terms in terms_of.items():
            before = stored.get(session_id)
            if terms is None:
                gone += [session_id] if before else []
            elif (row := charge_row(session_id, call_of(changed[session_id]), terms)) != before:
                used[row["terms"]] = terms
                due.append(row)
        _write_terms(tx, used)
        insert_rows(tx, plan_charges, due, replacing=_VALUES)
        if gone:
            mine = plan_charges.c.session_id == bindparam("gone")
            tx.execute(delete(plan_charges).where(mine), [{"gone": session_id} for session_id in gone])

    def _terms_of(
        self, tx: Connection, changed: Mapping[str, Sequence[Revision]], charged: Mapping[str, _Row]
    ) -> dict[str, Terms | None]:
        """By which terms each session is charged, `charged` being the rows that were made of them before."""
        if self._plans is None and not charged:
            return {}
        self._read_terms(tx, {row["terms"] for row in charged.values()})
        return {session: self._terms_for(call_of(it), charged.get(session)) for session, it in changed.items()}

    def _terms_for(self, call: KnownCall, before: _Row | None) -> Terms | None:
        stored = self._terms[before["terms"]] if before else None
        if before and (self._plans is None or _chosen_by(call) == _was_chosen_by(before)):
            return stored
        chosen = self._plans.terms_for(call) if self._plans else None
        # The file may say something else of that version today.
        same = stored and chosen and (stored.plan, stored.valid_from) == (chosen.plan, chosen.valid_from)
        return stored if same else chosen

    def _read_terms(self, tx: Connection, digests: set[str]) -> None:
        if unknown := sorted(digests - self._terms.keys()):
            self._terms |= stored_terms(tx, unknown)


def charge_row(session_id: str, call: KnownCall, terms: Terms) -> _Row:
    """The row of a call, as the table has it."""
    due = price(terms, call.bill.duration_ms, call.cost_micros)
    return {
        "session_id": session_id,
        "plan": terms.plan,
        "valid_from": terms.valid_from.isoformat(),
        "terms": terms.digest,
        "currency": terms.currency,
        "state": PROVISIONAL if due.amount_micros is None else FINAL,
        "amount_micros": due.amount_micros,
        "billed_s": due.billed_s,
        "minutes_micros": due.minutes_micros,
        "per_call_micros": due.per_call_micros,
        "passed_on_micros": due.passed_on_micros,
        "called_at": call.called_at,
        "agent_id": call.bill.agent_id,
        "metadata_value": call.bill.metadata and call.bill.metadata[1],
        "caller_id": call.bill.caller.id,
        "event_id": call.source.event_id,
        "received_at": call.source.received_at,
    }


def charges_of(tx: Connection, session_ids: Collection[str]) -> dict[str, _Row]:
    """The rows that are there, by session."""
    if not session_ids:
        return {}
    of_these = among(tx, plan_charges.c.session_id, session_ids)
    rows = tx.execute(select(plan_charges).where(of_these)).mappings()
    return {row["session_id"]: dict(row) for row in rows}


def stored_terms(tx: Connection, digests: Sequence[str]) -> dict[str, Terms]:
    rows = tx.execute(select(plan_terms).where(plan_terms.c.digest.in_(digests)))
    return {digest: read_terms(text) for digest, text in rows}


_Choice = tuple[str | None, str | None, date]


def _chosen_by(call: KnownCall) -> _Choice:
    return call.bill.agent_id, call.bill.metadata and call.bill.metadata[1], day_of(call.called_at)


def _was_chosen_by(row: _Row) -> _Choice:
    return row["agent_id"], row["metadata_value"], day_of(row["called_at"])


def _write_terms(tx: Connection, used: Mapping[str, Terms]) -> None:
    """All in one order: no deadlocks between processes that meet new terms at the same time."""
    if used:
        rows = [{"digest": digest, "terms": used[digest].text} for digest in sorted(used)]
        tx.execute(insert(tx, plan_terms).on_conflict_do_nothing(), rows)
