"""What the calls of a month cost: what the provider charges for them, and what the plans do."""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec
from sqlalchemy import Connection, func, select

from consumers import revisions
from consumers.bills import BILLING, KnownCall, call_of
from consumers.plan_charges import PROVISIONAL, charges_of
from consumers.tables import billing_entries

By = Literal["agent", "caller", "plan"]

# Of the sessions in one IN list, and those that are in memory at once.
_SESSIONS_A_LOOK = 1000

_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")


class Month(msgspec.Struct, frozen=True):
    """In UTC; from `start_us` to before `end_us`, in microseconds since the epoch."""

    name: str
    start_us: int
    end_us: int


class Line(msgspec.Struct):
    """The calls of one agent, caller or plan; of several currencies, which can't be added, there are several lines.

    `key` is None for calls without one, `currency` for those without a plan. `cost_micros` is in micro-credits: what
    the ledger's entries add up to. `provisional` counts the calls whose cost the provider has not told yet,
    `plan_provisional` those whose charge is not known yet; neither adds anything to the sums.
    """

    key: str | None
    currency: str | None
    calls: int = 0
    provisional: int = 0
    cost_micros: int = 0
    plan_provisional: int = 0
    amount_micros: int = 0

    def add(self, other: "Line") -> None:
        for name in ("calls", "provisional", "cost_micros", "plan_provisional", "amount_micros"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def month_of(said: str) -> Month:
    """`2026-11`. Raises `ValueError`."""
    found = _MONTH.fullmatch(said)
    if found is None or found[1] == "0000":
        raise ValueError(f"{said!r} is no month; write it as 2026-11")
    year, month = int(found[1]), int(found[2])
    after = (year + month // 12, month % 12 + 1)
    return Month(said, _start_us(year, month), _start_us(*after))


def _start_us(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * 1_000_000


def lines_of(tx: Connection, month: Month, by: By, seen: Callable[[int], None]) -> list[Line]:
    """By key and currency. `seen` is told how many sessions were looked at since it was told last."""
    lines: dict[tuple[str | None, str | None], Line] = {}
    for some in _portions(_calls(tx, month, seen)):
        for one in _lines(tx, some, by):
            lines.setdefault((one.key, one.currency), Line(one.key, one.currency)).add(one)
    return sorted(lines.values(), key=lambda line: (line.key is None, line.key or "", line.currency or ""))


def totals_of(lines: Sequence[Line]) -> list[Line]:
    """One line a currency."""
    totals: dict[str | None, Line] = {}
    for line in lines:
        totals.setdefault(line.currency, Line(None, line.currency)).add(line)
    return sorted(totals.values(), key=lambda line: line.currency or "")


def _calls(tx: Connection, month: Month, seen: Callable[[int], None]) -> Iterator[tuple[str, KnownCall]]:
    """Those of the month. All are looked at: when a call was, is what all of its revisions say together."""
    count = 0
    for count, (session_id, history) in enumerate(revisions.every(tx, BILLING), 1):
        call = call_of(history)
        if month.start_us <= call.called_at < month.end_us:
            yield session_id, call
        if count % _SESSIONS_A_LOOK == 0:
            seen(_SESSIONS_A_LOOK)
    seen(count % _SESSIONS_A_LOOK)


def _portions(calls: Iterator[tuple[str, KnownCall]]) -> Iterator[dict[str, KnownCall]]:
    portion: dict[str, KnownCall] = {}
    for session_id, call in calls:
        portion[session_id] = call
        if len(portion) == _SESSIONS_A_LOOK:
            yield portion
            portion = {}
    yield portion


def _lines(tx: Connection, calls: dict[str, KnownCall], by: By) -> Iterator[Line]:
    costs, charges = _costs(tx, calls), charges_of(tx, calls)
    for session_id, call in calls.items():
        charge = charges.get(session_id, {})
        key = {
            "agent": call.bill.agent_id,
            "caller": call.bill.caller.number or call.bill.caller.id,
            "plan": charge.get("plan"),
        }[by]
        yield Line(
            key=key,
            currency=charge.get("currency"),
            calls=1,
            provisional=int(call.cost_micros is None),
            cost_micros=costs.get(session_id, 0),
            plan_provisional=int(charge.get("state") == PROVISIONAL),
            amount_micros=charge.get("amount_micros") or 0,
        )


def _costs(tx: Connection, session_ids: dict[str, KnownCall]) -> dict[str, int]:
    entry = billing_entries.c
    query = select(entry.session_id, func.sum(entry.amount_micros)).where(entry.session_id.in_(list(session_ids)))
    return {session_id: int(micros) for session_id, micros in tx.execute(query.group_by(entry.session_id))}
