"""The tables that a consumer of somebody's own brings along as its `metadata`."""

import asyncio

from sqlalchemy import Engine, MetaData, text

from consumers.backoff import Backoff
from consumers.database import MIGRATION_LOCK
from consumers.outage import outage
from runtime.logs import logger
from runtime.threads import in_thread


async def make_tables(engine: Engine, metadata: MetaData, stop: asyncio.Event) -> None:
    """Makes those that are missing and changes none; waits for a database that is away, or forbids it, until `stop`."""
    log = logger("consumers.own_tables")
    backoff = Backoff()
    while not stop.is_set():
        try:
            return await in_thread(create, engine, metadata)
        except Exception as error:
            if (found := outage(error)) is None:
                raise
            log.warning("waiting to make the consumer's tables", reason=found.reason)
            await backoff.wait(stop)
    return None


def create(engine: Engine, metadata: MetaData) -> None:
    """Several processes at once are one after the other, and a migration is one of them."""
    with engine.begin() as tx:
        if tx.dialect.name == "postgresql":
            tx.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        metadata.create_all(tx)
