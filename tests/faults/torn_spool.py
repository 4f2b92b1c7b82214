"""A ringlog command that is killed at a chosen moment of its work with the spool.

`python -m tests.faults.torn_spool "within put" 3 serve`. The product knows nothing of it: the moments are reached by
wrapping methods of the process before it starts.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from cli.main import main as ringlog
from service.journal.lane import Lane
from service.journal.spool import Spool

PUTS = ("before put", "within put", "after put")
# Within: all of the transaction is done, but for its commit.
DRAINS = ("before publish", "after publish", "before delete", "within delete", "after delete")


class _Strike:
    """The process kills itself when it comes to `moment` for the `time`-th time."""

    def __init__(self, moment: str, time: int) -> None:
        if moment not in (*PUTS, *DRAINS):
            raise ValueError(moment)
        self._moment = moment
        self._left = time

    def at(self, moment: str) -> None:
        if moment == self._moment:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def _mine(strike: _Strike) -> None:
    commit, write, deliver = Spool.commit, Spool._write, Lane.deliver
    doing: list[str] = []

    def struck_commit(
        self: Spool, put: Sequence[Any] = (), delete: Sequence[int] = (), refuse: Sequence[Any] = ()
    ) -> None:
        doing[:] = [name for name, what in (("put", put), ("delete", delete)) if what]
        for name in doing:
            strike.at(f"before {name}")
        commit(self, put, delete, refuse)
        for name in doing:
            strike.at(f"after {name}")

    def struck_write(self: Spool, change: Callable[[Any], None], next_seq: int) -> None:
        def struck_change(tx: Any) -> None:
            change(tx)
            for name in doing:
                strike.at(f"within {name}")

        write(self, struck_change, next_seq)

    async def struck_deliver(self: Lane, *args: Any) -> int:
        strike.at("before publish")
        count = await deliver(self, *args)
        strike.at("after publish")
        return count

    Spool.commit = struck_commit  # type: ignore[method-assign]
    Spool._write = struck_write  # type: ignore[method-assign]
    Lane.deliver = struck_deliver  # type: ignore[method-assign, assignment]


def main() -> None:
    moment, time = sys.argv.pop(1), int(sys.argv.pop(1))
    _mine(_Strike(moment, time))
    ringlog()


if __name__ == "__main__":
    main()
