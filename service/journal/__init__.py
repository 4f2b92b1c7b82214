"""Where events become durable: group commit over a supervised producer."""

from service.journal.entry import Entry, NotDurable
from service.journal.journal import Journal

__all__ = ["Entry", "Journal", "NotDurable"]
