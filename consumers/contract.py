"""What a consumer is."""

from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import Connection

from schemas.event import Record
from schemas.topics import Topic


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
    """

    @property
    def name(self) -> str:
        """Of the consumer group `ringlog.<name>`, of the positions and of the dead letters. Never changes."""

    @property
    def topics(self) -> tuple[Topic, ...]:
        """What it reads."""

    def handle(self, tx: Connection, records: Sequence[Record]) -> None:
        """The effects of the records, through `tx`."""


class UnreadableEvent(ValueError):
    """An event that is not what its topic promises. Tried once: it will not become readable."""
