"""What a profile says, and that it says so whatever way the events came."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.topics import CALLS_ENDED
from state.profile import Profile
from state.store import ProfileStore
from tests.unit.state.events import Event, ended, ended_raw, fact, no_fact, prefetched, slices_of

Dump = list[tuple[str, bytes, bytes]]

COST = [{"type": "stt", "provider": "p", "credit": 0.0043}, {"type": "tts", "provider": "p", "credit": 0.002}]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ProfileStore]:
    store = ProfileStore(tmp_path)
    yield store
    store.close()


def profile_of(store: ProfileStore, caller: str) -> Profile | None:
    for database, key, value in store.dump():
        if database == "profiles" and key == caller.encode():
            return msgspec.msgpack.decode(value[:-4], type=Profile)
    return None


def known(store: ProfileStore, caller: str) -> Profile:
    profile = profile_of(store, caller)
    assert profile is not None
    return profile


def fold(store: ProfileStore, *log: Event) -> list[str]:
    """The complaints."""
    return [skipped.reason for skipped in store.fold(slices_of(log))]


def test_profile_adds_up_a_callers_calls(store: ProfileStore) -> None:
    fold(
        store,
        ended(
            "s1", "ann", 10, ts=100.5, duration=61.5, call_status="user-ended", cost_breakdown=COST, metadata={"a": 1}
        ),
        ended("s2", "ann", 20, ts=200, duration=2, call_status="sold", cost_breakdown=None, metadata={"b": [2]}),
        ended("s3", "bob", 30),
    )
    ann = known(store, "ann")
    assert (ann.calls, ann.duration_ms, ann.cost_micros, ann.unknown_costs) == (2, 63_500, 6300, 1)
    assert (ann.first_call_at, ann.last_call_at) == (100_500_000, 200_000_000)
    assert (ann.last_status, ann.last_agent, ann.metadata) == ("other", "agent-1", {"b": [2]})
    bob = known(store, "bob")
    assert (bob.calls, bob.first_call_at, bob.last_call_at, bob.last_status) == (1, 30, 30, None)


def test_unknown_cost_never_replaces_a_known_one(store: ProfileStore) -> None:
    fold(store, ended("s", "ann", 1, cost_breakdown=COST), ended("s", "ann", 2, duration=5))
    ann = known(store, "ann")
    assert (ann.calls, ann.cost_micros, ann.unknown_costs, ann.duration_ms) == (1, 6300, 0, 5000)


def test_a_then_b_then_a_again_stays_b(store: ProfileStore) -> None:
    a, b = ended("s", "ann", 1, duration=1), ended("s", "ann", 2, duration=2)
    a_again = ended("s", "ann", 3, duration=1)
    fold(store, a, b, a_again)
    assert known(store, "ann").duration_ms == 2000


def test_what_was_recovered_counts_until_a_webhook_comes(store: ProfileStore) -> None:
    fold(store, ended_raw("s", "ann", b'{"duration":1,"cost_breakdown":[{"credit":1}]}', 9, recovered=True))
    assert (known(store, "ann").duration_ms, known(store, "ann").first_call_at) == (1000, 9)
    fold(store, ended("s", "ann", 2, duration=2))
    ann = known(store, "ann")
    assert (ann.calls, ann.duration_ms, ann.cost_micros, ann.first_call_at) == (1, 2000, 1_000_000, 2)
    fold(store, ended_raw("s", "ann", b'{"duration":3}', 99, recovered=True))
    assert known(store, "ann").duration_ms == 2000


def test_revision_that_names_another_caller_moves_the_call(store: ProfileStore) -> None:
    fold(store, ended("s1", "ann", 1, ts=1, metadata={"n": 1}), ended("s2", "ann", 2, ts=2, metadata={"n": 2}))
    fold(store, ended("s2", "bob", 3, ts=2, metadata={"n": 3}))
    ann, bob = known(store, "ann"), known(store, "bob")
    assert (ann.calls, ann.last_call_at, ann.metadata) == (1, 1_000_000, {"n": 1})
    assert (bob.calls, bob.first_call_at, bob.metadata) == (1, 2_000_000, {"n": 3})
    fold(store, ended("s1", "bob", 4, ts=1))
    assert profile_of(store, "ann") is None
    assert known(store, "bob").calls == 2


def test_first_and_last_call_are_found_again_when_a_revision_moves_one(store: ProfileStore) -> None:
    fold(store, *(ended(f"s{n}", "ann", n, ts=n * 10, call_status="timeout") for n in (1, 2, 3)))
    fold(store, ended("s3", "ann", 9, ts=15, call_status="error"), ended("s1", "ann", 9, ts=17))
    ann = known(store, "ann")
    assert (ann.first_call_at, ann.last_call_at, ann.last_status) == (15_000_000, 20_000_000, "timeout")


def test_cost_that_is_no_money_is_unknown_and_spoils_nothing_else(store: ProfileStore) -> None:
    bad = ended_raw("s", "ann", b'{"duration":3,"cost_breakdown":[{"credit":1e308},{"credit":0.1}]}')
    assert len(fold(store, bad, ended("s2", "ann", duration=4, cost_breakdown=COST))) == 1
    ann = known(store, "ann")
    assert (ann.calls, ann.duration_ms, ann.cost_micros, ann.unknown_costs) == (2, 7000, 6300, 1)


def test_sums_beyond_any_integer_stop_nobody(store: ProfileStore) -> None:
    huge = [{"credit": 999_999_999}] * 20_000
    assert len(fold(store, ended("s", "ann", cost_breakdown=huge, duration=999_999_999))) == 1
    assert known(store, "ann").unknown_costs == 1


def test_odd_member_costs_nothing_but_itself(store: ProfileStore) -> None:
    fold(store, ended("s", "ann", duration="long", ts=[], call_status=7, cost_breakdown=COST, metadata={"a": "b"}))
    ann = known(store, "ann")
    assert (ann.calls, ann.duration_ms, ann.cost_micros, ann.metadata) == (1, 0, 6300, {"a": "b"})


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": "x" * 16_400},
        {"a": 10**30},
        [1],
        "text",
        {"a": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]},
    ],
)
def test_metadata_that_is_too_much_is_not_remembered(store: ProfileStore, metadata: Any) -> None:
    body = b'{"metadata":%s}' % (str(metadata).replace("'", '"') if metadata != "text" else '"text"').encode()
    fold(store, ended_raw("s", "ann", body))
    assert known(store, "ann").metadata == {}


def test_what_cannot_be_read_is_skipped_and_counted(store: ProfileStore) -> None:
    deep = b'{"body":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    broken = [b"", b"{", b"[]", b'{"event_id":"\xff"}', deep, b'{"sealed":"x"}', None]
    log = [Event(CALLS_ENDED.name, b"k", value) for value in broken]
    nobody = ended("s0", "")
    nameless = ended("s0", "x" * 101)
    assert len(fold(store, *log, nobody, nameless, prefetched("", "ann"), ended("s", "ann", 5))) == 10
    assert known(store, "ann").calls == 1
    assert store.positions() == {("calls.ended", 0): 11, ("calls.prefetch", 0): 11}


def test_receipt_is_never_later_than_the_append(store: ProfileStore) -> None:
    wrong_clock = Event("calls.ended", b"", ended("s", "ann", 10**12, duration=1).value, appended_ms=5)
    fold(store, wrong_clock, ended("s", "ann", 6000, duration=2))
    assert known(store, "ann").duration_ms == 2000
    assert known(store, "ann").first_call_at == 5999


def test_facts_are_those_of_the_last_records(store: ProfileStore) -> None:
    fold(store, fact("ann", "vip", True), fact("ann", "name", "Ann"), fact("ann", "vip", {"since": 2020}))
    assert known(store, "ann").facts == {"name": "Ann", "vip": {"since": 2020}}
    fold(store, no_fact("ann", "vip"), fact("ann", "old", 1), no_fact("ann", "name"))
    assert known(store, "ann").facts == {"old": 1}
    fold(store, fact("ann", "old", None))
    assert profile_of(store, "ann") is None


def test_newest_fact_decides_even_when_it_cannot_be_read(store: ProfileStore) -> None:
    """Compaction keeps no other: a rebuilt store must come out the same."""
    bad = fact("ann", "vip", 1)
    assert len(fold(store, fact("ann", "vip", 1), Event(bad.topic, bad.key, b"{"))) == 1
    assert profile_of(store, "ann") is None


def test_prefetches_are_counted_by_session_and_change_nothing_else(store: ProfileStore) -> None:
    fold(store, prefetched("s1", "ann", 3), prefetched("s1", "ann", 2), prefetched("s1", "ann", 4, again="1"))
    fold(store, prefetched("s2", "ann", 5))
    ann = known(store, "ann")
    assert (ann.prefetches, ann.calls, ann.first_call_at, ann.facts, ann.metadata) == (2, 0, None, {}, {})


CALLERS = ("ann", "bob", "cat")
TIMES = st.integers(0, 6)

sent = st.builds(
    ended_raw,
    st.sampled_from(("s1", "s2", "s3", "s4")),
    st.sampled_from(CALLERS),
    st.fixed_dictionaries(
        {},
        optional={
            "ts": st.sampled_from((None, 1, 2, 3.5)),
            "duration": st.sampled_from((None, 1, 2.5)),
            "call_status": st.sampled_from((None, "timeout", "user-ended")),
            "metadata": st.sampled_from(({}, {"a": 1}, {"b": 2, "a": 1})),
            "cost_breakdown": st.sampled_from(
                (None, [], [{"credit": 1}], [{"credit": None}], "odd", [{"credit": "x"}])
            ),
        },
    ).map(msgspec.json.encode),
    TIMES,
    agent=st.sampled_from((None, "agent-1", "agent-2")),
    recovered=st.booleans(),
)
announced = st.builds(prefetched, st.sampled_from(("s1", "s2", "s5")), st.sampled_from(CALLERS), TIMES)
facts = st.builds(fact, st.sampled_from(CALLERS), st.sampled_from(("x", "y")), st.sampled_from((None, 1, {"z": 1})))
no_facts = st.builds(no_fact, st.sampled_from(CALLERS), st.sampled_from(("x", "y")))


def compacted(log: Sequence[Event]) -> list[Event]:
    """What Kafka leaves of it in the end: the newest record of each key, and of deletions nothing."""
    last = {event.key: place for place, event in enumerate(log)}
    return [event for place, event in enumerate(log) if last[event.key] == place and event.value is not None]


def everything(store: ProfileStore) -> Dump:
    return [item for item in store.dump() if item[0] != "meta"]


def built(path: Path, log: Sequence[Event], cuts: Sequence[int], reopen: bool) -> Dump:
    """What lies in a fresh store after the log, folded in batches that end at `cuts`."""
    store = ProfileStore(path, map_bytes=1 << 20)
    edges = [0, *sorted(cut % (len(log) + 1) for cut in cuts), len(log)]
    for start, end in pairwise(edges):
        store.fold(slices_of(log[start:end], start))
        if reopen:
            store.close()
            store = ProfileStore(path, map_bytes=1 << 20)
    content = everything(store)
    store.close()
    return content


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_same_events_give_the_same_bytes_in_any_order_batch_and_number(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    calls = data.draw(st.lists(sent | announced, min_size=1, max_size=12))
    about_callers = data.draw(st.lists(facts | no_facts, max_size=6))
    one_way = built(tmp_path_factory.mktemp("a"), [*calls, *about_callers], [], reopen=False)

    again = data.draw(st.lists(st.sampled_from(calls), max_size=4))
    log: list[Event] = [*data.draw(st.permutations([*calls, *again]))]
    last = compacted(about_callers) if data.draw(st.booleans()) else about_callers
    places = sorted(data.draw(st.integers(0, len(log))) for _ in last)
    for event, place in zip(reversed(last), reversed(places), strict=True):
        log.insert(place, event)  # facts keep the order of their partition
    cuts = data.draw(st.lists(st.integers(0, 30), max_size=5))
    other_way = built(tmp_path_factory.mktemp("b"), log, cuts, data.draw(st.booleans()))
    assert other_way == one_way
