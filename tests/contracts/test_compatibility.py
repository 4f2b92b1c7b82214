"""What the comparison of contracts lets pass, and what it refuses."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.compatibility import breaks, read

Change = Callable[[dict[str, Any]], Any]

OLD = read(Path(__file__).parent / "v1")


def changed(change: Change) -> list[str]:
    new = copy.deepcopy(OLD)
    change(new)
    return breaks(OLD, new)


def ended(new: dict[str, Any]) -> Any:
    return new["calls.ended.json"]["$defs"]["CallEnded"]


def api(new: dict[str, Any]) -> Any:
    return new["asyncapi.json"]


def headers(new: dict[str, Any]) -> Any:
    return api(new)["components"]["messages"]["CallEnded"]["headers"]


def config(new: dict[str, Any], topic: str) -> Any:
    return api(new)["channels"][topic]["bindings"]["kafka"]["topicConfiguration"]


def test_the_same_breaks_nothing() -> None:
    assert breaks(OLD, copy.deepcopy(OLD)) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda new: ended(new)["properties"].update(language={"type": "string"}),
        lambda new: ended(new)["properties"]["caller"].update(description="In other words."),
        lambda new: new["calls.ended.json"]["$defs"]["EndOfCall"]["properties"].update(call_metrics={}),
        lambda new: new.update({"calls.moved.json": {"type": "object"}}),
        lambda new: headers(new)["properties"].update(traceparent={"type": "string"}),
        lambda new: api(new)["channels"].update(more=api(new)["channels"]["calls.ended"]),
        lambda new: config(new, "calls.rejected").update({"retention.ms": -1}),
        lambda new: api(new)["info"].update(version="9"),
    ],
    ids=["member", "words", "member of the body", "topic", "header", "channel", "kept for longer", "version"],
)
def test_what_is_added_breaks_nobody(change: Change) -> None:
    assert changed(change) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda new: ended(new)["properties"].pop("session_id"), "calls.ended.json.session_id is gone"),
        (lambda new: ended(new)["properties"].pop("decided_by"), "calls.ended.json.decided_by is gone"),
        (
            lambda new: ended(new)["required"].remove("session_id"),
            "calls.ended.json.session_id was always there, and may be absent",
        ),
        (
            lambda new: ended(new)["required"].append("decided_by"),
            "calls.ended.json.decided_by must be there, and is absent in old events",
        ),
        (
            lambda new: (
                ended(new)["properties"].update(language={"type": "string"})
                or ended(new)["required"].append("language")
            ),
            "calls.ended.json.language is new and must be there, and is absent in old events",
        ),
        (
            lambda new: ended(new)["properties"]["session_id"].update(type="integer"),
            'calls.ended.json.session_id: type was "string", is "integer"',
        ),
        (
            lambda new: ended(new)["properties"]["agent_id"]["anyOf"].pop(),
            'calls.ended.json.agent_id: it was [{"type": "string"}, {"type": "null"}], is [{"type": "string"}]',
        ),
        (
            lambda new: ended(new)["properties"]["received_at"].update(maximum=1),
            "calls.ended.json.received_at: maximum was 32503680000000000, is 1",
        ),
        (
            lambda new: ended(new)["properties"]["direction"]["enum"].remove("web"),
            "calls.ended.json.direction: 'web' is no word of it any more, and stands in old events",
        ),
        (
            lambda new: ended(new)["properties"]["direction"]["enum"].append("callback"),
            "calls.ended.json.direction: 'callback' is a new word, which no reader of the old contract expects",
        ),
        (
            lambda new: new["calls.ended.json"]["$defs"]["Caller"]["properties"].pop("kind"),
            "calls.ended.json.caller.kind is gone",
        ),
        (
            lambda new: new["billing.charges.json"]["$defs"]["Charge"]["properties"]["amount_micros"].update(
                type="number"
            ),
            'billing.charges.json.entries[].amount_micros: type was "integer", is "number"',
        ),
        (
            lambda new: new["calls.prefetch.json"]["$defs"]["CallPrefetched"]["properties"]["body"].update(
                additionalProperties=True
            ),
            "calls.prefetch.json.body: additionalProperties was",
        ),
        (
            lambda new: new["calls.ended.json"]["$defs"]["EndOfCall"]["properties"]["duration"]["anyOf"].pop(),
            "calls.ended.json.body.duration: it was",
        ),
        (lambda new: new.pop("callers.facts.json"), "callers.facts.json is gone"),
        (lambda new: headers(new)["properties"].pop("ce_id"), "CallEnded, headers.ce_id is gone"),
        (
            lambda new: headers(new)["required"].remove("ce_subject"),
            "CallEnded, headers.ce_subject was always there, and may be absent",
        ),
        (
            lambda new: headers(new)["properties"]["ce_type"].update(const="ringlog.call.finished"),
            'CallEnded, headers.ce_type: const was "ringlog.call.ended", is "ringlog.call.finished"',
        ),
        (
            lambda new: api(new)["components"]["messages"]["CallEnded"]["bindings"]["kafka"].update(
                key={"type": "string"}
            ),
            'CallEnded, key: pattern was "^[0-9a-f]{32}$", is nothing',
        ),
        (
            lambda new: api(new)["components"]["messages"]["CallEnded"].update(contentType="application/avro"),
            "CallEnded has another content type: application/avro",
        ),
        (
            lambda new: api(new)["components"]["messages"]["CallEnded"].update(payload={"type": "string"}),
            'CallEnded: type was "object", is "string"',
        ),
        (lambda new: api(new)["components"]["messages"].pop("CallCharged"), "the message CallCharged is gone"),
        (lambda new: api(new)["channels"].pop("calls.ended"), "the channel calls.ended is gone"),
        (
            lambda new: api(new)["channels"]["calls.ended"].update(address="calls.done"),
            "calls.ended has another address: calls.done",
        ),
        (
            lambda new: api(new)["channels"]["callers.facts"]["messages"].pop("CallerFactDeleted"),
            "callers.facts has no CallerFactDeleted any more",
        ),
        (
            lambda new: config(new, "calls.ended").update({"cleanup.policy": ["compact"]}),
            "calls.ended is cleaned in another way: ['compact']",
        ),
        (
            lambda new: config(new, "calls.ended").update({"retention.ms": 1000}),
            "calls.ended forgets earlier: retention.ms is 1000",
        ),
        (
            lambda new: config(new, "callers.facts").update({"delete.retention.ms": 1000}),
            "callers.facts forgets earlier: delete.retention.ms is 1000",
        ),
        (lambda new: api(new)["operations"].pop("read calls.ended"), "the operation 'read calls.ended' is gone"),
    ],
)
def test_what_would_break_a_reader_is_refused(change: Change, said: str) -> None:
    found = changed(change)
    assert any(sentence.startswith(said) for sentence in found), found


def test_what_it_cannot_compare_is_no_silence() -> None:
    with pytest.raises(ValueError, match="allOf"):
        changed(lambda new: ended(new)["properties"]["caller"].update(allOf=[{}, {}]))
