"""What a chat tells of function calls, in every shape in which models write it."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.chat import chat_of
from schemas.function_calls import MAX_DEPTH, FunctionCall, Mention


def told(*items: object) -> tuple[Mention, ...]:
    chat = chat_of(msgspec.Raw(json.dumps(items).encode()))
    assert chat.state == "ok"
    assert len(chat.turns) == len(items)
    return chat.mentions


CALL = FunctionCall("find_slot", '{"day":"monday"}', None, "call_1")
RESULT = FunctionCall("unknown", id="call_1")


@pytest.mark.parametrize(
    "item",
    [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "find_slot", "arguments": '{"day": "monday"}'},
                }
            ],
        },
        {"role": "assistant", "tool_calls": [{"id": "call_1", "name": "find_slot", "arguments": {"day": "monday"}}]},
        {
            "role": "assistant",
            "function_call": {"call_id": "call_1", "name": "find_slot", "arguments": '{"day":"monday"}'},
        },
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "One moment."},
                {"type": "tool_use", "id": "call_1", "name": "find_slot", "input": {"day": "monday"}},
            ],
        },
        {"content": {"type": "tool_use", "id": "call_1", "name": "find_slot", "input": {"day": "monday"}}},
    ],
)
def test_a_call_is_read_from_every_shape(item: object) -> None:
    assert told("Hello", item) == (Mention(1, CALL),)


@pytest.mark.parametrize(
    "item",
    [
        {"role": "tool", "tool_call_id": "call_1", "content": "10:30"},
        {"role": " Function ", "tool_call_id": "call_1", "id": "msg_7", "content": None},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "10:30"}]},
        {"role": "tool", "content": [{"type": "tool_result", "tool_use_id": "call_1"}]},  # one result, not two
    ],
)
def test_a_result_is_read_from_every_shape(item: object) -> None:
    assert told(item) == (Mention(0, RESULT, is_result=True),)


def test_a_tool_may_be_named() -> None:
    assert told({"role": "tool", "name": "find_slot"}) == (Mention(0, FunctionCall("find_slot"), is_result=True),)


@pytest.mark.parametrize(
    "item",
    [
        "find_slot()",
        {"role": "assistant", "content": "I call find_slot now"},
        {"role": "assistant", "tool_calls": None, "function_call": None},
        {"role": "assistant", "tool_calls": "find_slot", "function_call": "auto"},
        {"role": "assistant", "tool_calls": {}, "content": [{"type": "image"}, None, 5]},
    ],
)
def test_what_tells_of_no_call_is_none(item: object) -> None:
    assert told(item) == ()


def test_broken_calls_stay_calls() -> None:
    calls = [
        5,
        None,
        {},
        {"function": None},
        {"function": {"name": 7, "arguments": "{broken"}},
        {"id": True, "name": "f"},
    ]
    assert [it.call for it in told({"role": "assistant", "tool_calls": calls})] == [
        FunctionCall("unknown", "5"),
        FunctionCall("unknown", "null"),
        FunctionCall("unknown"),
        FunctionCall("unknown"),
        FunctionCall("unknown", '"{broken"'),
        FunctionCall("f"),
    ]


def test_arguments_that_nest_too_deep_stay_text() -> None:
    deep = "[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2)
    very = "[" * 100_000
    calls = [{"name": "f", "arguments": deep}, {"name": "f", "arguments": very}]
    assert [it.call.params for it in told({"role": "assistant", "tool_calls": calls})] == [f'"{deep}"', f'"{very}"']


def test_what_is_a_call_is_no_text_and_a_result_is_its_content() -> None:
    chat = chat_of(
        msgspec.Raw(
            json.dumps(
                [
                    {
                        "role": "assistant",
                        "content": ["Wait.", {"type": "tool_use", "id": "1", "name": "f", "input": {}}],
                    },
                    {
                        "role": "user",
                        "content": [{"type": "tool_result", "tool_use_id": "1", "content": [{"text": "ok"}]}],
                    },
                ]
            ).encode()
        )
    )
    assert [turn.text for turn in chat.turns] == ["Wait.", "ok"]


def test_python_tells_of_the_same_calls_as_json() -> None:
    items = [
        {"role": "assistant", "content": None, "tool_calls": [{"id": 1, "function": {"name": "f", "arguments": "{}"}}]}
    ]
    of_json, of_python = (chat_of(msgspec.Raw(json.dumps(text).encode())) for text in (json.dumps(items), repr(items)))
    assert of_json == of_python
    assert of_json.mentions == (Mention(0, FunctionCall("f", "{}", None, "1")),)


WORDS = st.sampled_from(
    [
        *(
            "role",
            "content",
            "tool_calls",
            "function_call",
            "function",
            "name",
            "id",
            "tool_call_id",
            "arguments",
            "input",
        ),
        *("params", "type", "text", "tool", "assistant", "tool_use", "tool_result", "{broken", '{"a": 1}', ""),
    ]
)
ITEMS = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=25,
)


@given(st.lists(ITEMS, max_size=4))
def test_whatever_an_item_is_it_is_one_turn_and_its_calls_can_be_kept(items: list[object]) -> None:
    for mention in told(*items):
        assert 0 <= mention.position < len(items)
        assert mention.call.name
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(mention), type=Mention) == mention
        if mention.call.params is not None:
            json.loads(mention.call.params)
