"""What tests of plan charges share: a file of plans, and what calls are charged by it."""

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, select

from consumers.billing import Billing
from consumers.plans import Plans, load_plans
from consumers.tables import metadata, plan_charges
from runtime.settings import load_settings
from schemas.event import Record

DAY_US = 86_400 * 1_000_000

JANUARY = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()
FEBRUARY = datetime(2026, 2, 1, 12, tzinfo=UTC).timestamp()

FILE = """
metadata_key = "account"
default = "standard"

[plans.standard]
currency = "USD"
versions = [
  { valid_from = 2026-01-01, per_minute = "0.12", round_up_to_s = 60 },
  { valid_from = 2026-02-01, per_minute = "0.18" },
  { valid_from = 2026-09-20, per_minute = "0.24" },
]

[plans.sales]
currency = "USD"
agents = ["-sales"]
versions = [{ valid_from = 2026-01-01, per_call = "0.05", markup_percent = "20" }]

[plans.acme]
currency = "EUR"
metadata_values = ["acme"]
versions = [{ valid_from = 2026-01-01, per_call = "0.5" }]
"""
DEARER = FILE.replace('"0.12"', '"1.20"').replace('"0.05"', '"0.50"')


def read(text: str) -> Plans:
    """The plans of a file with this text."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        plans = load_plans(load_settings(billing_plans=file.name))
    assert plans is not None
    return plans


def consume(engine: Engine, plans: Plans | None, *batches: Sequence[Record]) -> None:
    billing = Billing(plans)
    for batch in batches:
        with engine.begin() as tx:
            billing.handle(tx, batch)


def rows(engine: Engine) -> list[dict[str, Any]]:
    with engine.connect() as tx:
        query = select(plan_charges).order_by(plan_charges.c.session_id)
        return [dict(row) for row in tx.execute(query).mappings()]


def forget(engine: Engine) -> None:
    with engine.begin() as tx:
        for table in reversed(metadata.sorted_tables):
            tx.execute(table.delete())


def body(credit: Any = None, **members: Any) -> dict[str, Any]:
    breakdown = None if credit is None else [{"type": "stt", "provider": "millis", "credit": credit}]
    return {"cost_breakdown": breakdown, **members}
