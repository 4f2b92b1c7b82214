"""Money as integers of micro-credits: a millionth of the provider's credit, and never a float."""

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from functools import lru_cache

import msgspec

MICROS_PER_CREDIT = 1_000_000

# A billion credits: a larger one is a mistake of the sender's. Thousands of them still fit in a PostgreSQL bigint.
MAX_MICROS = 10**15

# Longer literals than this are not prices; Decimal would work on them for seconds.
MAX_LITERAL_LENGTH = 64

# Decimal alone would take underscores, digits of other scripts, and NaN.
_LITERAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")

# What most prices look like: below a billion, and nothing to round.
_PLAIN = re.compile(rb"(-?[0-9]{1,9})(?:\.([0-9]{0,6}))?")
_PLAIN_BYTES = 17

# Exact for every literal that passes the two limits above: the default context rounds to 28 digits.
_CONTEXT = Context(prec=MAX_LITERAL_LENGTH + 32, rounding=ROUND_HALF_EVEN)


class MoneyError(ValueError):
    """A credit that is not an amount of money: not a number, too large, or too long to be one."""


def micros_of_literal(literal: str) -> int:
    """`"0.0043"` -> 4300. The decimal text times a million, rounded half to even. Raises `MoneyError`."""
    if len(literal) > MAX_LITERAL_LENGTH:
        raise MoneyError(f"a credit of {len(literal)} characters is no amount of money")
    try:
        if not _LITERAL.fullmatch(literal):
            raise InvalidOperation
        amount = Decimal(literal)
    except InvalidOperation:
        raise MoneyError(f"credit {literal!r} is not a number") from None
    if amount and amount.adjusted() > 12:  # 1e12 credits: above MAX_MICROS, before any big arithmetic
        raise MoneyError(f"credit {literal!r} is out of range")
    micros = int(_CONTEXT.quantize(_CONTEXT.multiply(amount, Decimal(MICROS_PER_CREDIT)), Decimal(1)))
    if abs(micros) > MAX_MICROS:
        raise MoneyError(f"credit {literal!r} is out of range")
    return micros


def exact_micros_of_literal(literal: str) -> int:
    """For prices that people set: one that would have to be rounded is a mistake of theirs. Raises `MoneyError`."""
    micros = micros_of_literal(literal)
    if Decimal(literal) != Decimal(micros).scaleb(-6):
        raise MoneyError(f"{literal!r} has more than six decimals")
    return micros


def divided(numerator: int, denominator: int) -> int:
    """To an integer, half to even. `denominator` is positive."""
    quotient, rest = divmod(numerator, denominator)
    return quotient + (2 * rest > denominator or (2 * rest == denominator and quotient % 2 == 1))


def micros_of_json(raw: msgspec.Raw | bytes) -> int | None:
    """The amount in one JSON value: a number, a number in a string, or `null`, which is unknown and not zero."""
    text = bytes(raw)
    return _of_short(text) if len(text) <= _PLAIN_BYTES else _of_any(text)


@lru_cache(maxsize=4096)  # prices are small numbers of few digits, and come again
def _of_short(text: bytes) -> int | None:
    if plain := _PLAIN.fullmatch(text):
        whole, decimals = plain.groups(b"")
        return int(whole + decimals.ljust(6, b"0"))
    return _of_any(text)


def _of_any(text: bytes) -> int | None:
    text = text.strip()
    if text == b"null":
        return None
    if text[:1] == b'"':
        try:
            literal = msgspec.json.decode(text, type=str).strip()
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise MoneyError("a credit is a broken string") from None
        if not literal:
            return None
        return micros_of_literal(literal)
    if text[:1] not in b"-0123456789":
        raise MoneyError(f"a credit is no number: {text[:40].decode(errors='replace')}")
    return micros_of_literal(text.decode())


def credits_text(micros: int) -> str:
    """`4300` -> `"0.0043"`: for people, exact."""
    sign, rest = ("-", -micros) if micros < 0 else ("", micros)
    whole, part = divmod(rest, MICROS_PER_CREDIT)
    return f"{sign}{whole}.{part:06d}".rstrip("0").rstrip(".")
