"""What is folded in memory is what is folded into a store."""

import random
from pathlib import Path

import msgspec

from state.fold import Fold
from state.memory import Memory
from state.profile import ProfileRow
from state.slices import read_slice
from state.store import ProfileStore
from tests.unit.state.events import Event, ended, fact, no_fact, prefetched, slices_of


def drawn(dice: random.Random) -> Event:
    """Sessions move between callers, and first and last calls with them."""
    caller, session = dice.choice(("ann", "bob")), f"s{dice.randrange(4)}"
    match dice.randrange(5):
        case 0:
            return fact(caller, dice.choice("xy"), dice.randrange(3))
        case 1:
            return no_fact(caller, dice.choice("xy"))
        case 2:
            return prefetched(session, caller, dice.randrange(9))
        case _:
            return ended(
                session, caller, dice.randrange(99), ts=dice.choice((None, 1, 2, 3)), duration=dice.randrange(9)
            )


def test_a_memory_comes_to_the_rows_of_a_store(tmp_path: Path) -> None:
    dice = random.Random(1)
    for run in range(20):
        log = [drawn(dice) for _ in range(40)]
        memory, store = Memory(), ProfileStore(tmp_path / str(run))
        for number, event in enumerate(log):
            slices = slices_of([event], number)
            store.fold(slices)
            fold = Fold(memory)
            for part in slices:
                fold.add(read_slice(part))
            fold.settle()
            memory.keep(fold)
        stored = {key: value[:-4] for database, key, value in store.dump() if database == "profiles"}
        store.close()
        rows = {caller: memory.profile(caller) or ProfileRow() for caller in (b"ann", b"bob")}
        assert {key: msgspec.msgpack.encode(row) for key, row in rows.items() if not row.is_empty} == stored
