"""Where events become durable: group commit over a supervised producer."""

from typing import TYPE_CHECKING, Any

from service.journal.entry import Entry, NotDurable

if TYPE_CHECKING:
    from service.journal.journal import Journal

__all__ = ["Entry", "Journal", "NotDurable"]


def __getattr__(name: str) -> Any:
    """`Journal` when it is asked for: the process that checks a spool has no use for a second of imports."""
    if name == "Journal":
        from service.journal.journal import Journal  # noqa: PLC0415

        return Journal
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
