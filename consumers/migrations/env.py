"""Alembic's entry: runs the steps on the connection that `consumers.database.migrate` holds, in its transaction."""

from alembic import context

from consumers.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by building it anew
)
context.run_migrations()
