"""Which part of the log is replayed: between two times, or between offsets."""

import re
from collections.abc import Mapping

import msgspec

from consumers.positions import Partition
from consumers.replay.log import Log
from consumers.replay.recipe import Window

_OFFSETS = re.compile(r"(?:([\w.-]+)/)?([0-9]{1,9}):([0-9]{1,18})")


class WrongWindow(ValueError):
    """A sentence for people."""


class Bound(msgspec.Struct, frozen=True):
    """One end of the window, as it was `said`: a time, or offsets by partition, the topic being None if not said."""

    said: str
    time_us: int | None = None
    offsets: dict[tuple[str | None, int], int] = {}


def offsets_of(said: str) -> dict[tuple[str | None, int], int] | None:
    """`0:1200,1:900` or `calls.ended/0:1200`; None when it is something else."""
    found: dict[tuple[str | None, int], int] = {}
    for part in said.split(","):
        match = _OFFSETS.fullmatch(part.strip())
        if match is None:
            return None
        found[match[1], int(match[2])] = int(match[3])
    return found


async def window_of(log: Log, prefix: str, since: Bound | None, until: Bound | None, partial: bool) -> Window:
    """Offsets that are not said are not limited. Raises `WrongWindow`."""
    starts = await _resolved(log, prefix, since)
    ends = await _resolved(log, prefix, until)
    return Window(
        since=since.said if since else "beginning",
        until=until.said if until else "",
        starts=_named(starts),
        ends=_named(ends),
        partial=partial or bool(starts) or bool(ends),
    )


def forgotten(log: Log, window: Window) -> str | None:
    """A sentence, when the window begins where the log has forgotten something and nobody has said that it may."""
    if window.partial:
        return None
    lost = {name: start for name, start in _named(log.starts).items() if start}
    if not lost:
        return None
    name, start = next(iter(lost.items()))
    return (
        f"The log has forgotten its beginning: {name} begins at offset {start}. Calls of before would vanish from the"
        " books. Say --partial to replay what is there, and to leave every call as it is of which an event is gone."
    )


async def _resolved(log: Log, prefix: str, bound: Bound | None) -> dict[Partition, int]:
    if bound is None:
        return {}
    if bound.time_us is not None:
        return await log.offsets_at(-(-bound.time_us // 1000))
    topics = {topic for topic, _ in log.starts}
    found: dict[Partition, int] = {}
    for (said, number), offset in bound.offsets.items():
        if said is None and len(topics) > 1:
            names = ", ".join(sorted(topic.removeprefix(prefix) for topic in topics))
            raise WrongWindow(
                f"{bound.said!r} doesn't say of which topic ({names}): write {names.split(',')[0]}/0:1200."
            )
        topic = next(iter(topics)) if said is None else prefix + said.removeprefix(prefix)
        if (topic, number) not in log.starts:
            raise WrongWindow(f"{bound.said!r} names partition {topic}/{number}, and there is none.")
        # What lies before the start is gone, what lies beyond the end is not there yet.
        found[topic, number] = max(offset, log.starts[topic, number])
    return found


def _named(offsets: Mapping[Partition, int]) -> dict[str, int]:
    return {f"{topic}/{number}": offset for (topic, number), offset in offsets.items()}
