"""What a session's revisions post. No database: the entries follow from the revisions alone."""

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from consumers.billing import Posting, postings_of
from consumers.bills import bill_of, encoded
from consumers.calls import MAX_NAME_LENGTH, ended_call
from consumers.contract import UnreadableEvent
from schemas.event import ENDED, MAX_SESSION_ID_CHARACTERS, headers_of
from schemas.money import credits_text
from tests.ended_calls import ended

STT = {"type": "stt", "provider": "millis", "credit": 0.0043}
TTS = {"type": "tts", "provider": "elevenlabs", "credit": 0.03}


def posted(*breakdowns: Any) -> list[Posting]:
    """What revisions with these cost breakdowns post, in this order."""
    calls = [ended_call(ended("s", at, {"cost_breakdown": it, "n": at})) for at, it in enumerate(breakdowns)]
    return list(postings_of([call.revision(encoded(bill_of(call))) for call in calls]))


def plain(postings: list[Posting]) -> list[tuple[str, dict[str, int], int]]:
    return [(it.kind, {c.type: c.amount_micros for c in it.entries}, it.total_micros) for it in postings]


def test_a_known_cost_is_charged_by_type_and_provider() -> None:
    assert plain(posted([TTS, STT])) == [("charge", {"stt": 4_300, "tts": 30_000}, 34_300)]


COSTS = st.none() | st.dictionaries(
    st.tuples(st.sampled_from(["stt", "tts", "s\0"]), st.sampled_from(["a", "b"])), st.integers(-(10**15), 10**15)
)


@given(st.lists(COSTS, max_size=6))
def test_the_entries_add_up_to_the_last_known_cost_whatever_the_history(history: list[Any]) -> None:
    def items(cost: dict[tuple[str, str], int]) -> list[dict[str, str]]:
        return [{"type": t, "provider": p, "credit": credits_text(micros)} for (t, p), micros in cost.items()]

    found = posted(*(None if cost is None else items(cost) for cost in history))
    sums: Counter[tuple[str, str]] = Counter()
    for posting in found:
        for entry in posting.entries:
            sums[entry.type.replace("\ufffd", "\0"), entry.provider] += entry.amount_micros
        assert posting.total_micros == sum(sums.values())
    last: dict[Any, int] = next((cost for cost in reversed(history) if cost is not None), {})
    assert {key: micros for key, micros in sums.items() if micros} == {key: m for key, m in last.items() if m}


def test_an_unknown_cost_posts_nothing_and_takes_nothing_away() -> None:
    assert posted(None) == []
    assert plain(posted(None, [STT], None)) == [("charge", {"stt": 4_300}, 4_300)]
    assert plain(posted([STT], [{**STT, "credit": None}])) == [("charge", {"stt": 4_300}, 4_300)]


def test_a_revision_posts_the_difference() -> None:
    dearer = [STT, {**TTS, "credit": "0.031"}, {"type": "llm", "provider": "openai", "credit": 1}]
    assert plain(posted([STT, TTS], dearer)) == [
        ("charge", {"stt": 4_300, "tts": 30_000}, 34_300),
        ("adjustment", {"tts": 1_000, "llm": 1_000_000}, 1_035_300),
    ]


def test_an_item_that_vanished_is_taken_back() -> None:
    assert plain(posted([STT, TTS], [STT])) == [
        ("charge", {"stt": 4_300, "tts": 30_000}, 34_300),
        ("adjustment", {"tts": -30_000}, 4_300),
    ]
    assert plain(posted([STT], []))[1:] == [("adjustment", {"stt": -4_300}, 0)]


def test_the_same_cost_in_other_words_posts_nothing() -> None:
    same = [{**TTS, "credit": "0.030", "tokens": 5}, {**STT, "credit": 4.3e-3}]
    assert plain(posted([STT, TTS], same)) == [("charge", {"stt": 4_300, "tts": 30_000}, 34_300)]


def test_a_first_item_of_zero_is_an_entry_and_a_later_one_is_not() -> None:
    free = {**STT, "credit": 0}
    assert plain(posted([free])) == [("charge", {"stt": 0}, 0)]
    assert plain(posted([TTS], [TTS, free])) == [("charge", {"tts": 30_000}, 30_000)]


