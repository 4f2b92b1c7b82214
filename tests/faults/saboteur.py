"""A ringlog command that is struck at a chosen point of its work, or that runs without one of its safeguards.

`python -m tests.faults.saboteur <sabotage as JSON> consume billing`. The product knows nothing of it: the points are
reached by wrapping functions of the process before it starts.
"""

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection

from cli.main import main as ringlog
from consumers import database, outbox, positions, process, reader
from consumers.billing import Billing
from consumers.effects import Effects
from consumers.positions import Move
from consumers.reader import Reader
from consumers.recordings import Recordings, backoff, downloader, work_table
from consumers.recordings.storage import Storage
from consumers.rows import upsert
from consumers.tables import positions as positions_table
from consumers.transcripts import Transcripts
from runtime.kafka import make_consumer
from tests.faults.counting import NAME, Counting

# polled: a batch has been read, and nothing was done; committing: all statements were sent, the commit was not;
# committed: between the database's commit and the group's; published: derived events acknowledged, and still in the
# outbox; uploaded: a sound is in the storage, and its row does not say so.
Point = Literal["polled", "committing", "committed", "published", "uploaded"]


class Sabotage(msgspec.Struct, frozen=True, omit_defaults=True):
    """`strike` is the signal's number, sent by the process to itself when it comes to `at` for the `time`-th time."""

    at: Point | None = None
    time: int = 1
    strike: int = signal.SIGKILL
    session_timeout_ms: int | None = None
    lease_s: float | None = None
    retry_s: float | None = None  # of recordings
    abandoned_after_s: float | None = None
    unfenced: bool = False
    position_first: bool = False  # and struck right after it

    def prepare(self) -> None:
        """Everything for this process, once."""
        process.CONSUMERS[NAME] = lambda _settings, _engine: (Counting(), [])
        if self.session_timeout_ms is not None:
            quick: dict[str, Any] = {
                "session_timeout_ms": self.session_timeout_ms,
                "heartbeat_interval_ms": self.session_timeout_ms // 4,
            }
            _set(reader, "make_consumer", functools.partial(make_consumer, **quick))
        if self.lease_s is not None:
            _set(work_table, "LEASE_S", self.lease_s)
            _set(downloader, "LEASE_S", self.lease_s)
        if self.retry_s is not None:
            _set(backoff, "FIRST_DELAY_S", self.retry_s)
            _set(downloader, "STORAGE_AWAY_DELAY_S", self.retry_s)
        if self.abandoned_after_s is not None:
            _set(database, "ABANDONED_AFTER_S", self.abandoned_after_s)
            _set(database, "LONGEST_TRANSACTION_S", self.abandoned_after_s)
        if self.unfenced:
            _set(positions, "advance", _advance_unfenced)
        if self.position_first:
            _set(
                positions,
                "advance",
                functools.partial(_advance_first, positions.advance, _Strike(self.time, self.strike)),
            )
        if self.at is not None:
            self._mine(self.at)

    def _mine(self, at: Point) -> None:
        strike = _Strike(self.time, self.strike)
        match at:
            case "polled":
                _before(Effects, "of", strike)
            case "committing":
                for consumer in (Billing, Transcripts, Recordings, Counting):
                    _after(consumer, "handle", strike)
            case "committed":
                _before(Reader, "moved", strike)
            case "published":
                _before(outbox.OutboxRelay, "_settle", strike, when=lambda _self, _batch, outcomes: None in outcomes)
            case "uploaded":
                _after_awaiting(Storage, "put", strike)


class _Strike:
    def __init__(self, time: int, number: int) -> None:
        self._left = time
        self._number = number

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._number)


def _set(module: Any, name: str, value: object) -> None:
    """Raises `AttributeError` when the product has no such name any more: the sabotage would sabotage nothing."""
    getattr(module, name)
    setattr(module, name, value)


def _before(owner: type, name: str, strike: _Strike, when: Callable[..., bool] = lambda *_: True) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if when(*args, **kwargs):
            strike()
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def _after(owner: type, name: str, strike: _Strike) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        strike()
        return result

    setattr(owner, name, wrapped)


def _after_awaiting(owner: type, name: str, strike: _Strike) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = await original(*args, **kwargs)
        strike()
        return result

    setattr(owner, name, wrapped)


def _advance_unfenced(tx: Connection, consumer: str, cluster_id: str, moves: list[Move]) -> None:
    """The position is written whatever it was."""
    upsert(
        tx,
        positions_table,
        [
            {
                "consumer": consumer,
                "topic": move.topic,
                "partition": move.partition,
                "next_offset": move.next,
                "cluster_id": cluster_id,
            }
            for move in moves
        ],
    )


def _advance_first(advance: Callable[..., None], strike: _Strike, tx: Connection, *args: Any) -> None:
    """The position is committed by itself, before any effect, and the process dies in between."""
    with tx.engine.begin() as other:
        advance(other, *args)
    strike()


def main() -> None:
    msgspec.json.decode(sys.argv.pop(1), type=Sabotage).prepare()
    ringlog()


if __name__ == "__main__":
    main()
