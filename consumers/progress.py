"""Where a consumer is, for the one who commits its effects: of a Kafka client, or of a log in a test."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from consumers.positions import Move
from schemas.event import Record


class Abandoned(Exception):
    """The partitions have changed, or the process stops: nothing was done, and the events come again."""


class Progress(Protocol):
    """`epoch` changes whenever the partitions may have changed: what was read in an earlier one is void."""

    @property
    def epoch(self) -> int: ...

    @property
    def cluster_id(self) -> str: ...

    def moves(self, records: Sequence[Record]) -> list[Move]:
        """How handling the records moves the positions. Raises `Abandoned` for a partition that is somebody else's."""

    def moved(self, moves: Sequence[Move]) -> None:
        """They are committed in the database."""

    def committing(self) -> AbstractContextManager[None]:
        """Partitions stay with us while what is done inside lasts, for some seconds."""
