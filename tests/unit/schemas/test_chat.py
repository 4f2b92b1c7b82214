"""`chat` and `function_calls` in every shape in which they are sent."""

import json
import os
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.chat import (
    MAX_PYTHON_REPR_LENGTH,
    Chat,
    FunctionCalls,
    Turn,
    chat_of,
    function_calls_of,
)
from schemas.function_calls import MAX_DEPTH, FunctionCall

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
CHAT = Chat("ok", (Turn("user", "Hi", "user"), Turn("agent", "Hello", "assistant")))

# The provider's own example, which is Python and no JSON.
CALLS = [{"name": "check_status", "params": {"check": "true", "order_id": 6689, "session_id": "-OA1XVnwRGpaameIakJb"}}]
CALL = FunctionCall("check_status", '{"check":"true","order_id":6689,"session_id":"-OA1XVnwRGpaameIakJb"}')


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


@pytest.mark.parametrize("sent", [TURNS, json.dumps(TURNS), json.dumps(TURNS, indent=2), repr(TURNS)])
def test_a_list_or_a_string_of_one_is_a_chat(sent: object) -> None:
    assert chat_of(raw(sent)) == CHAT


@pytest.mark.parametrize("sent", [None, "", "  ", "null", " None "])
def test_nothing_is_no_chat(sent: object) -> None:
    assert chat_of(raw(sent)) == Chat("none")
    assert function_calls_of(raw(sent)) == FunctionCalls("none")


@pytest.mark.parametrize("sent", ["[{", "hello", 5, True, {"role": "user"}, '{"a":1}', "[" * 100_000, "(" * 100_000])
def test_what_is_broken_is_said_to_be(sent: object) -> None:
    assert chat_of(raw(sent)) == Chat("unreadable")
    assert function_calls_of(raw(sent)) == FunctionCalls("unreadable")


@pytest.mark.parametrize("sent", [b'"\xff"', b"[" * 100_000, b""])
def test_bytes_that_are_no_json_are_unreadable(sent: bytes) -> None:
    assert chat_of(msgspec.Raw(sent)).state == "unreadable"


def test_an_empty_list_is_a_chat_in_which_nothing_was_said() -> None:
    assert chat_of(raw([])) == Chat("ok")


@pytest.mark.parametrize(
    ("item", "turn"),
    [
        ({"role": "user"}, Turn("user", "", "user")),
        ({"role": "user", "content": None}, Turn("user", "", "user")),
        ({"role": " Human ", "content": "x"}, Turn("user", "x", " Human ")),
        ({"role": "narrator", "content": "x"}, Turn("other", "x", "narrator")),
        ({"content": "x"}, Turn("other", "x")),
        ({"role": 7, "content": "x"}, Turn("other", "x")),
        ({"role": "tool", "content": {"ok": True}}, Turn("tool", '{"ok":true}', "tool")),
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, "b", {"type": "image"}, None]},
            Turn("user", 'a\nb\n{"type":"image"}', "user"),
        ),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}, Turn("agent", "", "assistant")),
        ({"role": "user", "text": "said so"}, Turn("user", "said so", "user")),
        ({"role": "user", "content": "this", "text": "not this"}, Turn("user", "this", "user")),
        ({"role": "user", "content": ""}, Turn("user", "", "user")),
        ({"role": "user", "content": []}, Turn("user", "", "user")),
        ({"role": "user", "content": 5}, Turn("user", "5", "user")),
        ({"role": "user", "content": False}, Turn("user", "false", "user")),
        ({"role": "user", "content": {"type": "text", "text": "a"}}, Turn("user", "a", "user")),
        ({"role": "user", "content": {"text": 5}}, Turn("user", '{"text":5}', "user")),
        ({}, Turn("other", "")),
        (["a", ["b"]], Turn("other", "a\nb")),
        (5, Turn("other", "5")),
        ("only text", Turn("other", "only text")),
        (None, Turn("other", "")),
    ],
)
def test_odd_turns_stay_turns(item: object, turn: Turn) -> None:
    chat = chat_of(raw([item]))
    assert (chat.state, chat.turns) == ("ok", (turn,))


