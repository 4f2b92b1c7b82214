"""Derived events that wait while the outbox is changed are published afterwards, in their order."""

from alembic import command
from sqlalchemy import select, text

from consumers import database
from consumers.outbox import ROW_BYTES, OutboxEvent, Posted, post
from consumers.tables import outbox
from runtime.settings import load_settings
from schemas.topics import BILLING_CHARGES
from tests.posted import events_in

OLD = "consumer, topic, caller_id, event_type, event_id, time, session_id, value"


def event(n: int) -> Posted:
    """Some are large: they don't all fit into one row."""
    return Posted(
        "billing.charges",
        f"c{n % 7}",
        "charged",
        str(n),
        n,
        f"s{n}",
        b"x" * (ROW_BYTES // 3 if n % 500 < 9 else n % 50),
    )


def test_what_waits_is_carried_over_in_its_order(database_url: str) -> None:
    settings = load_settings(database_url=database_url)
    engine = database.open_engine(settings)
    with engine.begin() as tx:
        config = database._alembic()
        config.attributes["connection"] = tx
        command.upgrade(config, "0007")
    events = [event(n) for n in range(1234)]
    with engine.begin() as tx:
        values = ", ".join(f":{name}" for name in OLD.split(", "))
        rows = [{"consumer": ("billing", "crm")[n % 3 == 0], **it._asdict()} for n, it in enumerate(events)]
        tx.execute(text(f"INSERT INTO outbox ({OLD}) VALUES ({values})"), rows)
    database.migrate(settings)

    assert events_in(engine, "crm") == events[::3]
    assert events_in(engine, "billing") == [it for n, it in enumerate(events) if n % 3]
    with engine.begin() as tx:
        found = tx.execute(select(outbox.c.id, outbox.c.events, outbox.c.packed)).all()
        assert sum(row.events for row in found) == len(events) and len(found) < 20
        assert max(len(row.packed) for row in found) < 1.1 * ROW_BYTES
        assert min(row.id for row in found) > len(events), "an old relay would delete one it has not published"
        new = OutboxEvent(**{**events[0]._asdict(), "topic": BILLING_CHARGES})
        post(tx, "crm", [new])
        assert tx.scalar(select(outbox.c.id).order_by(outbox.c.id.desc()).limit(1)) > max(row.id for row in found)
    assert events_in(engine, "crm") == [*events[::3], events[0]]
    engine.dispose()
