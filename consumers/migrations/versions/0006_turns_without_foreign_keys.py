"""PostgreSQL no longer checks of each turn and function call that its transcript is there.

That was the most expensive part of a turn, and a transcript is written in the transaction of its turns. Who deletes a
transcript still deletes them: a trigger does now what the foreign keys did. SQLite keeps those: they cost it little,
and to take them away the table, whose rows its search knows by number, would have to be made anew.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for table in ("transcript_turns", "transcript_function_calls"):
        op.drop_constraint(f"fk_{table}_transcripts", table, type_="foreignkey")
    op.execute(
        "CREATE FUNCTION transcript_deleted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " DELETE FROM transcript_turns WHERE session_id = OLD.session_id;"
        " DELETE FROM transcript_function_calls WHERE session_id = OLD.session_id;"
        " RETURN NULL; END $$"
    )
    op.execute(
        "CREATE TRIGGER transcripts_deleted AFTER DELETE ON transcripts"
        " FOR EACH ROW EXECUTE FUNCTION transcript_deleted()"
    )
