"""A transcript is one row: its turns and function calls lie in it as JSON, and the tables that they had are views.

Rows are carried over, some calls at a time, to the bytes that the consumer writes.
"""

from typing import Any

import msgspec
import sqlalchemy as sa
from alembic import op

from schemas.words import indexed_words, word_numbers

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# In memory at once: a call has some kilobytes, and may have some megabytes.
_CALLS_A_LOOK = 50


class _Words(sa.TypeDecorator[Any]):
    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        return dialect.type_descriptor(sa.ARRAY(sa.Integer) if dialect.name == "postgresql" else sa.Text())

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        return list(word_numbers(value)) if dialect.name == "postgresql" else indexed_words(value)


_transcripts = sa.table(
    "transcripts", *map(sa.column, ("session_id", "said", "speakers", "called")), sa.column("words", _Words)
)
_turns = sa.table("transcript_turns", *map(sa.column, ("session_id", "position", "role", "original_role", "text")))
_calls = sa.table(
    "transcript_function_calls",
    *map(sa.column, ("session_id", "position", "name", "params", "result", "turns_before")),
)

_VIEWS_ON_POSTGRESQL = (
    """
CREATE VIEW transcript_turns AS
SELECT
    t.session_id, (x.n - 1)::integer AS position, x.speaker ->> 0 AS role, x.speaker ->> 1 AS original_role, x.text
FROM
    transcripts t,
    ROWS FROM (json_array_elements_text(t.said::json), json_array_elements(t.speakers::json))
        WITH ORDINALITY AS x (text, speaker, n)
""",
    """
CREATE VIEW transcript_function_calls AS
SELECT t.session_id, (x.n - 1)::integer AS position, x.name, x.params, x.result, x.turns_before
FROM
    transcripts t,
    ROWS FROM (json_to_recordset(t.called::json) AS (name text, params text, result text, turns_before integer))
        WITH ORDINALITY AS x (name, params, result, turns_before, n)
""",
)

_VIEWS_ON_SQLITE = (
    """
CREATE VIEW transcript_turns AS
SELECT
    t.session_id, e.key AS position, json_extract(t.speakers, '$[' || e.key || '][0]') AS role,
    json_extract(t.speakers, '$[' || e.key || '][1]') AS original_role, e.value AS text
FROM transcripts t, json_each(t.said) e
""",
    """
CREATE VIEW transcript_function_calls AS
SELECT
    t.session_id, e.key AS position, json_extract(e.value, '$.name') AS name,
    json_extract(e.value, '$.params') AS params, json_extract(e.value, '$.result') AS result,
    json_extract(e.value, '$.turns_before') AS turns_before
FROM transcripts t, json_each(t.called) e
""",
)


def upgrade() -> None:
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    for name in ("said", "speakers", "called"):
        op.add_column("transcripts", sa.Column(name, sa.Text, nullable=False, server_default="[]"))
    op.add_column("transcripts", sa.Column("words", _Words, nullable=False, server_default="" if on_sqlite else "{}"))
    if not on_sqlite:
        # To compress rows of some kilobytes was more than a third of the time that a transcript takes.
        for table in ("transcripts", "revisions"):
            op.execute(f"ALTER TABLE {table} SET (toast_tuple_target = 8160)")
    _carry_over()
    op.create_index("ix_transcripts_received_at", "transcripts", ["received_at"])
    if on_sqlite:
        op.drop_table("transcript_search")  # its triggers go with the turns
    else:
        op.execute("DROP TRIGGER transcripts_deleted ON transcripts")
        op.execute("DROP FUNCTION transcript_deleted()")
    op.drop_table("transcript_turns")
    op.drop_table("transcript_function_calls")
    for view in _VIEWS_ON_SQLITE if on_sqlite else _VIEWS_ON_POSTGRESQL:
        op.execute(view)
    if on_sqlite:
        _search_on_sqlite()
    else:
        _search_on_postgresql()


def _carry_over() -> None:
    tx, session = op.get_bind(), _transcripts.c.session_id
    those = sa.select(session).order_by(session).limit(_CALLS_A_LOOK)
    found = tx.scalars(those).all()
    while found:
        turns, calls = _by_session(_turns, found), _by_session(_calls, found)
        rows = [{"of": it, **_row(turns.get(it, []), calls.get(it, []))} for it in found]
        new: dict[str, Any] = {
            name: sa.bindparam(name, type_=_transcripts.c[name].type) for name in rows[0] if name != "of"
        }
        tx.execute(sa.update(_transcripts).where(session == sa.bindparam("of")).values(new), rows)
        found = tx.scalars(those.where(session > found[-1])).all()


def _by_session(table: Any, sessions: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    rows = sa.select(table).where(table.c.session_id.in_(sessions)).order_by(table.c.session_id, table.c.position)
    for row in op.get_bind().execute(rows):
        found.setdefault(row.session_id, []).append(row)
    return found


def _row(turns: list[Any], calls: list[Any]) -> dict[str, Any]:
    called = ({name: getattr(it, name) for name in ("name", "params", "result", "turns_before")} for it in calls)
    return {
        "said": msgspec.json.encode([it.text for it in turns]).decode(),
        "speakers": msgspec.json.encode([(it.role, it.original_role) for it in turns]).decode(),
        "called": msgspec.json.encode(list(called)).decode(),
        "words": [it.text for it in turns],
    }


def _search_on_postgresql() -> None:
    """Numbers and no tsvector: that holds at most 1 MiB, and to find the words would be most of PostgreSQL's work."""
    op.execute("CREATE INDEX ix_transcripts_words ON transcripts USING gin (words)")


def _search_on_sqlite() -> None:
    """`transcript_search MATCH ...`: its rowid is that of the transcript.

    The index holds no text of its own; triggers keep it in step. SQLite keeps the row ids of transcripts through a
    VACUUM, because they have an index; a test holds that.
    """
    # To the tokenizer `ascii` all that is not ASCII is of a word: words are those between spaces, as they were put in.
    op.execute(
        "CREATE VIRTUAL TABLE transcript_search USING fts5"
        "(words, content='transcripts', content_rowid='rowid', tokenize='ascii')"
    )
    op.execute("INSERT INTO transcript_search (transcript_search) VALUES ('rebuild')")
    add = "INSERT INTO transcript_search (rowid, words) VALUES (new.rowid, new.words);"
    remove = "INSERT INTO transcript_search (transcript_search, rowid, words) VALUES ('delete', old.rowid, old.words);"
    for occasion, moment, effects in (
        ("added", "INSERT", add),
        ("removed", "DELETE", remove),
        ("changed", "UPDATE OF words", remove + add),
    ):
        op.execute(f"CREATE TRIGGER transcripts_{occasion} AFTER {moment} ON transcripts BEGIN {effects} END")
