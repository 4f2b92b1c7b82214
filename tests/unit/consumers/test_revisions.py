"""Which bodies of a session count depends on the set of them, and on nothing else."""

import itertools
import random
import threading
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, select

from consumers.revisions import Recorded, Revision, every, of_session, record
from consumers.tables import revisions, sessions

Seen = Mapping[str, Sequence[Revision]]

A, B = Revision("a", 1, b"A"), Revision("b", 2, b"B")


def recorded(engine: Engine, seen: Seen, consumer: str = "billing") -> dict[str, list[Revision]]:
    with engine.begin() as tx:
        return record(tx, consumer, seen).changed


def test_all_revisions_of_a_changed_session_come_back_in_order(engine: Engine) -> None:
    assert recorded(engine, {"s": [B]}) == {"s": [B]}
    assert recorded(engine, {"s": [A], "t": [B, A]}) == {"s": [A, B], "t": [A, B]}


def test_it_tells_of_which_sessions_something_was_known(engine: Engine) -> None:
    with engine.begin() as tx:
        assert record(tx, "billing", {"s": [A], "t": [A]}) == Recorded({"s": [A], "t": [A]}, set())
        assert record(tx, "billing", {"s": [A, B], "t": [A], "u": [A]}) == Recorded({"s": [A, B], "u": [A]}, {"s"})
    with engine.begin() as tx:
        assert record(tx, "transcripts", {"s": [A]}).known == set(), "by this consumer"
        assert record(tx, "billing", {"t": [Revision("a", 0, b"A")]}).known == {"t"}, "by an earlier time alone"


def test_what_was_seen_before_changes_nothing(engine: Engine) -> None:
    recorded(engine, {"s": [A, B], "t": [A]})
    assert recorded(engine, {"s": [A, A], "t": [A]}) == {}
    assert recorded(engine, {}) == {}


def test_a_repeated_id_keeps_its_earliest_time(engine: Engine) -> None:
    recorded(engine, {"s": [A, B]})
    assert recorded(engine, {"s": [Revision("a", 9, b"A")]}) == {}, "A, B, A again stays B"
    earlier = Revision("b", 0, b"B")
    assert recorded(engine, {"s": [Revision("b", 1, b"B"), earlier]}) == {"s": [earlier, A]}


def test_revisions_of_the_same_time_are_ordered_by_id(engine: Engine) -> None:
    c = Revision("c", 1, b"C")
    assert recorded(engine, {"s": [c, A]}) == {"s": [A, c]}


def test_what_was_recovered_comes_first_however_it_is_looked_at(engine: Engine) -> None:
    recovered = Revision("r", 9, b"R", recovered=True)
    assert recorded(engine, {"s": [A]}) == {"s": [A]}
    assert recorded(engine, {"s": [recovered]}) == {"s": [recovered, A]}
    with engine.connect() as tx:
        assert of_session(tx, "billing", "s") == [recovered, A]
        assert list(every(tx, "billing")) == [("s", [recovered, A])]


def test_consumers_do_not_see_each_others(engine: Engine) -> None:
    recorded(engine, {"s": [A]}, "billing")
    assert recorded(engine, {"s": [B]}, "transcripts") == {"s": [B]}


def test_a_batch_as_large_as_any_is_recorded(engine: Engine) -> None:
    many = {f"s{n}": [A, B] for n in range(12_000)}  # more ids than a statement takes
    assert len(recorded(engine, many)) == 12_000
    assert recorded(engine, many) == {}


_deliveries = st.lists(
    st.tuples(st.sampled_from("st"), st.sampled_from("abcd"), st.integers(0, 5)), min_size=1, max_size=12
)


@given(deliveries=_deliveries, shuffled=st.randoms(use_true_random=False), cuts=st.sets(st.integers(1, 11)))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_order_and_batches_do_not_matter(
    engine: Engine, deliveries: list[tuple[str, str, int]], shuffled: random.Random, cuts: set[int]
) -> None:
    def fold(ordered: list[tuple[str, str, int]], cuts: set[int]) -> tuple[dict[str, list[Revision]], set[object]]:
        with engine.begin() as tx:
            tx.execute(delete(revisions))
            tx.execute(delete(sessions))
        last: dict[str, list[Revision]] = {}
        bounds = [0, *sorted(cut for cut in cuts if cut < len(ordered)), len(ordered)]
        for start, end in itertools.pairwise(bounds):
            seen: dict[str, list[Revision]] = {}
            for session, id_, at in ordered[start:end]:
                seen.setdefault(session, []).append(Revision(id_, at, id_.encode()))
            last |= recorded(engine, seen)
        with engine.connect() as tx:
            return last, {tuple(row) for row in tx.execute(select(revisions))}

    expected = fold(deliveries, set())
    other = list(deliveries)
    shuffled.shuffle(other)
    assert fold(other, cuts) == expected


def test_what_another_is_about_to_record_is_known_once_it_has(engine: Engine) -> None:
    """Who waited for it looks at what is there now."""
    is_in, results = threading.Event(), []

    def second() -> None:
        is_in.wait(5)
        with engine.begin() as tx:
            results.append(record(tx, "billing", {id_: [B] for id_ in "abc"}))

    waiting = threading.Thread(target=second)
    waiting.start()
    with engine.begin() as tx:
        record(tx, "billing", {"b": [A]})
        is_in.set()
        threading.Event().wait(0.3)
        assert not results
    waiting.join(10)
    assert results == [Recorded({"a": [B], "b": [A, B], "c": [B]}, {"b"})]


@pytest.mark.parametrize("known", [0, 10, 20])
@pytest.mark.parametrize("order", [1, -1])
def test_two_at_once_neither_lose_a_revision_nor_block_for_ever(engine: Engine, order: int, known: int) -> None:
    """The same sessions in two processes, named in opposite orders: the last to commit sees all."""
    ids = [f"s{n}" for n in range(20)]
    before = recorded(engine, {id_: [Revision("0", 0, b"0")] for id_ in ids[:known]})
    first_is_in = threading.Event()
    results: dict[str, dict[str, list[Revision]]] = {}

    def first() -> None:
        with engine.begin() as tx:
            results["first"] = record(tx, "billing", {id_: [A] for id_ in ids}).changed
            first_is_in.set()
            threading.Event().wait(0.3)

    def second() -> None:
        first_is_in.wait(5)
        results["second"] = recorded(engine, {id_: [B] for id_ in ids[::-1][::order]})

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert results["first"] == {id_: [*before.get(id_, []), A] for id_ in ids}
    assert results["second"] == {id_: [*before.get(id_, []), A, B] for id_ in ids}
