"""What we could not read, kept whole: the value of a record in `calls.rejected`."""

import base64
import hashlib
import re

import msgspec

HEAD_BYTES = 64 * 1024  # of a body over the size limit

# Anything that looks like a credential or a phone number: a body that we can't read can't be redacted by its names.
_PATTERNS = (
    re.compile(rb"(?i)(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"),
    # A quote may be escaped: JSON inside of a JSON string.
    re.compile(
        rb"(?i)((?:secret|token|password|passwd|authorization|api[_-]?key|credentials?)\\*[\"']?\s*[:=]\s*\\*[\"']?)"
        rb"[^\"',;&\s}\\]+"
    ),
    re.compile(rb"(?i)\b(sk|pk|rk|ghp|xox[a-z])[-_][A-Za-z0-9_-]{8,}"),
    re.compile(rb"(?i)(?<![\w.])(?:\+|%2B)[1-9][0-9]{6,14}\b"),
)


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
    head = _PATTERNS[0].sub(rb"\1 [redacted]", head)
    head = _PATTERNS[1].sub(rb"\1[redacted]", head)
    head = _PATTERNS[2].sub(b"[redacted]", head)
    return _PATTERNS[3].sub(b"[redacted]", head)


def encode_head(head: bytes) -> str:
    return base64.b64encode(scrub(head)).decode()


def sha256(received: bytes) -> str:
    return hashlib.sha256(received).hexdigest()
