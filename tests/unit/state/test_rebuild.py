"""When a store can be continued, and what a new one would lack."""

import pytest

from schemas.topics import CALLERS_FACTS, CALLS_ENDED
from state.layout import About
from state.rebuild import MAX_ABSENCE_MS, built_from_others, forgotten, missed_something

Offsets = dict[tuple[str, int], int]

CALLS, OTHER_CALLS, FACTS = (CALLS_ENDED.name, 0), (CALLS_ENDED.name, 1), (CALLERS_FACTS.name, 0)
ABOUT = About("cluster/", True, 1_000)
STARTS: Offsets = {CALLS: 0, OTHER_CALLS: 0, FACTS: 0}
ENDS: Offsets = {CALLS: 10, OTHER_CALLS: 10, FACTS: 10}
AT: Offsets = {CALLS: 4, OTHER_CALLS: 10, FACTS: 3}


def test_store_of_these_topics_is_gone_on_with() -> None:
    assert built_from_others(ABOUT, AT, "cluster/", STARTS, ENDS) is None
    assert built_from_others(None, {}, "cluster/", STARTS, ENDS) is None
    assert missed_something(ABOUT, AT, STARTS, 2_000) is None


@pytest.mark.parametrize(
    ("about", "positions", "why"),
    [
        (None, AT, "it says nothing of where it comes from"),
        (About("another/", True, 1), AT, "it was built from other topics (another/, now cluster/)"),
        (ABOUT, AT | {("calls.ended", 7): 1}, "calls.ended/7, which it has read, does not exist any more"),
        (ABOUT, AT | {CALLS: 11}, "calls.ended/0 ends at 10, before 11: the topic was made anew"),
    ],
)
def test_store_of_other_topics_is_known(about: About | None, positions: Offsets, why: str) -> None:
    assert built_from_others(about, positions, "cluster/", STARTS, ENDS) == why


@pytest.mark.parametrize(
    ("positions", "starts", "why"),
    [
        (AT, {CALLS: 4, OTHER_CALLS: 0, FACTS: 3}, None),
        (AT, STARTS | {CALLS: 5}, "calls.ended/0 begins at 5, after 4: retention took what had not been read"),
        (AT, STARTS | {FACTS: 4}, "callers.facts/0 begins at 4, after 3: retention took what had not been read"),
        ({FACTS: 3}, STARTS | {CALLS: 5}, "calls.ended/0 begins at 5, after 0: retention took what had not been read"),
        ({CALLS: 4}, STARTS | {FACTS: 5}, None),  # compaction has taken from its head before it was read at all
    ],
)
def test_hole_is_found(positions: Offsets, starts: Offsets, why: str | None) -> None:
    assert missed_something(ABOUT, positions, starts, 2_000) == why


def test_store_that_may_have_missed_the_deletion_of_a_fact_is_not_gone_on_with() -> None:
    why = "it was away for longer than deletions of facts are kept"
    assert missed_something(ABOUT, AT, STARTS, 1_000 + MAX_ABSENCE_MS) is None
    assert missed_something(ABOUT, AT, STARTS, 1_001 + MAX_ABSENCE_MS) == why
    assert missed_something(ABOUT, {CALLS: 4}, STARTS, 1_001 + MAX_ABSENCE_MS) is None


def test_what_the_topics_have_forgotten_is_said() -> None:
    assert forgotten(STARTS) is None
    assert forgotten(STARTS | {FACTS: 7}) is None
    assert forgotten(STARTS | {OTHER_CALLS: 1200}) == (
        "calls.ended/1 begins at 1200: 1,200 events before it are gone from the topic"
    )
    assert forgotten({CALLS: 3, OTHER_CALLS: 1200, FACTS: 7}) == (
        "calls.ended/0 begins at 3: 3 events before it are gone from the topic; 2 partitions lack their beginning"
    )
