"""The plan: a pure function of the number of calls, the shares and the seed."""

import json
import re
from collections import Counter
from urllib.parse import parse_qs

import pytest

from cli.simulator.broken import BROKEN
from cli.simulator.call import Call
from cli.simulator.expectation import expectation_of
from cli.simulator.oddities import ODDITIES
from cli.simulator.plan import Plan, Wish
from cli.simulator.revision import REVISIONS
from cli.simulator.share import ShareError
from cli.simulator.sound import sound_of

URL = "http://127.0.0.1:8099"


def plan(calls: int = 200, duplicates: float = 0.0, revisions: float = 0.0, odd: float = 0.0, seed: int = 1) -> Plan:
    return Plan(Wish(calls, duplicates, revisions, odd, seed), URL)


def of_shape(calls: Plan, shape: str) -> Call:
    return next(call for call in calls if call.shape == shape)


def bodies(call: Call) -> list[bytes]:
    return [step.content for step in call.steps if step.webhook == "end-of-call"]


def test_the_same_wish_gives_the_same_calls() -> None:
    assert list(plan(300, 0.1, 0.1, 0.3)) == list(plan(300, 0.1, 0.1, 0.3))


def test_another_seed_gives_other_sessions_and_callers() -> None:
    one, other = plan(300, odd=0.3), plan(300, odd=0.3, seed=2)
    assert not {call.session_id for call in one} & {call.session_id for call in other}
    assert not set(one.callers.numbers) & set(other.callers.numbers)


def test_another_share_gives_another_plan_too() -> None:
    """The same session with another body would be a revision that no plan knows of."""
    assert not {call.session_id for call in plan(odd=0.1)} & {call.session_id for call in plan(odd=0.2)}


def test_a_call_does_not_depend_on_those_made_before_it() -> None:
    calls = plan(100, 0.1, 0.1, 0.3)
    assert calls.at(77) == next(call for position, call in enumerate(map(calls.at, range(100))) if position == 77)


def test_the_sessions_of_a_plan_are_all_different() -> None:
    calls = plan(2000, 0.05, 0.02, 0.05)
    assert len({call.session_id for call in calls}) == len(calls) == 2010


def test_the_shares_are_kept_exactly() -> None:
    calls = list(plan(1000, 0.05, 0.02, 0.07))
    names = Counter(call.shape for call in calls)
    assert sum(names[oddity.__name__] for oddity in ODDITIES) == 70
    assert sum(names[revision.__name__] for revision in REVISIONS) == 20
    assert sum(names[broken.__name__] for broken in BROKEN) == 7
    assert names["usual"] == 910
    plain = list(plan(1000, 0, 0.02, 0.07))
    sent = [sum(step.copies for call in some for step in call.steps) for some in (list(plan(1000)), plain)]
    assert sent[0] == 2000
    doubled = list(plan(1000, 0.05))
    assert sum(step.copies for call in doubled for step in call.steps) == 2050


def test_odd_calls_and_revisions_must_leave_room_for_each_other() -> None:
    with pytest.raises(ShareError, match="together must not be more than 100%"):
        plan(odd=0.6, revisions=0.5)


def test_no_calls_is_a_plan_too() -> None:
    assert list(plan(0, 1, 0.5, 0.5)) == []


def test_every_oddity_every_revision_and_every_broken_body_occurs() -> None:
    names = {call.shape for call in plan(200, revisions=0.1, odd=0.25)}
    assert names >= {made.__name__ for made in (*ODDITIES, *REVISIONS, *BROKEN)}


def test_a_call_without_oddities_says_the_same_as_its_books() -> None:
    call = next(call for call in plan() if call.books and call.books.caller and call.books.recording)
    assert call.books is not None
    prefetch, end = call.steps
    query = parse_qs(prefetch.content.decode())
    body = json.loads(end.content)
    assert query["session_id"] == [body["session_id"]] == [call.session_id]
    assert query["from"] == [body["voip"]["from"]] == [call.books.caller]
    assert body["agent_id"] == call.books.agent_id
    assert body["duration"] * 1000 == call.books.duration_ms
    assert round(body["ts"] * 1_000_000) == call.books.started_at
    assert [turn["content"] for turn in json.loads(body["chat"])] == [text for _, text in call.books.turns]
    assert {(item["type"], item["provider"]) for item in body["cost_breakdown"]} == set(call.books.costs or {})
    assert re.fullmatch(
        rf"{URL}/sounds/((late|slow|moved)/)?{call.session_id}\.wav", body["recording"]["recording_url"]
    )
    assert call.books.recording == sound_of(call.session_id)


