"""What health and metrics tell of a consumer's dead letters: as many as its database says, whoever settles them."""

import asyncio
from typing import Any

from sqlalchemy import Engine

from consumers import letter_book
from consumers.database import read_only
from consumers.letter_book import Share
from consumers.watching import watch
from runtime.metrics import DEAD_LETTER_SHARE, DEAD_LETTERS_UNSETTLED

EVERY_S = 10.0


class LetterWatch:
    def __init__(self, engine: Engine, consumer: str, allowed_share: float) -> None:
        self._engine = read_only(engine)
        self._consumer = consumer
        self._allowed_share = allowed_share
        self.health: dict[str, Any] = {}

    async def run(self, stop: asyncio.Event) -> None:
        await watch(stop, EVERY_S, self._look, self._tell)

    def _look(self) -> tuple[int, Share]:
        with self._engine.connect() as tx:
            return letter_book.unsettled(tx, self._consumer), letter_book.share(tx, self._consumer)

    def _tell(self, looked: tuple[int, Share]) -> None:
        unsettled, share = looked
        DEAD_LETTERS_UNSETTLED.labels(self._consumer).set(unsettled)
        DEAD_LETTER_SHARE.labels(self._consumer).set(share.of_one)
        self.health = {
            "unsettled": unsettled,
            "recent": share.letters,
            "of_events": share.events,
            "allowed_share": self._allowed_share,
        }
