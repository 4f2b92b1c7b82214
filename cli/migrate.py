"""`ringlog migrate`: the tables of the books, brought up to date."""

from cli.context import explained, load, out
from consumers import database
from runtime.settings import redacted_url


def migrate() -> None:
    """Create the tables, or bring them up to date; the consumers wait for it. Safe to run again and side by side.

    Example:

        RINGLOG_DATABASE_URL=postgresql://... ringlog migrate
    """
    with explained():
        settings = load()
        database.migrate(settings)
        out.print(f"The tables are up to date in {redacted_url(settings.database)}.", highlight=False, markup=False)
