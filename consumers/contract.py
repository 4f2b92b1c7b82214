"""What a consumer is. There are two kinds: effects in the database, exactly once; effects elsewhere, at least once."""

from collections.abc import Awaitable, Sequence
from typing import Protocol

from sqlalchemy import Connection

from schemas.event import Record
from schemas.topics import Topic

__all__ = ["Consumer", "Deliverer", "Later", "Record", "Topic", "UnreadableEvent"]


class Consumer(Protocol):
    """Turns events into effects in a database, each exactly once.

    The runner calls `handle` with a batch, in a worker thread, inside a transaction that it has opened and will commit.
    The consumer's position in the topics is advanced in the same transaction: when it commits, the batch is done; when
    anything fails, no effect of the batch stays and the batch comes again. So an effect is seen once, provided that it
    is made through `tx` and nowhere else.

    Records of one partition come in their order; records of several partitions come in any. The same event may come
    twice (a webhook was repeated), and another body for the same session may come later: a revision.
    The call of a `ringlog check` is never among them: it costs nobody anything, see `schemas/check.py`.

    Raising means: roll back. The runner tries again; when it goes on, it handles the records one by one, and the one
    that still raises goes to `dead-letters.<name>` with the error, while the partition goes on. A database that is
    away (`sqlalchemy.exc.OperationalError` and its like) is waited for instead: no event is to blame for that.

    May block on `tx` and on nothing slower: a download belongs in a work table, not in `handle`.

    Two further attributes may be there. `metadata`, a `sqlalchemy.MetaData`: the tables of one of your own, which are
    made before it reads. `thread_safe = True`: on PostgreSQL `handle` is called from several threads at a time, each
    with a transaction of its own and records of other partitions.
    """

    @property
    def name(self) -> str:
        """Of the consumer group `ringlog.<name>`, of the positions and of the dead letters. Never changes."""

    @property
    def topics(self) -> tuple[Topic, ...]:
        """What it reads."""

    def handle(self, tx: Connection, records: Sequence[Record]) -> None:
        """The effects of the records, through `tx`."""


class Deliverer(Protocol):
    """Turns events into effects outside of the database: a request, a file, a message. Each at least once.

    The runner calls `deliver` with a batch and moves the position when it has returned. What the batch holds, and
    repetitions and revisions, are as for a `Consumer`. `def deliver` runs in a worker thread and may block;
    `async def deliver` runs on the loop and may not.

    What comes twice: a batch of which the process died, or lost its partition, before the position had moved, and a
    batch that raised. It comes from the same offset on, but may end at another one. So let the receiver recognise an
    event, by `EndedCall.event_id` (see `consumers.calls`) or by topic, partition and offset.

    Raising means: this was not delivered, deliver it again. The records come one by one then, three times at most, and
    the one that still raises goes to `dead-letters.<name>`. `Later`, `ConnectionError` and `TimeoutError` mean that
    the other side is away: the same batch is delivered again for as long as it takes, and no event is to blame.

    A batch should take no longer than five seconds: for so long a stop, and a partition that moves, wait for it. An
    attribute `max_records` says how many records one has at most; without it, 500.
    """

    @property
    def name(self) -> str:
        """As of a `Consumer`."""

    @property
    def topics(self) -> tuple[Topic, ...]:
        """What it reads."""

    def deliver(self, records: Sequence[Record]) -> Awaitable[None] | None:
        """Returns when the effects of the records are made."""


class UnreadableEvent(ValueError):
    """An event that is not what its topic promises. Tried once: it will not become readable."""


class Later(Exception):
    """Raised by a consumer: the other side can't take it now. The same batch comes again, and no event is given up.

    `reason` is for the log and for health, so it must not quote the event. `after_s`: the other side has said how long
    it wants to be left alone, in seconds, five minutes at most; without it, the pauses grow from 0.1 s to 10 s.
    """

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_s = after_s
