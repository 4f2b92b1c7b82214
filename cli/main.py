"""`ringlog`: the command, put together; each verb is a file of its own, and is imported when it is used."""

import importlib
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

# A verb is the module `cli.<verb>`: a typer app named `app` when it has verbs of its own, else a function of its name.
VERBS = (
    "up",
    "serve",
    "consume",
    "topics",
    "facts",
    "state",
    "calls",
    "billing",
    "transcripts",
    "recordings",
    "dead-letters",
    "lag",
    "positions",
    "tail",
    "explain",
    "replay",
    "reconcile",
    "schemas",
    "migrate",
    "simulate",
    "check",
)


class _Verbs(TyperGroup):
    """A service that starts on a node of a cluster should not load the simulator, and no consumer the server."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"cli.{cmd_name.replace('-', '_')}")
        app = getattr(module, "app", None)
        if app is None:
            app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
            app.command(cmd_name)(getattr(module, cmd_name))
        command = typer.main.get_command(app)
        command.name = cmd_name  # a verb with verbs of its own has no function whose name it could take
        return command


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Two webhooks of voice agents in, Kafka in the middle, an answer and exact books out.",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"ringlog {version('ringlog')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The options of `ringlog` itself, before a verb."""


def main() -> None:
    app()


if __name__ == "__main__":
    main()
