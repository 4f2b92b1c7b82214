"""Two halves of a profile, each at its own offset, are the profile that a store has at these offsets."""

import random
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from cli.explainer.half import Half
from schemas.event import Record
from schemas.topics import CALLERS_FACTS, CALLS_ENDED
from state.profile import Profile
from state.slices import Slice
from state.store import ProfileStore
from tests.unit.state.events import Event, ended, fact, no_fact

COSTS = (None, [{"credit": 0.0043}], [{"credit": 2}], [{}])


def random_log(dice: random.Random) -> list[Event]:
    """Calls with revisions that move first and last calls about, and facts that come and go, of two callers."""
    log = []
    for _ in range(25):
        caller = dice.choice(("ann", "bob"))
        if dice.random() < 0.4:
            name = dice.choice("xyz")
            log.append(no_fact(caller, name) if dice.random() < 0.3 else fact(caller, name, dice.randrange(9)))
        else:
            session = f"{caller}-{dice.randrange(5)}"
            body = {"ts": dice.choice((None, dice.randrange(1, 50))), "cost_breakdown": dice.choice(COSTS)}
            log.append(ended(session, caller, dice.randrange(1, 99), metadata={"m": dice.randrange(9)}, **body))
    return log


def of(topic: str, log: Sequence[Event]) -> list[Event]:
    return [event for event in log if event.topic == topic]


def in_store(path: Path, calls: Sequence[Event], facts: Sequence[Event], caller: str) -> Profile | None:
    store = ProfileStore(path)
    try:
        store.fold(
            [
                Slice(CALLS_ENDED.name, 0, len(calls), [event.at(n) for n, event in enumerate(calls)]),
                Slice(CALLERS_FACTS.name, 0, len(facts), [event.at(n) for n, event in enumerate(facts)]),
            ]
        )
        rows = {key: value for database, key, value in store.dump() if database == "profiles"}
    finally:
        store.close()
    row = rows.get(caller.encode())
    return None if row is None else msgspec.msgpack.decode(row[:-4], type=Profile)


def read(half: Half, log: Sequence[Event]) -> Half:
    for offset, event in enumerate(log):
        half.add(
            Record(
                topic="t." + event.topic,
                partition=0,
                offset=offset,
                appended_ms=event.appended_ms,
                key=event.key,
                value=event.value,
                headers=(),
            )
        )
    return half


@pytest.mark.parametrize("seed", range(12))
def test_any_two_offsets_give_what_a_store_has_there(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    log = random_log(dice)
    calls, facts = of(CALLS_ENDED.name, log), of(CALLERS_FACTS.name, log)
    wanted = [(dice.randrange(len(calls) + 1), dice.randrange(len(facts) + 1)) for _ in range(4)]
    of_calls = read(Half(CALLS_ENDED, {b"ann": [ended for ended, _ in wanted]}), calls)
    of_facts = read(Half(CALLERS_FACTS, {b"ann": [known for _, known in wanted]}), facts)
    for number, (ended_to, facts_to) in enumerate([*wanted, (len(calls), len(facts))]):
        last = number == len(wanted)
        row = of_calls.row(b"ann", None if last else ended_to)
        row.facts = of_facts.row(b"ann", None if last else facts_to).facts
        made = msgspec.msgpack.decode(msgspec.msgpack.encode(row), type=Profile)
        stored = in_store(tmp_path / str(number), calls[:ended_to], facts[:facts_to], "ann")
        assert (made if made.tells else None) == stored


def test_what_is_said_of_another_caller_changes_nothing() -> None:
    log = [ended("s", "ann", 1), ended("s", "bob", 2)]  # the session is bob's now, whose partition is another one
    half = read(Half(CALLS_ENDED, {b"ann": [1, 2], b"bob": [2]}), log)
    assert [half.row(caller, None).calls for caller in (b"ann", b"bob")] == [1, 1]


def test_whoever_was_not_asked_about_is_nobody() -> None:
    half = read(Half(CALLS_ENDED, {b"ann": []}), [ended("s", "bob"), Event(CALLS_ENDED.name, b"ann", b"no event")])
    assert half.row(b"ann", None).calls == half.row(b"bob", None).calls == 0
