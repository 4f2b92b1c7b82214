"""What a call costs the customer of our user: the terms of a plan, and the price that follows from them.

Integers only. Each part is computed exactly and rounded once, half to even, to a millionth of the currency.
"""

import hashlib
from datetime import date

import msgspec

from schemas.money import MAX_MICROS, MICROS_PER_CREDIT, divided

_DIGEST_BYTES = 16
_HUNDRED_PERCENT = 100 * 1_000_000


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a plan. Amounts in millionths of the currency, `markup_micros` in millionths of a percent.

    `markup_micros` is None when the provider's cost is not passed on; `credit_micros` is what one of its credits is
    worth.
    """

    plan: str
    valid_from: date
    currency: str
    per_minute_micros: int
    round_up_to_s: int
    minimum_s: int
    included_s: int
    per_call_micros: int
    markup_micros: int | None
    credit_micros: int

    @property
    def text(self) -> str:
        """As JSON, always the same for the same terms."""
        return msgspec.json.encode(self).decode()

    @property
    def digest(self) -> str:
        return hashlib.blake2b(self.text.encode(), digest_size=_DIGEST_BYTES).hexdigest()


class Price(msgspec.Struct, frozen=True):
    """The parts of a charge, in millionths of the currency, and the seconds that are charged.

    A part is None as long as it is unknown, and then so is the amount; it is 0 when the plan has no such part.
    """

    billed_s: int | None
    minutes_micros: int | None
    per_call_micros: int
    passed_on_micros: int | None

    @property
    def amount_micros(self) -> int | None:
        if self.minutes_micros is None or self.passed_on_micros is None:
            return None
        return _possible(self.minutes_micros + self.per_call_micros + self.passed_on_micros)


def read_terms(text: str) -> Terms:
    return msgspec.json.decode(text, type=Terms)


def price(terms: Terms, duration_ms: int | None, cost_micros: int | None) -> Price:
    """`cost_micros` is the provider's cost in micro-credits. Unknown is not zero."""
    billed_s = _billed_s(terms, duration_ms)
    return Price(
        billed_s=billed_s,
        minutes_micros=None if billed_s is None else _possible(divided(terms.per_minute_micros * billed_s, 60)),
        per_call_micros=terms.per_call_micros,
        passed_on_micros=_passed_on(terms, cost_micros),
    )


def _billed_s(terms: Terms, duration_ms: int | None) -> int | None:
    """What exceeds the included time, rounded up; the minimum is for calls of which anything is left to charge."""
    if terms.per_minute_micros == 0:
        return 0
    if duration_ms is None:
        return None
    beyond_ms = duration_ms - terms.included_s * 1000
    if beyond_ms <= 0:
        return 0
    steps = -(-beyond_ms // (terms.round_up_to_s * 1000))
    return max(steps * terms.round_up_to_s, terms.minimum_s)


def _passed_on(terms: Terms, cost_micros: int | None) -> int | None:
    if terms.markup_micros is None:
        return 0
    if cost_micros is None:
        return None
    marked_up = cost_micros * terms.credit_micros * (_HUNDRED_PERCENT + terms.markup_micros)
    return _possible(divided(marked_up, MICROS_PER_CREDIT * _HUNDRED_PERCENT))


def _possible(micros: int) -> int | None:
    """An amount beyond what a price can be is as good as unknown: people must look at it, and no table could add it."""
    return micros if abs(micros) <= MAX_MICROS else None
