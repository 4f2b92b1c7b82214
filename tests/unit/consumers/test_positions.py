"""A position moves from where its owner believes it to be, or not at all."""

import threading

import pytest
from sqlalchemy import Engine

from consumers.positions import Fenced, Move, PositionMismatch, advance, load, put, start_of

T = "calls.ended"


def advanced(engine: Engine, *moves: Move, cluster: str = "k") -> None:
    with engine.begin() as tx:
        advance(tx, "billing", cluster, moves)


def loaded(engine: Engine, cluster: str = "k") -> dict[tuple[str, int], int]:
    with engine.connect() as tx:
        return load(tx, "billing", cluster)


def test_a_position_begins_and_moves(engine: Engine) -> None:
    assert loaded(engine) == {}
    advanced(engine, Move(T, 0, None, 5), Move(T, 1, None, 7))
    advanced(engine, Move(T, 0, 5, 9))
    assert loaded(engine) == {(T, 0): 9, (T, 1): 7}


@pytest.mark.parametrize("believed", [None, 4, 6])
def test_one_that_is_elsewhere_fences_and_nothing_moves(engine: Engine, believed: int | None) -> None:
    advanced(engine, Move(T, 0, None, 5), Move(T, 1, None, 5))
    with pytest.raises(Fenced, match=f"calls.ended/1 is no longer at {believed}"):
        advanced(engine, Move(T, 0, 5, 8), Move(T, 1, believed, 8))
    assert loaded(engine) == {(T, 0): 5, (T, 1): 5}


def test_a_position_of_another_cluster_neither_loads_nor_moves(engine: Engine) -> None:
    advanced(engine, Move(T, 0, None, 5))
    with pytest.raises(
        PositionMismatch, match=r"billing was at 5 of calls.ended/0 in the Kafka cluster k, but this is"
    ):
        loaded(engine, "other")
    with pytest.raises(Fenced):
        advanced(engine, Move(T, 0, 5, 8), cluster="other")


@pytest.mark.parametrize("believed", [None, 5])
def test_of_two_at_once_one_is_fenced(engine: Engine, believed: int | None) -> None:
    if believed is not None:
        advanced(engine, Move(T, 0, None, believed))
    held, outcomes = threading.Event(), []

    def owner() -> None:
        with engine.begin() as tx:
            advance(tx, "billing", "k", [Move(T, 0, believed, 8)])
            held.set()
            threading.Event().wait(0.3)

    def zombie() -> None:
        held.wait(5)
        try:
            advanced(engine, Move(T, 0, believed, 7))
        except Fenced as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work) for work in (owner, zombie)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(outcomes) == 1
    assert loaded(engine) == {(T, 0): 8}


def test_reading_starts_at_the_position_or_at_the_earliest_event() -> None:
    assert start_of((T, 0), None, earliest=3, end=10) == 3
    assert start_of((T, 0), 5, earliest=3, end=10) == 5
    assert start_of((T, 0), 10, earliest=3, end=10) == 10
    assert start_of((T, 0), 1, earliest=3, end=10) == 3, "what is gone is gone; the reader says so"


def test_a_position_beyond_the_end_is_a_topic_made_anew() -> None:
    with pytest.raises(PositionMismatch, match=r"the position in calls.ended/0 is 11, but the topic ends at 10"):
        start_of((T, 0), 11, earliest=0, end=10)


def test_a_person_moves_positions_from_wherever_they_are(engine: Engine) -> None:
    advanced(engine, Move(T, 0, None, 5))
    with engine.begin() as tx:
        assert put(tx, "billing", "k", {(T, 0): 2, (T, 1): 9}) == {(T, 0): 5, (T, 1): None}
    assert loaded(engine) == {(T, 0): 2, (T, 1): 9}
    with pytest.raises(Fenced):
        advanced(engine, Move(T, 0, 5, 8))  # of whoever runs and was not told
    assert loaded(engine) == {(T, 0): 2, (T, 1): 9}


def test_positions_of_another_cluster_are_not_moved(engine: Engine) -> None:
    advanced(engine, Move(T, 0, None, 5))
    with pytest.raises(PositionMismatch), engine.begin() as tx:
        put(tx, "billing", "other", {(T, 0): 2})
    assert loaded(engine) == {(T, 0): 5}


def test_one_who_moves_positions_waits_for_the_batch_in_flight(engine: Engine) -> None:
    advanced(engine, Move(T, 0, None, 5))
    held, found = threading.Event(), []

    def owner() -> None:
        with engine.begin() as tx:
            advance(tx, "billing", "k", [Move(T, 0, 5, 8)])
            held.set()
            threading.Event().wait(0.3)

    def person() -> None:
        held.wait(5)
        with engine.begin() as tx:
            found.append(put(tx, "billing", "k", {(T, 0): 1}))

    threads = [threading.Thread(target=work) for work in (owner, person)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == [{(T, 0): 8}]
    assert loaded(engine) == {(T, 0): 1}
