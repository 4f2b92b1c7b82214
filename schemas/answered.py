"""What a prefetch was answered, as its event remembers it: enough to compute the answer again, and none of it."""

import hashlib
from typing import Annotated

import msgspec

KNOWN = "known"  # from a profile
UNKNOWN = "unknown"  # the empty answer: nothing is known of the caller
NO_STATE = "no-state"  # the empty answer: there was no state store to ask, or one that had not caught up
FAILED_OPEN = "failed-open"  # the empty answer: answering failed

_DIGEST_BYTES = 8  # it tells two answers apart; nobody gains anything by making two that it doesn't

# Copied for each: half of what making one takes.
_EMPTY = hashlib.blake2b(digest_size=_DIGEST_BYTES)

OUTCOME = "known, unknown, no-state or failed-open. Other words may come."
DIGEST = "BLAKE2b of the answer's bytes, 8 bytes in hex; null for the empty answer."
TEMPLATE = "The template's file, or built-in; null where none was used."
TEMPLATE_DIGEST = "The same of the template's text in UTF-8."
ENDED = "How far the state had read the caller's partition of calls.ended: the next offset. Null without a state."
FACTS = "The same of callers.facts."
TOOK = "Microseconds from the request's head until the answer was made; sending it is not in it."


class Answered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A member of the events in `calls.prefetch`; absent in those that are older than it."""

    outcome: Annotated[str, msgspec.Meta(description=OUTCOME)]
    digest: Annotated[str | None, msgspec.Meta(description=DIGEST)] = None
    template: Annotated[str | None, msgspec.Meta(description=TEMPLATE)] = None
    template_digest: Annotated[str | None, msgspec.Meta(description=TEMPLATE_DIGEST)] = None
    ended_offset: Annotated[int | None, msgspec.Meta(description=ENDED)] = None
    facts_offset: Annotated[int | None, msgspec.Meta(description=FACTS)] = None
    took_us: Annotated[int | None, msgspec.Meta(description=TOOK)] = None


def digest_of(content: bytes) -> str:
    """Of an answer or of a template's text."""
    digest = _EMPTY.copy()
    digest.update(content)
    return digest.hexdigest()
