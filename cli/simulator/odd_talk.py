"""Odd shapes of what was said and of the functions that were called. Source: provider facts, shapes."""

import msgspec

from cli.simulator.call import FunctionCall
from cli.simulator.conversation import sent_function_calls, sent_turns
from cli.simulator.story import Story


def chat_array(story: Story) -> None:
    story.body["chat"] = sent_turns(story.books.turns)


def chat_null(story: Story) -> None:
    _silence(story, None)


def chat_empty_string(story: Story) -> None:
    _silence(story, "")


def chat_invalid_json(story: Story) -> None:
    _silence(story, story.body["chat"][:-7])
    story.books.chat_state = "unreadable"


def chat_items_odd(story: Story) -> None:
    """No content, null content beside tool calls, content in parts, and roles that the page doesn't know.

    The call that only the chat tells of comes after those of `function_calls`.
    """
    story.body["chat"] = [
        {"role": "assistant"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "look_around"}}]},
        {"role": "tool", "content": "10:30", "tool_call_id": "1"},
        {"role": "user", "content": [{"type": "text", "text": "half past ten?"}]},
        {"role": "narrator", "content": "a dog barks"},
        *sent_turns(story.books.turns),
    ]
    story.books.turns[:0] = [
        ("agent", ""),
        ("agent", ""),
        ("tool", "10:30"),
        ("user", "half past ten?"),
        ("other", "a dog barks"),
    ]
    story.books.function_calls.append(FunctionCall("look_around", None, None))


def chat_with_nul(story: Story) -> None:
    """PostgreSQL stores no NUL: a replacement character takes its place."""
    story.body["chat"] = [*sent_turns(story.books.turns), {"role": "user", "content": "cut\x00off"}]
    story.books.turns.append(("user", "cut\ufffdoff"))


def function_calls_python_repr(story: Story) -> None:
    """The page's own example has Python's quotes, which no JSON has: a string, then."""
    story.books.function_calls.append(FunctionCall("look_up", {"deep": None, "open": True, "name": "it's"}, "ok"))
    story.body["function_calls"] = repr(sent_function_calls(story.books.function_calls))


def function_calls_json_string(story: Story) -> None:
    story.body["function_calls"] = msgspec.json.encode(story.body["function_calls"]).decode()


def function_calls_null(story: Story) -> None:
    story.body["function_calls"] = None
    story.books.function_calls = []


def _silence(story: Story, chat: str | None) -> None:
    story.body["chat"] = chat
    story.books.chat_state, story.books.turns = "none", []
