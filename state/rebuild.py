"""When a store can't be continued, and must be built anew from the topics."""

from collections.abc import Mapping

from schemas.topics import CALLERS_FACTS, DAY_MS, TOMBSTONE_LIFE_MS
from state.layout import About

Offsets = Mapping[tuple[str, int], int]  # by catalogue's topic and partition

# A builder that saw the facts longer ago than this may have missed a deletion whose tombstone is gone.
MAX_ABSENCE_MS = TOMBSTONE_LIFE_MS - DAY_MS


def reason_to_rebuild(
    about: About | None, positions: Offsets, lineage: str, starts: Offsets, ends: Offsets, now_ms: int
) -> str | None:
    """A sentence for the log, or None to continue. `starts` and `ends` are those of the topics' partitions now."""
    if about is None:
        return "it says nothing of where it comes from" if positions else None
    if about.lineage != lineage:
        return f"it was built from other topics ({about.lineage}, now {lineage})"
    for (topic, partition), position in sorted(positions.items()):
        start, end = starts.get((topic, partition)), ends.get((topic, partition))
        if start is None or end is None or not start <= position <= end:
            return _unreachable(f"{topic}/{partition}", position, start, end)
    read_facts = any(topic == CALLERS_FACTS.name for topic, _ in positions)
    if read_facts and now_ms - about.seen_at_ms > MAX_ABSENCE_MS:
        return "it was away for longer than deletions of facts are kept"
    return None


def _unreachable(where: str, position: int, start: int | None, end: int | None) -> str:
    if start is None or end is None:
        return f"{where}, which it has read, does not exist any more"
    if position > end:
        return f"{where} ends at {end}, before {position}: the topic was made anew"
    return f"{where} begins at {start}, after {position}: retention took what had not been read"
