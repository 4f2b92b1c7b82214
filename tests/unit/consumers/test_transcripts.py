"""What a session's revisions say together. No database: a transcript follows from the revisions alone."""

import itertools
from typing import Any

import msgspec
import pytest

from consumers.calls import ended_call
from consumers.transcripts import MAX_TURNS, Account, Transcript, account_of, encoded, transcript_of
from schemas.chat import Turn
from schemas.function_calls import FunctionCall
from tests.ended_calls import ended

HELLO = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi!"}]
TURNS = (Turn("user", "Hello", "user"), Turn("agent", "Hi!", "assistant"))


def account(body: dict[str, Any] | bytes) -> Account:
    return account_of(ended_call(ended("s", 0, body)))


def together(*bodies: dict[str, Any]) -> Transcript:
    calls = [ended_call(ended("s", at, {**body, "n": at})) for at, body in enumerate(bodies)]
    return transcript_of([call.revision(encoded(account_of(call))) for call in calls])


@pytest.mark.parametrize(
    ("chat", "state", "turns"),
    [
        (HELLO, "ok", TURNS),
        (msgspec.json.encode(HELLO).decode(), "ok", TURNS),
        (repr(HELLO), "ok", TURNS),
        (None, "none", ()),
        ("", "none", ()),
        ("[]", "ok", ()),
        ([{"role": "user"}, {"content": None}], "ok", (Turn("user", "", "user"), Turn("other", "", None))),
        (
            [{"role": "tool", "content": [{"type": "text", "text": "a"}, {"n": 1}]}, "so"],
            "ok",
            (Turn("tool", 'a\n{"n":1}', "tool"), Turn("other", "so", None)),
        ),
        ('[{"role": "user", "conte', "unreadable", ()),
        ("no chat", "unreadable", ()),
        ({"role": "user"}, "unreadable", ()),
        (17, "unreadable", ()),
    ],
)
def test_every_shape_of_a_chat(chat: Any, state: str, turns: tuple[Turn, ...]) -> None:
    said = account({"chat": chat})
    assert (said.chat.state, said.chat.turns) == (state, turns)
    assert (said.original_chat is not None) == (state == "unreadable")


@pytest.mark.parametrize(
    ("sent", "state", "calls"),
    [
        ([{"name": "book", "params": {"at": 9}}], "ok", (FunctionCall("book", '{"at":9}', None),)),
        ("[{'name': 'book', 'result': True}]", "ok", (FunctionCall("book", None, "true"),)),
        ([{}, 5], "ok", (FunctionCall("unknown"), FunctionCall("unknown", "5"))),
        (None, "none", ()),
        ("[{'name': book()}]", "unreadable", ()),
        ({"name": "book"}, "unreadable", ()),
    ],
)
def test_every_shape_of_function_calls(sent: Any, state: str, calls: tuple[FunctionCall, ...]) -> None:
    said = account({"function_calls": sent})
    assert (said.functions.state, said.functions.calls) == (state, calls)


def test_an_unreadable_chat_is_kept_as_it_came() -> None:
    assert account(b'{"chat": "[{\\"role\\": "}').original_chat == '"[{\\"role\\": "'
    assert account(b'{"chat": {"a" : 1}}').original_chat == '{"a" : 1}'


def test_a_chat_nested_beyond_reason_is_unreadable() -> None:
    deep = b'{"chat": [' + b"[" * 600 + b"]" * 600 + b"]}"
    assert account(deep).chat.state == "unreadable"


def test_more_turns_than_a_conversation_has_are_unreadable() -> None:
    assert len(account({"chat": ["a"] * MAX_TURNS, "function_calls": [1] * MAX_TURNS}).chat.turns) == MAX_TURNS
    too_many = account({"chat": ["a"] * (MAX_TURNS + 1), "function_calls": [1] * (MAX_TURNS + 1)})
    assert (too_many.chat.state, too_many.functions.state) == ("unreadable", "unreadable")
    assert too_many.original_chat is not None


def test_more_calls_in_a_chat_than_a_conversation_has_are_unreadable() -> None:
    calls = [{"function": {"name": "f"}}] * (MAX_TURNS + 1)
    assert account({"chat": [{"role": "assistant", "tool_calls": calls[1:]}]}).chat.state == "ok"
    assert account({"chat": [{"role": "assistant", "tool_calls": calls}]}).chat.state == "unreadable"


