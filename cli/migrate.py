"""`ringlog migrate`: the tables of the books, brought up to date."""

from typing import Annotated

import msgspec
import typer

from cli.context import explained, load, out, patiently
from consumers import database
from schemas.redaction import redact_url


def migrate(
    wait: Annotated[bool, typer.Option("--wait", help="While the database is away, try again.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Create the tables, or bring them up to date; the consumers wait for it. Safe to run again and side by side.

    Example:

        RINGLOG_DATABASE_URL=postgresql://... ringlog migrate
    """
    with explained():
        settings = load()
        patiently(lambda: database.migrate(settings), wait=wait)
    place = redact_url(settings.database)
    if json:
        typer.echo(msgspec.json.encode({"database": place}))
    else:
        out.print(f"The tables are up to date in {place}.", highlight=False, markup=False, soft_wrap=True)
