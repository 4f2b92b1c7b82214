"""What was said, and which functions were called, from every shape in which the provider sends them."""

import ast
from typing import Any, Literal

import msgspec

from schemas.function_calls import (
    MAX_DEPTH,
    FunctionCall,
    Mention,
    function_call_of,
    is_part,
    json_text,
    may_tell_of_calls,
    mentions_in,
)
from schemas.lenient import NULL, UNREADABLE, nests_deeper

# literal_eval builds a syntax tree some hundred times the size of its text: a longer one is not parsed.
MAX_PYTHON_REPR_LENGTH = 256 * 1024

# As text: nothing, and the ways in which JSON and Python write that.
_NOTHING = frozenset(("", "null", "None"))

State = Literal["ok", "none", "unreadable"]

ROLES = {
    "user": "user",
    "human": "user",
    "caller": "user",
    "customer": "user",
    "client": "user",
    "assistant": "agent",
    "agent": "agent",
    "ai": "agent",
    "bot": "agent",
    "model": "agent",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
}


class Turn(msgspec.Struct, frozen=True, gc=False):
    """One turn. `role` is user, agent, system, tool or other; `original_role` is what was sent."""

    role: str
    text: str
    original_role: str | None = None


class Chat(msgspec.Struct, frozen=True):
    """`none`: nothing was sent. `unreadable`: something was, and it is no chat; the event has it as it came.

    `mentions`: where the turns tell of function calls, in their order.
    """

    state: State
    turns: tuple[Turn, ...] = ()
    mentions: tuple[Mention, ...] = ()


class FunctionCalls(msgspec.Struct, frozen=True):
    state: State
    calls: tuple[FunctionCall, ...] = ()


class _Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A turn as nearly all are sent."""

    role: str
    content: str


_plain_chat = msgspec.json.Decoder(list[_Said])
_text_or_plain_chat = msgspec.json.Decoder(str | list[_Said])


def chat_of(raw: msgspec.Raw = NULL) -> Chat:
    """A JSON string of a list, a list, null, an empty string, or something broken. Never raises."""
    return _plain(raw) or _any_chat(raw)


def _plain(raw: msgspec.Raw) -> Chat | None:
    """Of a chat in which each turn is a role and a text, and no tool speaks: most are, and this takes a third."""
    try:
        sent = _text_or_plain_chat.decode(raw)
        items = _plain_chat.decode(sent) if isinstance(sent, str) else sent
    except (*UNREADABLE, UnicodeEncodeError):
        return None
    turns = tuple([Turn(ROLES.get(it.role) or _role(it.role), it.content, it.role) for it in items])
    return None if any(turn.role == "tool" for turn in turns) else Chat("ok", turns)


def _any_chat(raw: msgspec.Raw) -> Chat:
    state, items = _list_of(raw)
    if state != "ok":
        return Chat(state)
    turns = tuple(_turn(item) for item in items)
    mentions = (
        mention
        for position, (item, turn) in enumerate(zip(items, turns, strict=True))
        if turn.role == "tool" or may_tell_of_calls(item)
        for mention in mentions_in(item, position, of_a_tool=turn.role == "tool")
    )
    return Chat("ok", turns, tuple(mentions))


def function_calls_of(raw: msgspec.Raw = NULL) -> FunctionCalls:
    """An array, or the same as a string of JSON or of Python literals. Never raises."""
    state, items = _list_of(raw)
    if state != "ok":
        return FunctionCalls(state)
    return FunctionCalls("ok", tuple(function_call_of(item) for item in items))


def _list_of(raw: msgspec.Raw) -> tuple[State, list[Any]]:
    try:
        value = msgspec.json.decode(raw)
    except UNREADABLE:
        return "unreadable", []
    if isinstance(value, str):
        if value.strip() in _NOTHING:
            return "none", []
        value = _parsed(value)
    elif value is None:
        return "none", []
    if not isinstance(value, list) or nests_deeper(value, MAX_DEPTH):
        return "unreadable", []
    return "ok", value


def _parsed(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (*UNREADABLE, UnicodeEncodeError):
        if len(text) > MAX_PYTHON_REPR_LENGTH:
            return None
    try:
        # Literals only: no names, no calls. The provider's page shows function_calls with Python's quotes.
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None
    return _json_like(value) if isinstance(value, list) and not nests_deeper(value, MAX_DEPTH) else None


def _json_like(value: Any) -> Any:
    """A Python literal as the nearest value of JSON. What it says becomes rows, and a rebuild must write the same."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # half an emoji is no character
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, dict):
        return {_json_like(name if isinstance(name, str) else repr(name)): _json_like(value[name]) for name in value}
    if isinstance(value, list | tuple):
        return [_json_like(inner) for inner in value]
    if isinstance(value, set):
        return sorted((_json_like(inner) for inner in value), key=json_text)  # its own order differs in every process
    return value if value is None or isinstance(value, int | float) else repr(value)  # a complex number, an ellipsis


def _turn(item: Any) -> Turn:
    if not isinstance(item, dict):
        return Turn("other", _text(item))
    sent = item.get("role")
    original = sent if isinstance(sent, str) else None
    content = item.get("content")
    return Turn(_role(original or ""), _text(item.get("text") if content is None else content), original)


def _role(sent: str) -> str:
    return ROLES.get(sent.strip().lower(), "other")


def _text(content: Any) -> str:
    """Content may be text, a list of parts (`{"type": "text", "text": ...}`), null, or anything else.

    A part that is a function call is a `Mention`, and no text; one that is its result has a content of its own.
    """
    if content is None or is_part(content, "tool_use"):
        return ""
    if is_part(content, "tool_result"):
        return _text(content.get("content"))
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(filter(None, (_text(part) for part in content)))
    if isinstance(content, dict) and isinstance(content.get("text"), str):
        return str(content["text"])
    return json_text(content)
