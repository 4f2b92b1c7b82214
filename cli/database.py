"""The database of the books, for a command that looks into it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from consumers.database import DatabaseUnavailable, database_url, open_engine
from consumers.outage import outage
from runtime.settings import Settings


@contextmanager
def opened(settings: Settings) -> Iterator[Engine]:
    """Raises `DatabaseUnavailable` when there is none, or none with our tables, also for what is done inside.

    Raises `SettingsError` for a wrong URL.
    """
    url = database_url(settings)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():  # opening it would make one
        raise DatabaseUnavailable(
            f"There is no database at {url.database}: start ringlog with `ringlog up`, or name another database with"
            " RINGLOG_DATABASE_URL, or its folder with RINGLOG_DATA_DIR."
        )
    engine = open_engine(settings)
    try:
        yield engine
    except SQLAlchemyError as error:
        if (away := outage(error)) is None:
            raise
        raise DatabaseUnavailable(
            f"The database can't be read ({away.reason}). Is it running, and has `ringlog migrate` made its tables?"
        ) from error
    finally:
        engine.dispose()
