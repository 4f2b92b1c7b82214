"""`ringlog state dump | hash | inspect | verify | rebuild | snapshot | snapshots`"""

import typer

from cli.state_dump import dump, hash_
from cli.state_inspect import inspect
from cli.state_rebuild import rebuild
from cli.state_snapshot import snapshot, snapshots
from cli.state_verify import verify

app = typer.Typer(no_args_is_help=True, help="What is known of callers: look at it, verify it, build it anew, keep it.")
app.command("dump")(dump)
app.command("hash")(hash_)
# A caller's id may begin with a dash.
app.command("inspect", context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})(inspect)
app.command("verify")(verify)
app.command("rebuild")(rebuild)
app.command("snapshot")(snapshot)
app.command("snapshots")(snapshots)
