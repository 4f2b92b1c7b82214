"""What health and metrics tell of a consumer's dead letters: as many as its database says, whoever settles them."""

import asyncio
import contextlib
from typing import Any

from sqlalchemy import Engine

from consumers import letter_book
from consumers.database import read_only
from consumers.letter_book import Share
from consumers.outage import is_unavailable
from runtime.metrics import DEAD_LETTER_SHARE, DEAD_LETTERS_UNSETTLED
from runtime.threads import in_thread

EVERY_S = 10.0


class LetterWatch:
    def __init__(self, engine: Engine, consumer: str, allowed_share: float) -> None:
        self._engine = read_only(engine)
        self._consumer = consumer
        self._allowed_share = allowed_share
        self.health: dict[str, Any] = {}

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                unsettled, share = await in_thread(self._look)
            except Exception as error:
                if not is_unavailable(error):  # the runner waits for the database, and says so
                    raise
            else:
                self._tell(unsettled, share)
            with contextlib.suppress(TimeoutError):  # the usual end of a wait
                await asyncio.wait_for(stop.wait(), EVERY_S)

    def _look(self) -> tuple[int, Share]:
        with self._engine.connect() as tx:
            return letter_book.unsettled(tx, self._consumer), letter_book.share(tx, self._consumer)

    def _tell(self, unsettled: int, share: Share) -> None:
        DEAD_LETTERS_UNSETTLED.labels(self._consumer).set(unsettled)
        DEAD_LETTER_SHARE.labels(self._consumer).set(share.of_one)
        self.health = {
            "unsettled": unsettled,
            "recent": share.letters,
            "of_events": share.events,
            "allowed_share": self._allowed_share,
        }
