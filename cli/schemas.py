"""`ringlog schemas export`"""

from pathlib import Path
from typing import Annotated

import typer

from cli.context import EXIT_FAILED, complain, err, explained, load
from schemas.export import ASYNCAPI, documents, write

app = typer.Typer(no_args_is_help=True, help="What flows through the topics, as contracts for readers in any language.")


@app.callback()
def _verbs() -> None:
    """Of one command alone typer would make the verb itself."""


@app.command()
def export(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Where to; it is made. Without it: to standard output.")
    ] = None,
) -> None:
    """Write the contracts: an AsyncAPI 3 document of all topics, and a JSON Schema of the values of each.

    Topics are named as on your Kafka, after RINGLOG_TOPIC_PREFIX. Without a folder the AsyncAPI document is printed.
    Needs neither Kafka nor the database.

    Examples:

        ringlog schemas export contracts/

        ringlog schemas export > asyncapi.json
    """
    with explained():
        settings = load()
    files = documents(settings.topic_prefix, settings.topic_partitions, settings.topic_replication)
    if folder is None:
        typer.echo(files[ASYNCAPI], nl=False)
        return
    try:
        write(folder, files)
    except OSError as error:
        complain(f"{folder} can't be written: {error.strerror or error}.")
        raise typer.Exit(EXIT_FAILED) from None
    err.print(f"{len(files)} files written to {folder}.", highlight=False, soft_wrap=True)
