"""Function calls: as `function_calls` lists them, and as the turns of a chat tell of them."""

from collections.abc import Iterator
from typing import Any

import msgspec

from schemas.lenient import UNREADABLE, nests_deeper

# A chat nests four deep, a function's parameters some more. What nests like this is an attack, or broken.
MAX_DEPTH = 64

UNNAMED = "unknown"

# Of whom a message says what it answers, before the names that may also be the message's own.
_IDS = ("tool_call_id", "tool_use_id", "call_id", "id")

# The provider's own word, and those of the models that it speaks with (OpenAI's, whose text is JSON; Anthropic's).
_PARAMS = ("params", "arguments", "input")


class FunctionCall(msgspec.Struct, frozen=True, gc=False):
    """An external function that the agent invoked; `params` and `result` as JSON text, None when not sent.

    `id` is the one by which a turn of the chat may name it.
    """

    name: str
    params: str | None = None
    result: str | None = None
    id: str | None = None


class Mention(msgspec.Struct, frozen=True):
    """What a turn tells of a function call: that it was made, or (`is_result`) what came of it.

    `position` is the turn's, from 0.
    """

    position: int
    call: FunctionCall
    is_result: bool = False


def function_call_of(item: Any) -> FunctionCall:
    """`{"name", "params", "result"}`, or as a model writes it: `{"id", "function": {"name", "arguments"}}`."""
    if not isinstance(item, dict):
        return FunctionCall(UNNAMED, params=json_text(item))
    inner = item.get("function")
    told = inner if isinstance(inner, dict) else item
    result = item.get("result")
    return FunctionCall(_name(told), _params(told), None if result is None else json_text(result), _id(item))


def may_tell_of_calls(item: Any) -> bool:
    """Whether it is worth looking: nearly all items of a chat are a role and a text."""
    return isinstance(item, dict) and (
        not isinstance(item.get("content"), str) or "tool_calls" in item or "function_call" in item
    )


def mentions_in(item: dict[str, Any], position: int, *, of_a_tool: bool) -> Iterator[Mention]:
    """Of one item of a chat; `of_a_tool`: the turn is what a function has answered.

    Calls lie in `tool_calls`, `function_call` or parts of the content of type `tool_use`; answers are turns of a tool,
    or parts of type `tool_result`.
    """
    calls = item.get("tool_calls")
    for told in calls if isinstance(calls, list) else ():
        yield Mention(position, function_call_of(told))
    if isinstance(item.get("function_call"), dict):
        yield Mention(position, function_call_of(item["function_call"]))
    answered = False
    for part in _parts(item.get("content")):
        if is_part(part, "tool_use"):
            yield Mention(position, function_call_of(part))
        elif is_part(part, "tool_result"):
            answered = True
            yield Mention(position, _answer(part), is_result=True)
    if of_a_tool and not answered:
        yield Mention(position, _answer(item), is_result=True)


def _parts(content: Any) -> Iterator[Any]:
    if isinstance(content, list):
        for part in content:
            yield from _parts(part)
    else:
        yield content


def is_part(part: Any, type_: str) -> bool:
    """Whether it is a part of a content, of that type."""
    return isinstance(part, dict) and part.get("type") == type_


def json_text(value: Any) -> str:
    """One text for one value, whatever the order of its names."""
    return msgspec.json.encode(value, order="deterministic").decode()


def _answer(item: dict[str, Any]) -> FunctionCall:
    return FunctionCall(_name(item), id=_id(item))


def _name(item: dict[str, Any]) -> str:
    name = item.get("name")
    return name if isinstance(name, str) and name else UNNAMED


def _params(item: dict[str, Any]) -> str | None:
    for key in _PARAMS:
        if (params := item.get(key)) is not None:
            return json_text(_inside(params) if key == "arguments" else params)
    return None


def _inside(arguments: Any) -> Any:
    """What a text of JSON says; what is no such text stays as it is."""
    if not isinstance(arguments, str):
        return arguments
    try:
        value = msgspec.json.decode(arguments)
    except (*UNREADABLE, UnicodeEncodeError):
        return arguments
    return arguments if nests_deeper(value, MAX_DEPTH) else value


def _id(item: dict[str, Any]) -> str | None:
    for key in _IDS:
        sent = item.get(key)
        if isinstance(sent, str | int) and not isinstance(sent, bool) and str(sent).strip():
            return str(sent).strip()
    return None
