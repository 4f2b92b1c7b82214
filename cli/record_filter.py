"""Which records somebody wants to see."""

import re
from typing import Any, Self

import msgspec

from runtime.settings import Settings, SettingsError
from schemas.event import Record
from schemas.lenient import UNREADABLE

_CALLER_ID = re.compile(r"[0-9a-f]{32}")


class _Head(msgspec.Struct):
    """Of a value of any topic, what may be asked for. Anything may stand there."""

    session_id: Any = None
    agent_id: Any = None


_head = msgspec.json.Decoder(_Head)


class RecordFilter(msgspec.Struct, frozen=True):
    """None means any. `caller` is a caller's id, which is, or begins, the key of what belongs to the caller."""

    session: str | None = None
    caller: str | None = None
    agent: str | None = None

    @classmethod
    def of(cls, settings: Settings, session: str | None, caller: str | None, agent: str | None) -> Self:
        """`caller` may be a phone number. Raises `SettingsError` when it is neither, or the identity key is missing."""
        return cls(session, None if caller is None else _caller_id(settings, caller.strip()), agent)

    def matches(self, record: Record) -> bool:
        if self.caller is not None and not self._is_of_caller(record.key or b""):
            return False
        if self.session is None and self.agent is None:
            return True
        try:
            head = _head.decode(record.value or b"")
        except UNREADABLE:
            head = _Head()
        if self.session is not None and self.session not in (head.session_id, record.header("ce_subject")):
            return False
        return self.agent is None or head.agent_id == self.agent

    def _is_of_caller(self, key: bytes) -> bool:
        return key.decode(errors="replace").partition("/")[0] == self.caller


def _caller_id(settings: Settings, said: str) -> str:
    if _CALLER_ID.fullmatch(said):
        return said
    identity = settings.identity()
    number = identity.e164(said)
    if number is None:
        raise SettingsError(
            "--caller is wrong: it is no phone number, written as +15551234567, and no caller's id of 32 hex digits."
        )
    return identity.id_of_number(number)
