"""Who calls: a pool of numbers, and those who have none."""

from random import Random

import msgspec

from cli.simulator.dice import dice

# 555 is nobody's area code, and two digits more than a number has keep it so; enough of them that the callers of two
# plans do not meet in one profile.
_PREFIX = "+1555"
_DIGITS = 9

_CALLS_A_NUMBER = 5

# Of all calls: without telephone, with a withheld number, from a SIP address. The rest comes from the pool.
_WEB, _ANONYMOUS, _SIP = 0.10, 0.02, 0.02

# What carriers and exchanges send for a withheld number; the last but one spells ANONYMOUS on a keypad.
WITHHELD = ("anonymous", "Restricted", "unknown", "+266696687", "Private")

OUR_NUMBERS = ("+15550100001", "+15550100002")


class Caller(msgspec.Struct, frozen=True):
    """`sent` is what the provider says in `from`, None for a web call. `number` is whose profile it is, if any."""

    sent: str | None
    number: str | None


WEB = Caller(None, None)


class Callers:
    """The numbers of a plan, about one for five calls."""

    def __init__(self, plan: str, calls: int) -> None:
        throw = dice(plan, "callers")
        wanted = max(1, round(calls / _CALLS_A_NUMBER))
        numbers: dict[str, None] = {}  # a set that keeps its order
        while len(numbers) < wanted:
            numbers[f"{_PREFIX}{throw.randrange(10**_DIGITS):0{_DIGITS}d}"] = None
        self.numbers = tuple(numbers)

    def draw(self, throw: Random) -> Caller:
        roll = throw.random()
        if roll < _WEB:
            return WEB
        if roll < _WEB + _ANONYMOUS:
            return Caller(throw.choice(WITHHELD), None)
        if roll < _WEB + _ANONYMOUS + _SIP:
            return Caller(f"sip:desk-{throw.randint(1, 99)}@pbx.example", None)
        return self.number(throw)

    def number(self, throw: Random) -> Caller:
        """One with a telephone."""
        number = throw.choice(self.numbers)
        return Caller(number, number)
