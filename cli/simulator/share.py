"""A part of all calls, as people write it."""

_FORM = "write a share as 5% or 0.05, between 0 and 1"


class ShareError(ValueError):
    """No share; the text says what one looks like."""


def parse_share(text: str) -> float:
    """`"5%"` and `"0.05"` -> 0.05. Raises `ShareError`."""
    number = text.strip()
    percent = number.endswith("%")
    try:
        value = float(number.removesuffix("%"))
    except ValueError:
        raise ShareError(f"{text!r} is no share: {_FORM}.") from None
    if percent:
        value /= 100
    if not 0 <= value <= 1:  # NaN compares false, and is refused with the rest
        raise ShareError(f"{text!r} is out of range: {_FORM}.")
    return value