def test_callers_are_of_all_kinds() -> None:
    sent = [parse_qs(call.steps[0].content.decode()).get("from", [""])[0] for call in plan(1000)]
    phones = [number for number in sent if number.startswith("+1555")]
    assert 800 < len(phones) < 920 and len(set(phones)) <= 200
    assert 60 < sent.count("") < 140
    assert any(number.startswith("sip:") for number in sent) and "anonymous" in sent
    assert any(call.books and (call.books.agent_id or "").startswith("-") for call in plan(20))


def test_a_cost_that_becomes_unknown_stays_what_it_was() -> None:
    call = of_shape(plan(revisions=0.1), "cost_unknown_later")
    first, second, *_ = (json.loads(body) for body in bodies(call))
    assert second["cost_breakdown"] is None and first["cost_breakdown"]
    assert call.books is not None and len(call.books.costs or {}) == len(first["cost_breakdown"])


def test_a_first_body_comes_again_after_its_revision() -> None:
    call = of_shape(plan(revisions=0.1), "cost_changed")
    first, second, third = bodies(call)
    assert first == third != second
    assert call.books is not None
    assert len(json.loads(second)["cost_breakdown"]) == len(call.books.costs or {})


def test_unknown_and_empty_costs_are_two_things() -> None:
    calls = plan(odd=0.25)
    unknown, unpriced, free = (
        of_shape(calls, name).books for name in ("cost_null", "cost_item_unpriced", "cost_empty")
    )
    assert unknown is not None and unpriced is not None and free is not None
    assert (unknown.total_micros, unpriced.total_micros, free.total_micros) == (None, None, 0)


def test_deliveries_come_in_the_wrong_order() -> None:
    calls = plan(odd=0.25)
    orders = {
        name: [(step.webhook, step.late) for step in of_shape(calls, name).steps]
        for name in (
            "ended_before_its_prefetch",
            "prefetch_long_after_its_end",
            "ended_without_prefetch",
            "never_ended",
        )
    }
    assert orders == {
        "ended_before_its_prefetch": [("end-of-call", False), ("prefetch", False)],
        "prefetch_long_after_its_end": [("end-of-call", False), ("prefetch", True)],
        "ended_without_prefetch": [("end-of-call", False)],
        "never_ended": [("prefetch", False)],
    }
    assert of_shape(calls, "never_ended").books is None


def test_a_plus_arrives_as_a_space() -> None:
    query = of_shape(plan(odd=0.25), "plus_as_space").steps[0].content
    assert b"from=+1555" in query and parse_qs(query.decode())["from"][0].startswith(" 1555")


def test_the_sums_of_a_small_plan_are_those_of_its_calls() -> None:
    calls = plan(40, 0.2, 0.2, 0.5)
    expected = expectation_of(calls)
    books = [call.books for call in calls if call.books]
    assert expected.calls == len(books)
    assert expected.total_micros == sum(expected.costs.values()) == sum(it.total_micros or 0 for it in books)
    assert expected.unknown_costs == sum(it.costs is None for it in books) > 0
    assert expected.turns == sum(len(it.turns) for it in books)
    assert sum(it.calls for it in expected.callers.values()) + expected.web_calls == expected.calls
    number, caller = max(expected.callers.items(), key=lambda item: item[1].calls)
    assert caller.duration_ms == sum(it.duration_ms or 0 for it in books if it.caller == number)


def test_what_was_not_delivered_is_not_expected() -> None:
    calls = plan(10)
    assert expectation_of(calls, {calls.at(3).session_id}).calls == 9
