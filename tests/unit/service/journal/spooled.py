"""Events for a spool, and what of them is found there."""

import random
from collections.abc import Sequence
from pathlib import Path

from schemas.topics import CALLS_ENDED, Topic
from service.journal.entry import Entry
from service.journal.spool import Spool

MAX_BYTES = 64 * 1024 * 1024


def entry(number: int, size: int = 3000, topic: Topic = CALLS_ENDED) -> Entry:
    """Never twice the same bytes; the same number, the same entry."""
    chance = random.Random(number)
    return Entry(topic, b"caller-%d" % (number % 7), b"key", chance.randbytes(size), [("ce_id", b"%d" % number)])


def fill(spool: Spool, numbers: Sequence[int], size: int = 3000) -> list[int]:
    """Puts an entry for each number, in one commit. The sequence numbers."""
    seqs = list(range(spool.next_seq, spool.next_seq + len(numbers)))
    spool.commit([(seq, entry(number, size)) for seq, number in zip(seqs, numbers, strict=True)])
    return seqs


def number_of(found: Entry) -> int:
    return int(found.headers[0][1])


def numbers(spool: Spool) -> list[int]:
    """Of all that waits, in order; each is what was written."""
    entries = spool.read([waiting.seq for waiting in spool.waiting()])
    for found in entries:
        assert found.value is not None
        assert found == entry(number_of(found), len(found.value), found.topic)
    return [number_of(found) for found in entries]


def set_aside(directory: Path) -> list[Path]:
    return sorted(directory.parent.glob(f"{directory.name}.damaged-*"))
