"""What ringlog knows of a caller, as it is stored."""

from typing import Any

import msgspec

EMPTY_MAP = msgspec.Raw(b"\x80")  # MessagePack


class Profile(msgspec.Struct, array_like=True, kw_only=True, gc=False):
    """What an answer may be made from.

    `facts` are ours, `metadata` is that of the last call. A call began when the provider says so, else when its first
    record was received; times are in microseconds since the epoch. `duration_ms` and `cost_micros` are sums over the
    calls where they are known; `unknown_costs` counts those whose cost isn't.

    Nothing that is served may depend on `prefetches`: a prefetch that is repeated must get the same answer.
    """

    facts: dict[str, Any]
    metadata: dict[str, Any]
    calls: int
    prefetches: int
    duration_ms: int
    cost_micros: int
    unknown_costs: int
    first_call_at: int | None
    first_session: bytes | None
    last_call_at: int | None
    last_session: bytes | None
    last_status: str | None
    last_agent: str | None

    @property
    def tells(self) -> bool:
        """Whether anything is known of the caller: that a prefetch was seen must not change an answer."""
        return bool(self.calls or self.facts)


class ProfileRow(msgspec.Struct, array_like=True, kw_only=True, gc=False):
    """The same bytes as a `Profile`, as the fold works on them: the two maps stay encoded."""

    facts: msgspec.Raw = EMPTY_MAP
    metadata: msgspec.Raw = EMPTY_MAP
    calls: int = 0
    prefetches: int = 0
    duration_ms: int = 0
    cost_micros: int = 0
    unknown_costs: int = 0
    first_call_at: int | None = None
    first_session: bytes | None = None
    last_call_at: int | None = None
    last_session: bytes | None = None
    last_status: str | None = None
    last_agent: str | None = None

    @property
    def is_empty(self) -> bool:
        """Nothing is known any more: such a row is not kept, or the store would tell how it came about."""
        return not (self.calls or self.prefetches) and self.facts == EMPTY_MAP

    def set_fact(self, name: str, value: Any) -> None:
        """`None` deletes. Sorted by name: the bytes must not depend on the order in which facts came."""
        facts: dict[str, Any] = msgspec.msgpack.decode(self.facts)
        if value is None:
            facts.pop(name, None)
        else:
            facts[name] = value
        self.facts = msgspec.Raw(msgspec.msgpack.encode(dict(sorted(facts.items()))))
