"""When a recording that could not be fetched is tried again."""

import random

# A recording appears seconds after its call: the first attempts come quickly, or a short call's sound would be late.
FIRST_DELAY_S = 2.0

# What is not there after an hour is tried hourly: often enough for an address that lives for a day.
LONGEST_DELAY_S = 3600.0

# Eleven doublings make 68 minutes, 23 more attempts an hour apart make 24 hours in all. Counted in attempts, not in
# hours, so that a day on which we ourselves were down costs a recording nothing.
MAX_ATTEMPTS = 35

# Of the delay, to either side: recordings that failed together (their server was down) don't come back together.
JITTER = 0.2

# While the object storage is away: a minute is soon enough, and keeps a queue of thousands from hammering it.
STORAGE_AWAY_DELAY_S = 60.0


def delay_s(attempts: int) -> float:
    """Until the next attempt, after so many (at least one)."""
    delay = min(FIRST_DELAY_S * 2.0 ** min(attempts - 1, 20), LONGEST_DELAY_S)
    return delay * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, keeps no secret
