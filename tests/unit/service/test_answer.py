"""What a prefetch answers of a known caller."""

from pathlib import Path
from typing import Any

import msgspec

from service.answer import EMPTY, answer, metadata_of
from service.prompts import Prompts
from state.profile import Profile


def profile(**members: Any) -> Profile:
    nothing: dict[str, Any] = dict.fromkeys(Profile.__struct_fields__)
    numbers = dict.fromkeys(("calls", "prefetches", "duration_ms", "cost_micros", "unknown_costs"), 0)
    return Profile(**{**nothing, **numbers, "facts": {}, "metadata": {}, **members})


def test_the_empty_answer_changes_nothing() -> None:
    assert msgspec.json.decode(EMPTY) == {"metadata": {}, "extra_prompt": ""}


def test_facts_go_over_what_was_remembered_and_are_named() -> None:
    known = profile(facts={"tier": "gold", "a": 1}, metadata={"tier": "tin", "city": "Rome"})
    assert metadata_of(known) == {"tier": "gold", "a": 1, "city": "Rome", "ringlog_facts": ["a", "tier"]}


def test_a_caller_who_called_gets_the_computed_keys() -> None:
    known = profile(calls=3, last_call_at=1_790_000_000_000_000, last_status="user-ended", last_agent="-Om")
    assert metadata_of(known) == {
        "ringlog_calls": 3,
        "ringlog_last_call_at": "2026-09-21T14:13:20.000000Z",
        "ringlog_last_status": "user-ended",
        "ringlog_last_agent": "-Om",
    }


def test_what_is_unknown_has_no_key() -> None:
    assert metadata_of(profile(calls=1)) == {"ringlog_calls": 1}
    assert metadata_of(profile(prefetches=9)) == {}


def test_how_often_was_asked_changes_no_answer() -> None:
    prompt = Prompts(None).of("a")
    assert answer(profile(calls=1, prefetches=1), prompt, "a") == answer(profile(calls=1, prefetches=2), prompt, "a")


def test_the_prompt_knows_the_caller_and_the_agent(tmp_path: Path) -> None:
    (tmp_path / "default.j2").write_text("{{ agent_id }} {{ calls }} {{ tier }} {{ facts.tier }} {{ metadata.city }}")
    known = profile(calls=2, facts={"tier": "gold"}, metadata={"city": "Rome"})
    said = msgspec.json.decode(answer(known, Prompts(tmp_path).of("-Om"), "-Om"))
    assert said["extra_prompt"] == "-Om 2 gold gold Rome"
    assert said["metadata"]["city"] == "Rome"


def test_facts_of_any_name_break_nothing() -> None:
    names = ("calls", "self", "loop", "context", "", "a b", "metadata", "ringlog_calls")
    said = msgspec.json.decode(answer(profile(facts=dict.fromkeys(names, 1)), Prompts(None).of(None), None))
    assert said["metadata"]["self"] == 1