def test_texts_of_calls_in_a_chat_become_what_both_databases_can_hold() -> None:
    told = "[{'role': 'ai', 'tool_calls': [{'name': 'a\\x00', 'id': 'i\\ud800', 'arguments': '\"\\ud800\"'}]}]"
    (mention,) = account({"chat": told}).chat.mentions
    assert mention.call == FunctionCall("a\ufffd", '"\ufffd"', None, "i\ufffd")


def test_the_chat_of_one_revision_gives_the_calls_of_another_their_places() -> None:
    talk = [{"role": "user", "content": "?"}, {"role": "tool", "name": "book", "content": "ok"}]
    calls = [{"name": "cancel"}, {"name": "book", "params": {"at": 9}}]
    chat_first, calls_first = (
        together(*bodies) for bodies in itertools.permutations([{"chat": talk}, {"function_calls": calls}])
    )
    assert chat_first.calls == calls_first.calls
    assert [(it.name, it.turns_before) for it in chat_first.calls] == [("cancel", None), ("book", 1)]
    assert [it.turns_before for it in together({"function_calls": calls}).calls] == [None, None]


def test_a_revision_that_only_tells_of_a_call_changes_the_transcript() -> None:
    talk = {"role": "assistant", "content": "One moment."}
    revised = together({"chat": [talk]}, {"chat": [{**talk, "tool_calls": [{"name": "book"}]}]})
    assert (len(revised.history), [it.name for it in revised.calls]) == (2, ["book"])


def test_texts_become_what_both_databases_can_hold() -> None:
    chat = "[{'role': 'us\\x00er', 'content': 'a\\ud800b\\x00'}]"
    said = account({"chat": chat, "call_status": "o\0dd", "function_calls": "[{'name': 'f\\x00', 'params': '\\x00'}]"})
    assert said.chat.turns == (Turn("other", "a\ufffdb\ufffd", "us\ufffder"),)
    assert said.functions.calls == (FunctionCall("f\ufffd", '"\\u0000"', None),)
    assert (said.status.value, said.status.original) == ("other", "o\ufffddd")


def test_the_facts_of_the_call() -> None:
    said = account({"ts": 1_700_000_000.25, "duration": 12.3456, "call_status": "user-ended"})
    assert (said.started_at, said.duration_ms, said.status.value) == (1_700_000_000_250_000, 12_346, "user-ended")
    assert (said.agent_id, said.caller.id) == ("-agent", "c0ffee")
    nothing = account({"ts": "soon", "duration": None})
    assert (nothing.started_at, nothing.duration_ms, nothing.status.value) == (None, None, None)


def test_a_revision_replaces_what_it_says_anew() -> None:
    revised = together({"chat": HELLO, "duration": 5}, {"chat": HELLO[:1], "duration": 6})
    assert (revised.account.chat.turns, revised.account.duration_ms) == (TURNS[:1], 6_000)
    assert len(revised.history) == 2


def test_what_a_revision_does_not_say_stays() -> None:
    full = {"chat": HELLO, "function_calls": [{"name": "f"}], "ts": 5, "duration": 6, "call_status": "timeout"}
    assert together(full, {}).account == together(full).account
    assert together({}, full).account == together(full).account


def test_an_unreadable_revision_does_not_replace_a_readable_one() -> None:
    assert together({"chat": HELLO}, {"chat": "broken"}).account.chat.turns == TURNS
    assert together({"chat": HELLO}, {"chat": "broken"}).account.original_chat is None
    assert together({"chat": "broken"}, {"chat": HELLO}).account.original_chat is None
    assert together({"chat": "one"}, {"chat": "two"}, {}).account.original_chat == '"two"'


def test_an_empty_chat_is_something_said() -> None:
    assert together({"chat": HELLO}, {"chat": []}).account.chat.turns == ()


def test_the_source_is_the_last_revision_that_changed_something() -> None:
    assert len(together({"chat": HELLO}, {"chat": repr(HELLO)}, {}).history) == 1
    assert len(together({}, {"chat": HELLO}, {"chat": HELLO}).history) == 2


def test_what_was_kept_before_chats_told_of_calls_is_read() -> None:
    """Its content lies in the table of revisions, without the members that came later."""
    call = ended_call(ended("s", 0, {"chat": HELLO, "function_calls": [{"name": "book"}]}))
    old = msgspec.msgpack.decode(encoded(account_of(call)))
    chat, functions = old[5], old[7]
    del chat["mentions"], functions["calls"][0]["id"]
    assert transcript_of([call.revision(encoded(old))]).account == account_of(call)
