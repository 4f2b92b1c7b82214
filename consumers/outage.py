"""Whether an error is the database's own: then no event is to blame, and it is waited for."""

import re
import sqlite3

import msgspec
import psycopg
from sqlalchemy import exc as sa_exc

# SQLSTATE classes, and single states, that no row of ours is to blame for. Source: PostgreSQL's appendix A.
# These pass, as a rule: whoever restarts, locks or cancels is done some time.
_POSTGRES_PASSING = (
    "08",  # connection
    "25P03",  # a transaction was idle for too long
    "25P04",  # a transaction took too long
    "40",  # rolled back: deadlock, serialization
    "53300",  # too many connections
    "55006",  # in use
    "55P03",  # locked
    "57",  # operator: shutdown, starting up, cancelled
)
# These don't, as a rule: somebody has to make room, give a right, migrate.
_POSTGRES_LASTING = (
    "25006",  # read-only: it has become a replica. Not its class: 25P02 is one's own error, ignored
    "26",  # a prepared statement is gone: a proxy has changed the connection under us
    "28",  # authorization
    "3D",  # the database is not there
    "3F",  # the schema is not there
    "42501",  # privilege
    "42703",  # a column is missing: not migrated, or being restored
    "42804",  # a column is of another type: of another version
    "42883",  # a function is missing, or an operator for such a type: the same
    "42P01",  # a table is missing: the same
    "42P05",  # a prepared statement is there already: the proxy again
    "55",  # a table has become a view: migrated for the next version
    "53",  # resources: disk full, memory, a configured limit
    "58",  # system: I/O
    "XX001",  # damaged data
    "XX002",  # a damaged index
)

_SQLITE_PASSING = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PROTOCOL,  # many tries to take WAL's locks
    sqlite3.SQLITE_SCHEMA,  # a migration went by
)
_SQLITE_LASTING = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
)

# SQLite has one code for these and for a mistake in a statement.
_SQLITE_OTHER_VERSION = re.compile(
    "no such table|no such column|table .* has no column named|cannot modify .* because it is a view"
)


class Outage(msgspec.Struct, frozen=True):
    """`reason` is what the database said, in a line, which quotes no row. `passes`: whether it goes away by itself."""

    reason: str
    passes: bool


def outage(error: BaseException | None) -> Outage | None:
    """The outage that an error tells of: wait and try again. None: the statement or its data is wrong.

    A missing table, column or right, and a table that has become a view, is an outage that lasts. It is the deployment
    that is broken, not the event: no event may be given up for it, and somebody must be told.
    """
    while error is not None:
        if (passes := _passes(error)) is not None:
            said = error.orig if isinstance(error, sa_exc.DBAPIError) else error
            return Outage(str(said).strip().partition("\n")[0] or type(error).__name__, passes)
        error = error.__cause__
    return None


def is_unavailable(error: BaseException | None) -> bool:
    return outage(error) is not None


def _passes(error: BaseException) -> bool | None:
    """None: this error by itself tells of no outage."""
    if isinstance(error, psycopg.Error):
        return _postgres_passes(error)
    if isinstance(error, sqlite3.Error):
        return _sqlite_passes(error)
    if isinstance(error, sa_exc.DBAPIError):
        return True if error.connection_invalidated else None
    return True if isinstance(error, sa_exc.TimeoutError | sa_exc.DisconnectionError) else None


def _postgres_passes(error: psycopg.Error) -> bool | None:
    if error.sqlstate is None:  # the connection failed before the server could say anything
        return True if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) else None
    if error.sqlstate.startswith(_POSTGRES_PASSING):
        return True
    return False if error.sqlstate.startswith(_POSTGRES_LASTING) else None


def _sqlite_passes(error: sqlite3.Error) -> bool | None:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the low byte of an extended code
    if code in _SQLITE_PASSING:
        return True
    return False if code in _SQLITE_LASTING or _SQLITE_OTHER_VERSION.match(str(error)) else None