def test_what_follows_a_known_cost_of_nothing_is_an_adjustment() -> None:
    assert plain(posted([], [STT])) == [("adjustment", {"stt": 4_300}, 4_300)]


def test_items_of_one_name_are_one_entry() -> None:
    assert plain(posted([STT, {**STT, "credit": 1}])) == [("charge", {"stt": 1_004_300}, 1_004_300)]


def test_names_become_what_both_databases_can_hold() -> None:
    (posting,) = posted(
        [{"type": "s\0t", "provider": 7, "credit": 1}, {"type": "s\ufffdt", "provider": "7", "credit": 2}]
    )
    assert [(c.type, c.provider, c.amount_micros) for c in posting.entries] == [("s\ufffdt", "7", 3_000_000)]


def test_very_long_names_are_cut_and_stay_two() -> None:
    long = "x" * 5_000
    (posting,) = posted([{"type": long + "1", "credit": 1}, {"type": long + "2", "credit": 2}])
    assert sorted(c.amount_micros for c in posting.entries) == [1_000_000, 2_000_000]
    assert {len(c.type) for c in posting.entries} == {MAX_NAME_LENGTH}


@pytest.mark.parametrize("credit", ["1e308", "9" * 1000, '"NaN"', '"dear"', "true", "[1]", "{}"])
def test_what_is_no_money_is_no_readable_event(credit: str) -> None:
    body = b'{"cost_breakdown": [{"type": "stt", "provider": "millis", "credit": %s}]}' % credit.encode()
    with pytest.raises(UnreadableEvent, match="the cost of session s"):
        bill_of(ended_call(ended("s", 0, body)))


@pytest.mark.parametrize("breakdown", ["free", {}, 5, [5]])
def test_a_breakdown_that_is_no_list_of_items_is_no_readable_event(breakdown: Any) -> None:
    with pytest.raises(UnreadableEvent, match="no list of items"):
        bill_of(ended_call(ended("s", 0, {"cost_breakdown": breakdown})))


def test_items_that_add_up_beyond_what_a_price_can_be_are_no_readable_event() -> None:
    with pytest.raises(UnreadableEvent, match="no price"):
        bill_of(ended_call(ended("s", 0, {"cost_breakdown": [{"type": "stt", "credit": 900_000_000}] * 2})))


def test_a_record_that_is_no_ended_call_says_what_it_is() -> None:
    record = ended("s", 0, {})
    with pytest.raises(UnreadableEvent, match="'other'"):
        ended_call(replace(record, headers=headers_of("other", "id", 0)))
    with pytest.raises(UnreadableEvent, match=ENDED):
        ended_call(replace(record, value=None))
    for value in (b"", b"\xff", b"[]", b'{"sealed": "..."}', b"[" * 100_000):
        with pytest.raises(UnreadableEvent, match="no ended call"):
            ended_call(replace(record, value=value))
    with pytest.raises(UnreadableEvent, match="no ended call"):
        ended_call(ended("s", 0, b"[1]"))


@pytest.mark.parametrize("received_at", [-(10**17), 10**17])
def test_an_end_at_no_time_is_no_readable_event(received_at: int) -> None:
    record = ended("s", 0, {})
    value = msgspec.json.decode(record.value or b"")
    with pytest.raises(UnreadableEvent, match=r"received_at"):
        ended_call(replace(record, value=msgspec.json.encode({**value, "received_at": received_at})))


def test_a_session_id_too_long_for_a_key_is_no_readable_event() -> None:
    assert ended_call(ended("s" * MAX_SESSION_ID_CHARACTERS, 0, {})).session_id == "s" * MAX_SESSION_ID_CHARACTERS
    with pytest.raises(UnreadableEvent, match="257 characters"):
        ended_call(ended("s" * 257, 0, {}))


def test_a_time_of_receipt_after_the_brokers_is_cut_to_it() -> None:
    call = ended_call(ended("s", 10**12, {}, appended_ms=1_700_000_000_000))
    assert call.received_at == 1_700_000_000_000_999
