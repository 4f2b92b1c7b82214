"""When a store can't be continued, and must be built anew from the topics; and what a new one would lack."""

from collections.abc import Mapping

from schemas.topics import CALLERS_FACTS, DAY_MS, TOMBSTONE_LIFE_MS
from state.layout import About

Offsets = Mapping[tuple[str, int], int]  # by catalogue's topic and partition

# A builder that saw the facts longer ago than this may have missed a deletion whose tombstone is gone.
MAX_ABSENCE_MS = TOMBSTONE_LIFE_MS - DAY_MS


def built_from_others(
    about: About | None, positions: Offsets, lineage: str, starts: Offsets, ends: Offsets
) -> str | None:
    """Why a store is none of these topics, and must not be served: a sentence for the log, or None.

    `starts` and `ends` are those of the topics' partitions now.
    """
    if about is None:
        return "it says nothing of where it comes from" if positions else None
    if about.lineage != lineage:
        return f"it was built from other topics ({about.lineage}, now {lineage})"
    for (topic, partition), position in sorted(positions.items()):
        end = ends.get((topic, partition))
        if end is None or (topic, partition) not in starts:
            return f"{topic}/{partition}, which it has read, does not exist any more"
        if position > end:
            return f"{topic}/{partition} ends at {end}, before {position}: the topic was made anew"
    return None


def missed_something(about: About | None, positions: Offsets, starts: Offsets, now_ms: int) -> str | None:
    """Why a store of these topics can't be continued without a hole: a sentence for the log, or None."""
    for (topic, partition), start in sorted(starts.items()):
        position = positions.get((topic, partition), start if topic == CALLERS_FACTS.name else 0)
        if start > position:
            return f"{topic}/{partition} begins at {start}, after {position}: retention took what had not been read"
    read_facts = any(topic == CALLERS_FACTS.name for topic, _ in positions)
    if about is not None and read_facts and now_ms - about.seen_at_ms > MAX_ABSENCE_MS:
        return "it was away for longer than deletions of facts are kept"
    return None


def forgotten(starts: Offsets) -> str | None:
    """What a store that is built from the topics as they are now would not know: a sentence, or None.

    Compaction takes from the facts what newer ones have replaced, at their head, too: that is no loss.
    """
    heads = {where: start for where, start in sorted(starts.items()) if start > 0 and where[0] != CALLERS_FACTS.name}
    if not heads:
        return None
    (topic, partition), start = next(iter(heads.items()))
    others = f"; {len(heads)} partitions lack their beginning" if len(heads) > 1 else ""
    return f"{topic}/{partition} begins at {start}: {start:,} events before it are gone from the topic{others}"
