"""schemas.session_metadata: what of a session's metadata is its own."""

from schemas.session_metadata import remembered


def test_what_an_answer_put_in_is_not_remembered() -> None:
    answered = {"tier": "gold", "ringlog_facts": ["tier"], "ringlog_calls": 4, "ringlog_last_status": "timeout"}
    assert remembered(answered | {"order": 7}) == {"order": 7}


def test_what_was_never_a_fact_is_remembered() -> None:
    assert remembered({"tier": "gold", "order": [1, 2]}) == {"tier": "gold", "order": [1, 2]}


def test_an_odd_list_of_facts_hides_nothing() -> None:
    assert remembered({"tier": "gold", "ringlog_facts": "tier"}) == {"tier": "gold"}
    assert remembered({"tier": "gold", "ringlog_facts": [["tier"], 1]}) == {"tier": "gold"}
