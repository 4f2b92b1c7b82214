"""The oracle and ringlog's decoding, which know nothing of each other, read every simulated body the same way."""

import json

import pytest

from cli.simulator.call import Call
from cli.simulator.plan import Plan, Wish
from consumers.weaving import placed
from schemas.end_of_call import decode_end_of_call

CALLS = [call for call in Plan(Wish(400, 0, 0.2, 0.6, 11), "http://127.0.0.1:8099") if call.books]
BY_SHAPE = {call.shape: call for call in CALLS if call.shape != "cost_unknown_later"}


@pytest.mark.parametrize("call", BY_SHAPE.values(), ids=BY_SHAPE.keys())
def test_a_body_is_read_as_the_books_must_say(call: Call) -> None:
    books = call.books
    assert books is not None
    sent = list(dict.fromkeys(step.content for step in call.steps if step.webhook == "end-of-call"))[-1]
    body = decode_end_of_call(sent)
    cost, chat = body.cost(), body.chat_turns()
    charges = None if cost is None else {(it.type, it.provider): it.amount_micros for it in cost.charges}
    assert charges == books.costs
    assert (body.status.value, body.status.original) == (books.status, books.original_status)
    assert (body.started_at_us, body.duration_ms, body.agent_id) == (
        books.started_at,
        books.duration_ms,
        books.agent_id,
    )
    assert chat.state == books.chat_state
    assert [(turn.role, turn.text.replace("\0", "\ufffd")) for turn in chat.turns] == books.turns
    assert [
        (it.name, json.loads(it.params or "null"), json.loads(it.result or "null"))
        for it in placed(chat, body.functions().calls)
    ] == [(it.name, it.params, it.result) for it in books.function_calls]
    assert (body.recording_url is None) == (books.recording is None)
