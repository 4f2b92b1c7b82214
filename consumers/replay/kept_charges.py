"""Plan charges in a replay: a price change rewrites no old bill, and a replay is no price change."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine

from consumers import revisions
from consumers.bills import BILLING, call_of
from consumers.database import read_only
from consumers.plan_charges import PlanCharges, charges_of
from consumers.plans import Plans
from consumers.revisions import Revision
from consumers.terms import Terms


class KeptCharges(PlanCharges):
    """A call of which the live consumer has seen all events keeps the terms of its live row, and stays without terms
    where there is no row. What is new of another one counts as a revision, priced as the live consumer would.
    """

    def __init__(self, plans: Plans | None, live: Engine) -> None:
        super().__init__(plans)
        self._live = read_only(live)

    def _terms_of(
        self, tx: Connection, changed: Mapping[str, Sequence[Revision]], charged: Mapping[str, dict[str, Any]]
    ) -> dict[str, Terms | None]:
        with self._live.connect() as live:
            bills = charges_of(live, changed)
            self._read_terms(live, {row["terms"] for row in bills.values()})
            known = revisions.known_events(live, BILLING, changed)
        found: dict[str, Terms | None] = {}
        for session, history in changed.items():
            bill = bills.get(session)
            if {revision.event_id for revision in history} <= known.get(session, {}).keys():
                found[session] = self._terms[bill["terms"]] if bill else None
            else:
                found[session] = self._terms_for(call_of(history), bill)
        return found
