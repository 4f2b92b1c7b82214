"""What a call cost, from the provider's `cost_breakdown`."""

from typing import Annotated

import msgspec

from schemas.lenient import NULL, UNREADABLE
from schemas.money import MoneyError, micros_of_json

UNNAMED = "unknown"  # the type or provider of an item that names none


Micros = Annotated[int, msgspec.Meta(description="Micro-credits: millionths of the provider's credit.")]


class CostItem(msgspec.Struct, frozen=True):
    """One item as sent. Further keys (`prompt_tokens`, ...) stay in the event. Source: provider facts, shapes."""

    type: msgspec.Raw = NULL
    provider: msgspec.Raw = NULL
    credit: msgspec.Raw = NULL


class _PlainItem(msgspec.Struct, gc=False):
    """The same, with names that are text, as nearly all are."""

    type: str | None = None
    provider: str | None = None
    credit: msgspec.Raw = NULL


class Charge(msgspec.Struct, frozen=True, order=True):
    """The amount of one (type, provider) of a call, in micro-credits."""

    type: str
    provider: str
    amount_micros: Micros


class Cost(msgspec.Struct, frozen=True):
    """The known cost of a call: one charge per (type, provider), sorted."""

    charges: tuple[Charge, ...]

    @property
    def total_micros(self) -> int:
        return sum(charge.amount_micros for charge in self.charges)


_plain_items = msgspec.json.Decoder(list[_PlainItem])
_items = msgspec.json.Decoder(list[CostItem])
_name = msgspec.json.Decoder(str)


def cost_of(breakdown: msgspec.Raw) -> Cost | None:
    """The cost, or None while it is unknown: no breakdown, or one with an item whose credit is null.

    An empty list is a known cost of zero: the provider says that there was nothing to pay for.
    Raises `MoneyError` when an item can't be read as money.
    """
    if bytes(breakdown).strip() == b"null":
        return None
    sums: dict[tuple[str, str], int] = {}
    for type_, provider, credit in _items_of(breakdown):
        micros = micros_of_json(credit)
        if micros is None:
            return None
        key = type_, provider
        sums[key] = sums.get(key, 0) + micros
    return Cost(tuple([Charge(type_, provider, micros) for (type_, provider), micros in sorted(sums.items())]))


def _items_of(breakdown: msgspec.Raw) -> list[tuple[str, str, msgspec.Raw]]:
    """Type, provider and credit of each. Raises `MoneyError`."""
    try:
        plain = _plain_items.decode(breakdown)
        return [(item.type or UNNAMED, item.provider or UNNAMED, item.credit) for item in plain]
    except UNREADABLE:
        pass  # a name is no text, or there is no list at all
    try:
        return [(_text(item.type), _text(item.provider), item.credit) for item in _items.decode(breakdown)]
    except UNREADABLE as error:
        raise MoneyError(f"cost_breakdown is no list of items: {error}") from None


def _text(raw: msgspec.Raw) -> str:
    """A name as text. One that is no string keeps its JSON form: an unknown type is kept, not dropped."""
    if bytes(raw) == b"null":
        return UNNAMED
    try:
        return _name.decode(raw) or UNNAMED
    except UNREADABLE:
        return bytes(raw).decode(errors="replace")
