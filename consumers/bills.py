"""What each body of a call says about money, and what all of them together say."""

from collections.abc import Iterable, Sequence

import msgspec

from consumers.calls import EndedCall, bounded_name
from consumers.contract import UnreadableEvent
from consumers.revisions import Revision
from schemas.caller import Caller
from schemas.cost import Charge
from schemas.money import MAX_MICROS, MoneyError

BILLING = "billing"  # the consumer's name

# A call has a handful of cost items; a body of 8 MiB could hold hundreds of thousands, each an entry.
MAX_CHARGES = 1000


class Bill(msgspec.Struct, frozen=True, array_like=True):
    """What a revision says about money: the content that is kept of it. `charges` is None while the cost is unknown.

    `started_at` is in microseconds since the epoch. `metadata` is the key by which plans are chosen, and its value.
    """

    charges: tuple[Charge, ...] | None
    agent_id: str | None
    caller: Caller
    # Younger than the first three: what was stored before has them not.
    started_at: int | None = None
    duration_ms: int | None = None
    metadata: tuple[str, str] | None = None


class KnownCall(msgspec.Struct, frozen=True):
    """What is known of a call after `history`, whose last revision is the last one that changed it.

    `called_at` is when it began, as the provider says, or when we first heard of its end, as long as nobody says.
    """

    bill: Bill
    called_at: int
    history: Sequence[Revision]

    @property
    def source(self) -> Revision:
        return self.history[-1]

    @property
    def cost_micros(self) -> int | None:
        charges = self.bill.charges
        return None if charges is None else sum(charge.amount_micros for charge in charges)


encoded = msgspec.msgpack.Encoder().encode
decoded = msgspec.msgpack.Decoder(Bill).decode


def bill_of(call: EndedCall, metadata_key: str | None = None) -> Bill:
    """Raises `UnreadableEvent`: a cost that is no money is told to people, not guessed."""
    try:
        cost = call.body.cost()
    except MoneyError as error:
        raise UnreadableEvent(f"the cost of session {call.session_id}: {error}") from error
    return Bill(
        charges=None if cost is None else _charges(cost.charges),
        agent_id=call.agent_id,
        caller=call.caller,
        started_at=call.body.started_at_us,
        duration_ms=call.body.duration_ms,
        metadata=None if metadata_key is None else _metadata(call, metadata_key),
    )


def call_of(history: Sequence[Revision]) -> KnownCall:
    """What a session's revisions say together. `history` is not empty. Unknown never replaces known."""
    known = decoded(history[0].content)
    changed_at = 1
    for position, revision in enumerate(history[1:], 2):
        together = _together(known, decoded(revision.content))
        if together != known:
            known, changed_at = together, position
    # The first in their order may have been received last: what was recovered comes before what a webhook brought.
    first_received_at = min(revision.received_at for revision in history)
    called_at = first_received_at if known.started_at is None else known.started_at
    return KnownCall(known, called_at, history[:changed_at])


def _together(before: Bill, after: Bill) -> Bill:
    return Bill(
        charges=before.charges if after.charges is None else after.charges,
        agent_id=before.agent_id if after.agent_id is None else after.agent_id,
        caller=after.caller,
        started_at=before.started_at if after.started_at is None else after.started_at,
        duration_ms=before.duration_ms if after.duration_ms is None else after.duration_ms,
        metadata=before.metadata if after.metadata is None else after.metadata,
    )


def _charges(sent: tuple[Charge, ...]) -> tuple[Charge, ...]:
    """By names as the tables can hold them. `sent` is as `schemas.cost.Cost` has it."""
    charges = sent if all(map(_is_storable, sent)) else _renamed(sent)
    if len(charges) > MAX_CHARGES:
        raise UnreadableEvent(f"a cost of {len(charges)} items; {MAX_CHARGES} are kept")
    for charge in charges:
        if abs(charge.amount_micros) > MAX_MICROS:
            items = f"the items of {charge.type} by {charge.provider}"
            raise UnreadableEvent(f"{items} add up to {charge.amount_micros} micro-credits: no price")
    return charges


def _is_storable(charge: Charge) -> bool:
    return bounded_name(charge.type) is charge.type and bounded_name(charge.provider) is charge.provider


def _renamed(sent: Iterable[Charge]) -> tuple[Charge, ...]:
    """Two that become one by that are added."""
    amounts: dict[tuple[str, str], int] = {}
    for charge in sent:
        key = bounded_name(charge.type), bounded_name(charge.provider)
        amounts[key] = amounts.get(key, 0) + charge.amount_micros
    return tuple(Charge(type_, provider, amount) for (type_, provider), amount in sorted(amounts.items()))


def _metadata(call: EndedCall, key: str) -> tuple[str, str] | None:
    """Text or an integer; anything else names no customer."""
    value = call.body.metadata_map().get(key)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = bounded_name(str(value).strip())
    return (key, text) if text else None
