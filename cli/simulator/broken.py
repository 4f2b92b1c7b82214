"""Bodies that nobody can read: refused with 400, and in no book."""

from collections.abc import Callable

Broken = Callable[[str], bytes]

# Deeper than any reader goes, in a body of a hundred kilobytes.
_DEPTH = 50_000


def not_json(session_id: str) -> bytes:
    """The connection of the sender broke, and something between us closed the request."""
    return f'{{"session_id": "{session_id}", "chat": "[{{'.encode()


def not_utf8(session_id: str) -> bytes:
    return b'{"session_id": "' + session_id.encode() + b'\xff\xfe", "chat": null}'


def not_an_object(session_id: str) -> bytes:
    return f'["{session_id}"]'.encode()


def too_deep(session_id: str) -> bytes:
    return f'{{"session_id": "{session_id}", "metadata": {"[" * _DEPTH}{"]" * _DEPTH}}}'.encode()


def no_session_id(_session_id: str) -> bytes:
    return b'{"agent_id": "agent001", "duration": 3, "cost_breakdown": [], "chat": "[]"}'


BROKEN: tuple[Broken, ...] = (not_json, no_session_id, too_deep, not_an_object, not_utf8)
