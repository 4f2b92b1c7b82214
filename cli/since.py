"""A time as people say it: `2h` ago, or a date."""

import re
from contextlib import suppress
from datetime import UTC, date, datetime

from runtime.settings import SettingsError

_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DAY_US = _UNIT_S["d"] * 1_000_000
_SPAN = re.compile(r"([0-9]{1,6})([smhd])")


def since_us(said: str | None, now_us: int) -> int | None:
    """As `time_us`; None for None."""
    return None if said is None else time_us(said, now_us, "--since")


def until_us(said: str | None, now_us: int) -> int | None:
    """As `time_us`, for what ends before it; of a day that is its end. None for None."""
    if said is None:
        return None
    time = time_us(said, now_us, "--until")
    with suppress(ValueError):
        date.fromisoformat(said)
        return time + _DAY_US
    return time


def time_us(said: str, now_us: int, option: str) -> int:
    """In microseconds since the epoch; a date without a zone is in UTC. Raises `SettingsError` with a sentence."""
    if ago := _SPAN.fullmatch(said):
        return now_us - int(ago[1]) * _UNIT_S[ago[2]] * 1_000_000
    try:
        time = datetime.fromisoformat(said)
        return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1_000_000)
    except (ValueError, OverflowError):
        raise SettingsError(
            f"{option} is wrong: {said!r} is no time; write 30m, 2h, 3d, or 2026-01-31T09:30."
        ) from None


def seconds_of(said: str, option: str) -> float:
    """A span of time, at least a second. Raises `SettingsError` with a sentence."""
    span = _SPAN.fullmatch(said)
    if span is None or not int(span[1]):
        raise SettingsError(f"{option} is wrong: {said!r} is no span of time; write 30s, 5m, 2h or 1d.")
    return float(int(span[1]) * _UNIT_S[span[2]])
