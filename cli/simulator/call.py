"""One simulated call: what is delivered, in which order, and what the books must say of it afterwards."""

from typing import Any, Literal

import msgspec

from cli.simulator.sound import Sound

Webhook = Literal["prefetch", "end-of-call"]
ChatState = Literal["ok", "none", "unreadable"]
Costs = dict[tuple[str, str], int]  # micro-credits by (type, provider)


class FunctionCall(msgspec.Struct):
    """`params` and `result` are JSON values; None when not sent."""

    name: str
    params: Any = None
    result: Any = None


class CallBooks(msgspec.Struct, kw_only=True):
    """What the books say, or must say, of one call.

    `caller` is the number whose profile the call belongs to, None when it is nobody's but its own. `costs` is None
    while unknown, which is not zero. Turns are (role, text). Times in microseconds, durations in milliseconds.
    """

    session_id: str
    caller: str | None
    agent_id: str | None
    status: str | None
    original_status: str | None
    started_at: int | None
    duration_ms: int | None
    costs: Costs | None
    chat_state: ChatState
    turns: list[tuple[str, str]]
    function_calls: list[FunctionCall]
    recording: Sound | None

    @property
    def total_micros(self) -> int | None:
        return None if self.costs is None else sum(self.costs.values())


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery. `content` is the query of a prefetch, the body of an end of call.

    `copies` are sent at the same time. A `late` step waits until all calls are through. A `broken` one must be refused.
    """

    webhook: Webhook
    content: bytes
    copies: int = 1
    late: bool = False
    broken: bool = False


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Steps are delivered one after the other. `books` is None when no book may know the session.

    `shape` names what is odd about it. `metadata` is what a single call leaves in the memory of its caller. `body` is
    what the provider's API tells of it, the last that its end said; None when it has not ended. `lost`: no webhook of
    its end is delivered, and the books know it only when the API was asked.
    """

    session_id: str
    shape: str
    steps: tuple[Step, ...]
    books: CallBooks | None
    metadata: dict[str, Any]
    body: bytes | None = None
    lost: bool = False

    @property
    def is_announced(self) -> bool:
        return any(step.webhook == "prefetch" for step in self.steps)
