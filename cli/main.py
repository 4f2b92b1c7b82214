"""`ringlog`: the command, put together; each verb is a file of its own."""

from importlib.metadata import version
from typing import Annotated

import typer

from cli import facts, topics, transcripts
from cli.consume import consume
from cli.migrate import migrate
from cli.serve import serve
from cli.simulate import simulate
from cli.up import up

app = typer.Typer(
    name="ringlog",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Two webhooks of voice agents in, Kafka in the middle, an answer and exact books out.",
)

app.command()(up)
app.command()(serve)
app.command()(consume)
app.add_typer(topics.app, name="topics")
app.add_typer(facts.app, name="facts")
app.add_typer(transcripts.app, name="transcripts")
app.command()(migrate)
app.command()(simulate)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"ringlog {version('ringlog')}")
        raise typer.Exit


@app.callback()
def _main(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The options of `ringlog` itself, before a verb."""


def main() -> None:
    app()


if __name__ == "__main__":
    main()