@pytest.mark.parametrize(
    ("sent", "role"),
    [
        *[(sent, "user") for sent in ("user", "User", " USER\n", "human", "caller", "Customer", "client")],
        *[(sent, "agent") for sent in ("assistant", "Assistant", "agent", "AI", "bot", "model")],
        *[(sent, "system") for sent in ("system", "System", "developer")],
        *[(sent, "tool") for sent in ("tool", "Tool", "function")],
        *[(sent, "other") for sent in ("", "user2", "narrator", "assistants", "us er", "\u0000user")],
    ],
)
def test_roles_are_normalised_and_stay_as_they_were_sent(sent: str, role: str) -> None:
    assert chat_of(raw([{"role": sent, "content": "x"}])).turns == (Turn(role, "x", sent),)


@pytest.mark.parametrize("sent", [None, 7, True, ["user"], {"name": "user"}])
def test_a_role_that_is_no_text_is_another(sent: object) -> None:
    assert chat_of(raw([{"role": sent, "content": "x"}])).turns == (Turn("other", "x"),)


@pytest.mark.parametrize("sent", [CALLS, json.dumps(CALLS), repr(CALLS)])
def test_function_calls_with_json_or_python_quotes(sent: object) -> None:
    assert function_calls_of(raw(sent)) == FunctionCalls("ok", (CALL,))


@pytest.mark.parametrize(
    ("item", "call"),
    [
        ({"name": "f", "result": "done"}, FunctionCall("f", None, '"done"')),
        ({"name": "f", "params": {}, "result": None}, FunctionCall("f", "{}", None)),
        ({"params": [1]}, FunctionCall("unknown", "[1]")),
        ({"name": ""}, FunctionCall("unknown")),
        ({"name": None}, FunctionCall("unknown")),
        ({"name": ["f"], "result": []}, FunctionCall("unknown", None, "[]")),
        ({"name": "f", "params": "x", "result": False}, FunctionCall("f", '"x"', "false")),
        ({"name": "f", "params": '{"a":1}'}, FunctionCall("f", '"{\\"a\\":1}"')),  # a text, and it stays one
        (
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"b": 2, "a": 1}'}},
            FunctionCall("f", '{"a":1,"b":2}', None, "1"),
        ),
        (None, FunctionCall("unknown", "null")),
        ("f()", FunctionCall("unknown", '"f()"')),
    ],
)
def test_odd_function_calls_stay_calls(item: object, call: FunctionCall) -> None:
    assert function_calls_of(raw([item])) == FunctionCalls("ok", (call,))


def test_params_have_one_text_whatever_the_order_of_their_names() -> None:
    one, other = raw([{"name": "f", "params": {"a": 1, "b": 2}}]), raw([{"name": "f", "params": {"b": 2, "a": 1}}])
    assert function_calls_of(one) == function_calls_of(other)


@pytest.mark.parametrize(
    ("literal", "params"),
    [
        ("{1, 2}", "[1,2]"),
        ("{1, '1', None, (2, 3)}", '["1",1,[2,3],null]'),
        ("{None: True, 1: 2, (1, 'a'): 3, '\\ud800': 4}", '{"(1, \'a\')":3,"1":2,"None":true,"\ufffd":4}'),
        ("1+2j", '"(1+2j)"'),
        ("...", '"Ellipsis"'),
        ("b'a\\xff'", '"a\\\\xff"'),
        ("'\\ud83d\\ude00 \\ud800'", '"😀 \ufffd"'),
        ("1e999", "null"),
    ],
)
def test_python_literals_that_json_does_not_know(literal: str, params: str) -> None:
    text = f"[{{'name': 'f', 'params': {literal}}}]"
    assert function_calls_of(raw(text)) == FunctionCalls("ok", (FunctionCall("f", params),))


