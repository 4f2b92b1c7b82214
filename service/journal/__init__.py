"""Where events become durable: group commit over a supervised producer, and a spool for when Kafka does not answer."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.journal.entry import Entry, NotDurable
    from service.journal.journal import Journal

__all__ = ["Entry", "Journal", "NotDurable"]

_HOMES = {"Entry": "entry", "Journal": "journal", "NotDurable": "entry"}


def __getattr__(name: str) -> Any:
    """When it is asked for: the process that checks a spool has no use for a second of imports."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
