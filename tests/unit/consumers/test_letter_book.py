"""The book of dead letters: how much of its last events a consumer has given up."""

import pytest
from sqlalchemy import Engine, update

from consumers import letter_book
from consumers.letter_book import Letter, Share
from consumers.positions import Move, advance
from consumers.tables import positions


def letter(offset: int, partition: int = 0) -> Letter:
    return Letter(
        topic="x.calls.ended",
        partition=partition,
        offset=offset,
        letter_partition=0,
        letter_offset=offset,
        event_id=f"id-{offset}",
        session_id=None,
        error="KeyError",
        given_up_at=offset,
    )


def be_at(engine: Engine, partition: int, offset: int) -> None:
    with engine.begin() as tx:
        here = (positions.c.consumer == "c") & (positions.c.partition == partition)
        if not tx.execute(update(positions).where(here).values(next_offset=offset)).rowcount:
            advance(tx, "c", "cluster", [Move("x.calls.ended", partition, None, offset)])


def give_up(engine: Engine, *letters: Letter) -> None:
    with engine.begin() as tx:
        for it in letters:
            letter_book.enter(tx, "c", it)


def share(engine: Engine) -> Share:
    with engine.connect() as tx:
        return letter_book.share(tx, "c")


def test_the_share_is_that_of_the_last_thousand_events_of_all_partitions(engine: Engine) -> None:
    assert share(engine) == Share(0, 0)
    be_at(engine, 0, 10)
    give_up(engine, letter(8), letter(9))
    assert share(engine) == Share(2, 10)
    be_at(engine, 1, 900)
    give_up(engine, letter(7, partition=1))
    assert share(engine) == Share(3, 910)
    be_at(engine, 0, 109)
    assert share(engine) == Share(3, 1000)
    be_at(engine, 0, 110)  # a thousand after the first two
    assert share(engine) == Share(1, 1000)


def test_the_share_with_one_more_is_of_as_many_events(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letter_book, "WINDOW_EVENTS", 20)

    def with_one_more() -> Share:
        with engine.connect() as tx:
            return letter_book.share(tx, "c", more=1)

    assert with_one_more() == Share(1, 1)
    for offset in range(20):
        be_at(engine, 0, offset + 1)
        give_up(engine, letter(offset))
    assert share(engine) == with_one_more() == Share(20, 20)
    assert not with_one_more().exceeds(1.0)


def test_what_is_settled_does_not_count(engine: Engine) -> None:
    be_at(engine, 0, 10)
    give_up(engine, letter(1), letter(2), letter(3))
    with engine.begin() as tx:
        assert letter_book.settle(tx, "c", letter(1), "redriven", 5)
        assert letter_book.settle(tx, "c", letter(2), "discarded", 5)
        assert not letter_book.settle(tx, "another", letter(3), "discarded", 5)
        assert letter_book.unsettled(tx, "c") == 1
    assert share(engine) == Share(1, 10)


def test_a_share_counts_from_the_eleventh_letter_on() -> None:
    assert not Share(10, 10).exceeds(0.05)
    assert Share(11, 11).exceeds(0.05)
    assert not Share(11, 11).exceeds(1.0)
    assert not Share(50, 1000).exceeds(0.05)
    assert Share(51, 1000).exceeds(0.05)


def test_a_letter_is_named_by_its_place_or_its_event() -> None:
    letters = [letter(1), letter(11), letter(1, partition=1)]
    for name in ("0/1", "calls.ended/0/1", "x.calls.ended/0/1"):
        assert letter_book.matching(letters, name, "x.") == letters[:1]
    assert letter_book.matching(letters, "id-1", "x.") == [letters[0], letters[2]]
    assert letter_book.matching(letters, "1", "x.") == []
