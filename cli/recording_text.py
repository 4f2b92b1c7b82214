"""Recordings as people and programs read them."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.filesize import decimal
from rich.table import Table

from cli.letter_text import when
from cli.terminal import printable
from consumers.recordings.book import Entry
from schemas.event import rfc3339


def table_of(entries: Sequence[Entry]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("session", "call's end (UTC)", "status", "size", "what"):
        table.add_column(name, overflow="fold", no_wrap=name in ("session", "call's end (UTC)"))  # cut, it was no use
    for it in entries:
        size = "-" if it.bytes is None else decimal(it.bytes)
        cells = [it.session_id, when(it.received_at), it.status, size, _what(it)]
        table.add_row(*(printable(cell).replace("[", r"\[") for cell in cells))
    return table


def totals(counts: Mapping[str, tuple[int, int]]) -> str:
    """`3 pending, 12 stored (48.2 MB)`"""
    return ", ".join(
        f"{count} {status}" + (f" ({decimal(size)})" if size else "") for status, (count, size) in counts.items()
    )


def entry_json(it: Entry) -> dict[str, Any]:
    """Times are RFC 3339. Of the URL there is the host; the rest may be a credential."""
    return {
        "session_id": it.session_id,
        "agent_id": it.agent_id,
        "status": it.status,
        "received_at": rfc3339(it.received_at),
        "host": it.host,
        "attempts": it.attempts,
        "next_attempt_at": rfc3339(it.next_attempt_at) if it.status == "pending" else None,
        "error": it.error,
        "object": it.object,
        "bytes": it.bytes,
        "sha256": it.sha256,
        "content_type": it.content_type,
    }


def _what(it: Entry) -> str:
    if it.status == "stored":
        return it.object or "-"
    said = f"{it.error or 'not tried yet'} ({it.host or 'no host'})"
    if it.status == "pending" and it.attempts:
        said = f"attempt {it.attempts + 1} at {when(it.next_attempt_at)[11:]}: {said}"
    return said
