"""Amounts of money: drawn as integers of micro-credits, then written down in every notation that JSON allows."""

from random import Random

# What is drawn, in micro-credits: mostly the cents of a call, now and then the smallest amount and a large one.
_USUAL = (100, 90_000)
_LARGE = (1_000_000, 250_000_000)


def draw_micros(dice: Random) -> int:
    roll = dice.random()
    if roll < 0.05:
        return 1
    if roll < 0.10:
        return dice.randint(*_LARGE)
    if roll < 0.20:
        return dice.randint(1, 40) * 1_000_000
    return dice.randint(*_USUAL)


def literal(micros: int, dice: Random) -> bytes:
    """A JSON literal that is worth exactly `micros`; one of `NOTATIONS`."""
    return dice.choice(NOTATIONS)(micros).encode()


def plain(micros: int) -> str:
    """4300 -> `0.0043`, and 12000000 -> `12`: an integer."""
    whole, part = divmod(micros, 1_000_000)
    return f"{whole}.{part:06d}".rstrip("0").rstrip(".")


def trailing_zeros(micros: int) -> str:
    """4300 -> `0.00430000`"""
    whole, part = divmod(micros, 1_000_000)
    return f"{whole}.{part:06d}00"


def scientific(micros: int) -> str:
    """4300 -> `4.3e-3`"""
    digits = str(micros)
    rest = digits[1:].rstrip("0")
    return f"{digits[0]}{'.' + rest if rest else ''}e{len(digits) - 7}"


def scientific_capital(micros: int) -> str:
    """1 -> `1E-6`, and 12000000 -> `1.2E+1`"""
    coefficient, exponent = scientific(micros).split("e")
    return f"{coefficient}E{int(exponent):+d}"


def millionths(micros: int) -> str:
    """4300 -> `4300e-6`"""
    return f"{micros}e-6"


def quoted(micros: int) -> str:
    """4300 -> `"0.0043"`"""
    return f'"{plain(micros)}"'


def below_half(micros: int) -> str:
    """4300 -> `0.00430049`: digits below a millionth that must round away."""
    whole, part = divmod(micros, 1_000_000)
    return f"{whole}.{part:06d}49"


def just_above_half_less(micros: int) -> str:
    """4300 -> `0.00429951`: digits below a millionth that must round up."""
    whole, part = divmod(micros - 1, 1_000_000)
    return f"{whole}.{part:06d}51"


def tie(micros: int) -> str:
    """4300 -> `0.0043005`: half a millionth goes to the even neighbour. An odd amount is nobody's tie: `plain`."""
    if micros % 2:
        return plain(micros)
    whole, part = divmod(micros, 1_000_000)
    return f"{whole}.{part:06d}5"


NOTATIONS = (
    plain,
    trailing_zeros,
    scientific,
    scientific_capital,
    millionths,
    quoted,
    below_half,
    just_above_half_less,
    tie,
)
