"""The name under which a recording lies in object storage. Ids are input: they come from outside."""

import hashlib
import re
from datetime import UTC, datetime

# A file's name has at most 255 bytes on common file systems: room for the extension and for a store's own suffix.
MAX_PART_LENGTH = 120

NO_AGENT = "no-agent"

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_HASHED = re.compile(r"_[0-9a-f]{20}$")
_HASH_BYTES = 10


def object_stem(agent_id: str | None, session_id: str, time_us: int) -> str:
    """`<agent>/<yyyy>/<mm>/<dd>/<session>`, by the day in UTC. Two sessions never have the same stem."""
    day = datetime.fromtimestamp(time_us // 1_000_000, UTC)
    return f"{safe_part(agent_id) if agent_id else NO_AGENT}/{day:%Y/%m/%d}/{safe_part(session_id)}"


def safe_part(id_: str) -> str:
    """One part of a path: letters, digits, `_`, `-` and single dots inside; distinct ids give distinct parts.

    A leading dash, normal in the provider's ids, would be an option to every command that lists the folder, so it
    gets a `_` before it (and so does a leading `_`, or the two would meet). What is too long or holds anything else
    is written with `_` in its place, shortened, and ends in a hash of the whole id; an id that looks as if it ended
    in such a hash is treated likewise.
    """
    part = "_" + id_ if id_[:1] in ("-", "_") else id_
    if len(part) <= MAX_PART_LENGTH and _PLAIN.fullmatch(part) and not _HASHED.search(part):
        return part
    digest = hashlib.blake2b(id_.encode(errors="surrogatepass"), digest_size=_HASH_BYTES).hexdigest()
    readable = _UNSAFE.sub("_", part)[: MAX_PART_LENGTH - len(digest) - 1].lstrip("-")
    return f"{readable}_{digest}"
