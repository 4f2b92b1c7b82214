"""Effects outside of the database, as the runner drives them: made before the transaction that moves the position."""

import inspect
from collections.abc import Sequence
from typing import cast

from sqlalchemy import Connection

from consumers.contract import Consumer, Deliverer, Later, Record, Topic
from consumers.outage import Outage, outage
from runtime.threads import in_thread

# The longest that somebody may ask us to leave him alone: after it we ask again, whatever was said.
LONGEST_PAUSE_S = 300.0


class Away(Exception):
    """The other side can't take it now, and no event is to blame: wait, and deliver again."""

    def __init__(self, found: Outage, after_s: float | None = None) -> None:
        super().__init__(found.reason)
        self.found = found
        self.after_s = min(after_s or 0.0, LONGEST_PAUSE_S)


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
        """Raises `Away`, and what else the deliverer raises: that is the fault of an event, or of the deliverer."""
        try:
            if inspect.iscoroutinefunction(self.deliverer.deliver):
                await self.deliverer.deliver(records)
            else:
                await in_thread(self.deliverer.deliver, records)
        except Exception as error:
            if (found := _away(error)) is None:
                raise
            raise Away(found, error.after_s if isinstance(error, Later) else None) from error


def delivering(consumer: Consumer | Deliverer) -> Consumer:
    """A deliverer in the place of a consumer; a consumer as it is."""
    return Delivery(cast(Deliverer, consumer)) if hasattr(consumer, "deliver") else consumer


def _away(error: Exception) -> Outage | None:
    """What a client says may quote the event, so of errors that are not ours the class is told."""
    if isinstance(error, Later):
        return Outage(error.reason, passes=True)
    if isinstance(error, ConnectionError | TimeoutError):
        said = f": {error.strerror}" if error.strerror else ""
        return Outage(type(error).__name__ + said, passes=True)
    return outage(error)  # a database of its own
