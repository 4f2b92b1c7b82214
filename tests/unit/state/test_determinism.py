"""The same topics give the same store, however partitions interleave, batches end, processes restart, hashes fall."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.partition import partition_of
from state.slices import Slice
from state.store import ProfileStore
from state.view import view_of
from tests.unit.state.events import Event, Message, ended, ended_raw, fact, no_fact, prefetched

PARTITIONS = 3
EVENTS = 600

# Which seed decides the interleaving, how many records a batch has at most, after how many batches the process ends.
WAYS = [(1, 10_000, 10_000), (2, 1, 10_000), (3, 7, 3), (4, 50, 1), (5, 200, 10_000)]


def history() -> list[Event]:
    """Calls of a few callers: with revisions, repetitions, callers that change, and bodies nobody can read; facts."""
    chance = random.Random(20)
    log: list[Event] = []
    for n in range(EVENTS):
        caller, session = f"caller-{chance.randrange(25)}", f"session-{chance.randrange(EVENTS // 3)}"
        metadata = dict.fromkeys(chance.sample(["a", "b", "c", "d"], 3), n)
        kind = chance.randrange(10)
        if kind < 2:
            log.append(prefetched(session, caller, n))
        elif kind < 4:
            log.append(fact(caller, f"fact-{chance.randrange(4)}", metadata) if n % 4 else no_fact(caller, "fact-1"))
        elif kind < 5 and (calls := [event for event in log if event.topic == "calls.ended"]):
            log.append(chance.choice(calls))
        elif kind < 6:
            log.append(ended_raw(session, caller, chance.choice((b"[]", b"{", b'{"ts":"x"}')), n, recovered=n % 2 == 0))
        else:
            cost = chance.choice((None, [{"credit": chance.randrange(1000) / 1e4}]))
            log.append(ended(session, caller, n, ts=n % 97 + 1, duration=n, cost_breakdown=cost, metadata=metadata))
    return log


def topics() -> dict[tuple[str, int], list[Message]]:
    """By topic and partition: the records, as the broker would have them."""
    found: dict[tuple[str, int], list[Message]] = {}
    for event in history():
        number = partition_of(event.key.partition(b"/")[0], PARTITIONS)
        part = found.setdefault((event.topic, number), [])
        part.append(event.at(len(part)))
    return found


def fold_all(path: Path, seed: int, batch: int, restart_after: int) -> None:
    chance = random.Random(seed)
    parts = topics()
    at = dict.fromkeys(parts, 0)
    store = ProfileStore(path)
    batches = 0
    while open_ := sorted(where for where, messages in parts.items() if at[where] < len(messages)):
        slices, room = [], batch
        for where in chance.sample(open_, chance.randint(1, len(open_))):
            taken = parts[where][at[where] : at[where] + chance.randint(1, room)]
            at[where] += len(taken)
            slices.append(Slice(*where, at[where], taken))
            room -= len(taken)
            if room == 0:
                break
        store.fold(slices)
        batches += 1
        if batches % restart_after == 0:
            store.close()
            store = ProfileStore(path)
            assert store.positions() == {where: offset for where, offset in at.items() if offset}
    store.close()


def rows_of(path: Path) -> list[tuple[str, bytes, bytes]]:
    with view_of(path) as view:
        return list(view.rows())


@pytest.mark.parametrize("hash_seed", ["0", "1", "random"])
def test_same_topics_give_the_same_bytes_in_any_way(tmp_path: Path, hash_seed: str) -> None:
    """Positions included. Each store is made by a process of its own, with other hashes of texts."""
    fold_all(tmp_path / "here", 0, 10_000, 10_000)
    expected = rows_of(tmp_path / "here")
    assert {database for database, _, _ in expected} == {"profiles", "sessions", "calls", "meta"}
    subprocess.run(
        [sys.executable, "-m", "tests.unit.state.test_determinism", str(tmp_path)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        check=True,
    )
    for way in range(len(WAYS)):
        assert rows_of(tmp_path / str(way)) == expected, WAYS[way]


if __name__ == "__main__":
    for number, way in enumerate(WAYS):
        fold_all(Path(sys.argv[1]) / str(number), *way)
