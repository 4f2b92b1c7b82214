"""What is odd about some calls: every shape that the provider is known to send, or its page leaves open.

Each changes the request and the books together. Source: provider facts, shapes; design, webhook decoding.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from cli.simulator.caller import WITHHELD, Caller
from cli.simulator.credit import plain
from cli.simulator.odd_talk import (
    chat_array,
    chat_empty_string,
    chat_invalid_json,
    chat_items_odd,
    chat_null,
    chat_with_nul,
    function_calls_json_string,
    function_calls_null,
    function_calls_python_repr,
)
from cli.simulator.story import Story, web

Oddity = Callable[[Story], None]


def every_field_absent(story: Story) -> None:
    _forget_everything(story)
    story.body = {"session_id": story.books.session_id}


def every_field_null(story: Story) -> None:
    fields = [*story.body, "voip"]
    _forget_everything(story)
    story.body = dict.fromkeys(fields) | {"session_id": story.books.session_id}


def duration_null(story: Story) -> None:
    story.last(None)


def duration_float(story: Story) -> None:
    story.last(f"{story.dice.randint(1, 900)}.{story.dice.choice(('5', '25', '125', '042', '999'))}")


def ts_integer(story: Story) -> None:
    seconds = (story.books.started_at or 0) // 1_000_000
    story.body["ts"], story.books.started_at = seconds, seconds * 1_000_000


def ts_null(story: Story) -> None:
    story.body["ts"] = story.books.started_at = None


def recording_null(story: Story) -> None:
    _unrecorded(story, None)


def recording_empty(story: Story) -> None:
    _unrecorded(story, {})


def recording_url_null(story: Story) -> None:
    _unrecorded(story, {"recording_url": None})


def recording_late(story: Story) -> None:
    story.record("late/")


def recording_slow(story: Story) -> None:
    story.record("slow/")


def recording_moved(story: Story) -> None:
    story.record("moved/")


def cost_null(story: Story) -> None:
    story.body["cost_breakdown"] = story.books.costs = None


def cost_absent(story: Story) -> None:
    del story.body["cost_breakdown"]
    story.books.costs = None


def cost_item_unpriced(story: Story) -> None:
    """One item without a price makes the whole cost unknown: a part of a bill is no bill."""
    story.body["cost_breakdown"].append({"type": "telephony", "provider": "telnyx", "credit": None})
    story.books.costs = None


def cost_empty(story: Story) -> None:
    story.bill({})


def cost_items_with_more_keys(story: Story) -> None:
    for item in story.body["cost_breakdown"]:
        item |= {"prompt_tokens": 812, "completion_tokens": 64.5, "tier": {"name": "a", "since": None}}


def cost_item_repeated(story: Story) -> None:
    """Two items of one type and provider are added."""
    story.body["cost_breakdown"] += [
        {"type": "stt", "provider": "millis", "credit": msgspec.Raw(plain(4300).encode())},
        {"type": "stt", "provider": "millis", "credit": "1e-6"},
    ]
    costs = dict(story.books.costs or {})
    costs["stt", "millis"] = costs.get(("stt", "millis"), 0) + 4301
    story.books.costs = costs


def status_of_the_api(story: Story) -> None:
    status = story.dice.choice(("no-answer", "busy", "canceled", "failed", "in-progress"))
    story.body["call_status"] = story.books.status = story.books.original_status = status


def status_unheard_of(story: Story) -> None:
    story.body["call_status"] = story.books.original_status = "swallowed-by-carrier"
    story.books.status = "other"


def status_null(story: Story) -> None:
    story.body["call_status"] = story.books.status = story.books.original_status = None


def web_call(story: Story) -> None:
    web(story)


def voip_null(story: Story) -> None:
    web(story)
    story.body["voip"] = None


def voip_empty(story: Story) -> None:
    web(story)
    story.body["voip"] = {}


def caller_withheld(story: Story) -> None:
    story.call_from(Caller(story.dice.choice(WITHHELD), None))


def caller_by_sip(story: Story) -> None:
    story.call_from(Caller("sip:front-desk@pbx.example;transport=tcp", None))


def agent_with_dash(story: Story) -> None:
    agent_id = "-Odd_" + story.books.session_id[2:14]
    story.body["agent_id"] = story.books.agent_id = agent_id
    story.query = [(name, agent_id if name == "agent_id" else value) for name, value in story.query]


def fields_unknown(story: Story) -> None:
    story.body |= {
        "call_metrics": {"llm_latency": [0.31, 0.4], "interruptions": 2},
        "call_analysis": {"opt_out_detection": {"opted_out": False}},
        "call_summary": "The caller moved an appointment.",
        "previous_session_id": "-Obefore",
        "not_invented_yet": [{"a": None}, 1e300, -0.0, "\u0000"],
    }


def metadata_null(story: Story) -> None:
    story.body["metadata"] = None
    story.query = [pair for pair in story.query if pair[0] in ("session_id", "agent_id", "from", "to")]


def metadata_nested(story: Story) -> None:
    story.body["metadata"] = {"cart": [1, 2.5, {"sku": "A-1"}], "vip": True, "note": "é & = ?"}
    story.query += [("cart", '[1, 2.5, {"sku": "A-1"}]'), ("vip", "True"), ("note", "é & = ?")]


def metadata_names_collide(story: Story) -> None:
    story.body["metadata"] |= {"session_id": "not-this-one", "from": "the web form"}
    story.query += [("session_id", "not-this-one"), ("to", "the sales team")]


def plus_as_space(story: Story) -> None:
    story.plus_as_space = True


def ended_before_its_prefetch(story: Story) -> None:
    story.order = "ended first"


def prefetch_long_after_its_end(story: Story) -> None:
    story.order = "prefetch late"


def ended_without_prefetch(story: Story) -> None:
    story.order = "no prefetch"


def never_ended(story: Story) -> None:
    story.order = "never ended"


def _forget_everything(story: Story) -> None:
    web(story)
    books = story.books
    books.agent_id = books.status = books.original_status = books.started_at = books.duration_ms = books.costs = None
    books.chat_state, books.turns, books.function_calls, books.recording = "none", [], [], None


def _unrecorded(story: Story, recording: dict[str, Any] | None) -> None:
    story.body["recording"], story.books.recording = recording, None


# In this order the odd calls of a plan take their turns, so that a plan with enough of them has every one.
ODDITIES: tuple[Oddity, ...] = (
    chat_array,
    cost_null,
    web_call,
    function_calls_python_repr,
    recording_null,
    ended_before_its_prefetch,
    plus_as_space,
    every_field_absent,
    status_unheard_of,
    duration_float,
    agent_with_dash,
    fields_unknown,
    chat_invalid_json,
    cost_item_unpriced,
    recording_late,
    prefetch_long_after_its_end,
    every_field_null,
    duration_null,
    ts_integer,
    ts_null,
    chat_null,
    chat_empty_string,
    chat_items_odd,
    chat_with_nul,
    function_calls_json_string,
    function_calls_null,
    recording_empty,
    recording_url_null,
    recording_slow,
    recording_moved,
    cost_absent,
    cost_empty,
    cost_items_with_more_keys,
    cost_item_repeated,
    status_of_the_api,
    status_null,
    voip_null,
    voip_empty,
    caller_withheld,
    caller_by_sip,
    metadata_null,
    metadata_nested,
    metadata_names_collide,
    ended_without_prefetch,
    never_ended,
)
