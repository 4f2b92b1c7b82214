"""The numbers of our user's own agents, as they are written down: one by one, or all that begin alike."""

import re
from collections.abc import Iterable

# What may stand in a number, in any notation. Other addresses of a telephone hold an @ or a colon (SIP).
_NUMBER = re.compile(r"[+0-9 ()./-]*[0-9][+0-9 ()./-]*")
_SEPARATORS = re.compile(r"[ ()./-]")
_PATTERN = re.compile(r"(\+[1-9][0-9]*)\*")

# A country's code has up to three digits, and nobody owns all numbers of a country.
MIN_PATTERN_DIGITS = 4


def split_own_numbers(entries: Iterable[str]) -> tuple[list[str], tuple[str, ...]]:
    """The plain numbers, and of patterns what stands before their `*`: a plus and digits, as numbers begin.

    Raises `ValueError` with a sentence about the first entry that is neither.
    """
    numbers: list[str] = []
    prefixes: list[str] = []
    for entry in entries:
        if "*" in entry:
            prefixes.append(_prefix(entry))
        elif _NUMBER.fullmatch(entry) or "@" in entry or ":" in entry:
            numbers.append(entry)
        else:
            raise ValueError(f"{entry[:80]!r} is no number; write +15551234567, or +1555000* for all that begin so")
    return numbers, tuple(prefixes)


def _prefix(entry: str) -> str:
    found = _PATTERN.fullmatch(_SEPARATORS.sub("", entry))
    if not found:
        raise ValueError(f"{entry[:80]!r} is no pattern; write a plus, digits and one * at the end, as in +1555000*")
    if len(found[1]) <= MIN_PATTERN_DIGITS:
        raise ValueError(
            f"{entry[:80]!r} may be every number of a country; write at least {MIN_PATTERN_DIGITS} digits before the *"
        )
    return found[1]
