"""Effects outside of the database, as the runner drives them: made before the transaction that moves the position."""

import inspect
from collections.abc import Sequence
from typing import cast

from sqlalchemy import Connection

from consumers.contract import Consumer, Deliverer, Later, Record, Topic
from consumers.outage import outage
from runtime.threads import in_thread


class Delivery:
    """A `Deliverer` in the place of a `Consumer`: whoever drives it calls `deliver`, and then commits as always."""

    def __init__(self, deliverer: Deliverer) -> None:
        self.deliverer = deliverer
        self.max_records: int | None = getattr(deliverer, "max_records", None)

    @property
    def name(self) -> str:
        return self.deliverer.name

    @property
    def topics(self) -> tuple[Topic, ...]:
        return self.deliverer.topics

    def handle(self, tx: Connection, records: Sequence[Record]) -> None:
        """Nothing: its effects are made already, and the transaction only moves the position."""

    async def deliver(self, records: Sequence[Record]) -> None:
        """Raises `Later` when the other side is away. For what else it raises, an event is to blame."""
        try:
            if inspect.iscoroutinefunction(self.deliverer.deliver):
                await self.deliverer.deliver(records)
            else:
                await in_thread(self.deliverer.deliver, records)
        except Later:
            raise
        except Exception as error:
            if (reason := _away(error)) is None:
                raise
            raise Later(reason) from error


def delivering(consumer: Consumer | Deliverer) -> Consumer:
    """A deliverer in the place of a consumer; a consumer as it is."""
    return Delivery(cast(Deliverer, consumer)) if hasattr(consumer, "deliver") else consumer


def _away(error: Exception) -> str | None:
    """What a client says may quote the event, so its error's class is told, and what the system says of it."""
    if isinstance(error, ConnectionError | TimeoutError):
        said = f": {error.strerror}" if error.strerror else ""
        return type(error).__name__ + said
    found = outage(error)  # of a database of its own
    return found.reason if found else None