def test_a_set_has_one_order_in_every_process() -> None:
    said = "[{'name': 'f', 'params': {'a', 'b', 'c', 'd', 1, None, ('e', 'f')}, 'result': {'x': {b'g', 'h', 'i', 2j}}}]"
    program = (
        f"from tests.unit.schemas.test_chat import *; print(function_calls_of(raw({said!r})), chat_of(raw({said!r})))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(texts) == 1
    assert b'["a","b","c","d",1,["e","f"],null]' in texts.pop()


@pytest.mark.parametrize("levels", [70, 150])
@pytest.mark.parametrize("brackets", ["()", "[]"])
def test_python_that_nests_too_deep_is_unreadable(levels: int, brackets: str) -> None:
    deep = brackets[0] * levels + "1," + (brackets[1] + ",") * (levels - 1) + brackets[1]
    assert function_calls_of(raw(f"[{{'name': 'f', 'params': {deep}}}]")) == FunctionCalls("unreadable")


@pytest.mark.parametrize("text", ["[__import__('os').getcwd()]", "[open('x')]", "[x for x in 'ab']", "[1].copy()"])
def test_python_is_read_and_never_run(text: str) -> None:
    assert function_calls_of(raw(text)).state == "unreadable"


def test_a_python_repr_has_a_limit_and_json_has_not() -> None:
    long = [{"name": "f", "params": "x" * MAX_PYTHON_REPR_LENGTH}]
    assert function_calls_of(raw(repr(long))).state == "unreadable"
    assert function_calls_of(raw(json.dumps(long))).state == "ok"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(anything)
def test_no_json_value_raises(value: object) -> None:
    for sent in (raw(value), raw(json.dumps(value)), raw(repr(value))):
        assert chat_of(sent).state in ("ok", "none", "unreadable")
        assert function_calls_of(sent).state in ("ok", "none", "unreadable")


@given(st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.text()})))
def test_json_and_python_say_the_same(turns: list[dict[str, str]]) -> None:
    assert chat_of(raw(turns)) == chat_of(raw(json.dumps(turns))) == chat_of(raw(repr(turns)))


@pytest.mark.parametrize("levels", [65, 500, 900])
def test_a_chat_that_nests_too_deep_is_unreadable_wherever_it_is_read(levels: int) -> None:
    deep = "[" * levels + "]" * levels
    assert chat_of(msgspec.Raw(f'[{{"role": "user", "content": {deep}}}]'.encode())) == Chat("unreadable")
    assert function_calls_of(msgspec.Raw(f'[{{"name": "f", "params": {deep}}}]'.encode())) == FunctionCalls(
        "unreadable"
    )


def test_a_chat_of_parts_in_parts_is_readable() -> None:
    parts = "[" * 20 + '"hello"' + "]" * 20
    (turn,) = chat_of(msgspec.Raw(f'[{{"role": "user", "content": {parts}}}]'.encode())).turns
    assert turn.text == "hello"


@pytest.mark.parametrize("innermost", ["", "1", '{"a": 1}'])
def test_how_deep_a_chat_lies_in_itself_is_a_matter_of_its_lists_and_objects(innermost: str) -> None:
    levels = MAX_DEPTH - innermost.count("{") + (innermost == "")  # what is empty has nothing a level below
    assert chat_of(msgspec.Raw(("[" * levels + innermost + "]" * levels).encode())).state == "ok"
    assert chat_of(msgspec.Raw(("[" * (levels + 1) + innermost + "]" * (levels + 1)).encode())).state == "unreadable"


_ITEMS = st.one_of(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", " User", "assistant", "tool", "captain", ""]), "content": st.text(max_size=3)}
    ),
    st.sampled_from([{}, "said", 1, None, {"role": "user"}, {"role": 1, "content": "a"}, {"role": "user", "n": 1}]),
)


@given(st.lists(_ITEMS, max_size=3), st.booleans(), st.integers(0, 3))
def test_the_short_way_of_a_plain_chat_leads_to_the_same(items: list[object], as_text: bool, cut: int) -> None:
    """A member that nobody knows is no reason to go the long way for anything but time."""
    sent = json.dumps(items)
    sent = sent[: len(sent) - cut]
    of_any = [{**it, "unknown": 1} if isinstance(it, dict) else it for it in items]
    long_way = json.dumps(of_any)
    long_way = long_way[: len(long_way) - cut]
    chats = [chat_of(raw(it) if as_text else msgspec.Raw(it.encode())) for it in (sent, long_way)]
    assert chats[0] == chats[1]
