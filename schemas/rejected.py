"""What we could not read, kept whole: the value of a record in `calls.rejected`."""

import base64
import hashlib
import re

import msgspec

HEAD_BYTES = 64 * 1024  # of a body over the size limit

# Anything that looks like a credential or a phone number: a body that we can't read can't be redacted by its names.
# Matched against lower case, which a search can do by the first letter alone; what a first group holds is kept.
_PATTERNS = (
    re.compile(rb"((?:bearer|basic)\s+)[a-z0-9._~+/=-]{6,}"),
    # A quote may be escaped: JSON inside of a JSON string.
    re.compile(
        rb"((?:secrets?|token|passwords?|passwd|pwd|authorization|api[_-]?keys?|credentials?)\\*[\"']?\s*[:=]\s*\\*[\"']?)"
        rb"[^\"',;&\s}\\]+"
    ),
    re.compile(rb"(?:sk(?<!\wsk)|pk(?<!\wpk)|rk(?<!\wrk)|ghp(?<!\wghp)|xox(?<!\wxox)[a-z])[-_][a-z0-9_-]{8,}"),
    re.compile(rb"(?:\+(?<![\w.]\+)|%2b(?<![\w.]%2b))[1-9][0-9]{6,14}\b"),
)

# So much is searched in one go: a thread that does it lets others run in between. None of the patterns goes over a
# comma, so that is where a piece may end.
_PIECE_BYTES = 64 * 1024


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """`bytes` and `sha256` are of what was received; `head` is what is kept of it, scrubbed, in base64.

    `whole` says whether `head` is all of it.
    """

    event_id: str
    received_at: int
    webhook: str  # prefetch or end-of-call
    reason: str  # a word, for counting
    detail: str  # a sentence, for people
    bytes: int
    sha256: str
    whole: bool
    head: str


def scrub(head: bytes) -> bytes:
    """Credentials and phone numbers, as far as a pattern can tell them, replaced by `[redacted]`."""
    pieces = []
    start = 0
    while start < len(head):
        end = head.find(b",", start + _PIECE_BYTES)
        piece = head[start : end if end >= 0 else len(head)]
        start += len(piece)
        for pattern in _PATTERNS:
            piece = _without(pattern, piece)
        pieces.append(piece)
    return b"".join(pieces)


def _without(pattern: re.Pattern[bytes], piece: bytes) -> bytes:
    kept: list[bytes] = []
    end = 0
    for found in pattern.finditer(piece.lower()):
        kept += (piece[end : found.end(1) if pattern.groups else found.start()], b"[redacted]")
        end = found.end()
    return b"".join((*kept, piece[end:]))


def encode_head(head: bytes) -> str:
    return base64.b64encode(scrub(head)).decode()


def sha256(received: bytes) -> str:
    return hashlib.sha256(received).hexdigest()
