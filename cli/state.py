"""`ringlog state rebuild`"""

import typer

from cli.state_rebuild import rebuild

app = typer.Typer(no_args_is_help=True, help="What is known of callers: build it anew.")
app.command("rebuild")(rebuild)


@app.callback()
def _state() -> None:
    """Without this an app with one verb would be that verb."""
