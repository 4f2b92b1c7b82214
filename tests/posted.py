"""What waits in the outbox, in its order."""

from sqlalchemy import Engine, select

from consumers.outbox import Posted, unpacked
from consumers.tables import outbox


def events_in(engine: Engine, consumer: str | None = None) -> list[Posted]:
    """Of a consumer, or of all."""
    of_mine = select(outbox.c.packed).order_by(outbox.c.id)
    if consumer is not None:
        of_mine = of_mine.where(outbox.c.consumer == consumer)
    with engine.connect() as tx:
        return [event for row in tx.scalars(of_mine) for event in unpacked(row)]
