"""`ringlog transcripts show | search | export`"""

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

import msgspec
import typer
from rich.text import Text
from sqlalchemy import Connection

from cli.context import end_with, explained, load, out
from cli.database import opened
from cli.terminal import printable
from cli.transcript_export import export
from cli.transcript_text import conversation_lines, found_lines
from consumers.conversations import read, snapshots
from consumers.search import NoWords, asked_words, find
from runtime.process import EXIT_SETTINGS

app = typer.Typer(
    no_args_is_help=True, help="Read transcripts: one whole, the turns in which words were said, or all in a file."
)
app.command()(export)

_T = TypeVar("_T")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


# A session id may begin with a dash, as the provider's ids do, and then with an h.
@app.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
def show(session: Annotated[str, typer.Argument(help="The session's id.")], json: Json = False) -> None:
    """Print the transcript of a call. Exit code 1 when there is none.

    Example:

        ringlog transcripts show -OmNNf485Na8Bw82RSfz
    """
    conversation = _from_database(lambda tx: read(tx, session))
    if conversation is None:
        end_with(
            f"There is no transcript of session {session!r}: the call has not ended, its end has not arrived,"
            " or `ringlog consume transcripts` is not running."
        )
    if json:
        typer.echo(msgspec.json.encode(conversation))
    else:
        _print(conversation_lines(conversation))


@app.command()
def search(
    words: Annotated[list[str], typer.Argument(help="Words that must all occur in one turn, in any order.")],
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many turns, the newest calls first.")] = 20,
    json: Json = False,
) -> None:
    """Find the turns in which all the words were said. Exit code 1 when there are none.

    Example:

        ringlog transcripts search "delivery address" --limit 5
    """
    asked = " ".join(words)
    try:
        found = _from_database(lambda tx: find(tx, asked, limit))
    except NoWords as error:
        end_with(f"{error}: give at least one with a letter or a digit.", EXIT_SETTINGS)
    if json:
        typer.echo(msgspec.json.encode(found))
    elif found:
        _print(found_lines(found, asked_words(asked)))
    if not found:
        end_with(f"No turn of any transcript holds {asked!r}. Whole words are looked for, all in one turn.")


def _from_database(look_up: Callable[[Connection], _T]) -> _T:
    """Ends the command with a sentence when there is no database, or none with our tables."""
    with explained(), opened(load()) as engine, snapshots(engine).connect() as tx:
        return look_up(tx)


def _print(lines: Sequence[Text]) -> None:
    for line in lines:
        line.plain = printable(line.plain)  # one for one: the styles stay where they are
        out.print(line, soft_wrap=True)
