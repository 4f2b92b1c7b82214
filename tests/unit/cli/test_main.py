"""The command as a person meets it first."""

import re
from collections.abc import Iterator
from typing import Any

import typer
from typer.testing import CliRunner

from cli.main import VERBS, app


def test_the_help_names_every_verb() -> None:
    said = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"})
    assert said.exit_code == 0
    named = re.findall(r"^\W*([a-z][a-z-]+)  +[A-Z]", said.output, re.MULTILINE)
    assert [verb for verb in VERBS if verb not in named] == []


def test_each_verb_explains_itself() -> None:
    for verb in VERBS:
        said = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "120"})
        assert said.exit_code == 0 and f"ringlog {verb}" in said.output.replace("root", "ringlog"), verb


def leaves(command: Any, *names: str) -> Iterator[tuple[str, ...]]:
    verbs = command.list_commands(None) if hasattr(command, "list_commands") else []
    for verb in verbs:
        yield from leaves(command.get_command(None, verb), *names, verb)
    if not verbs:
        yield names


def test_each_command_shows_an_example_of_itself() -> None:
    commands = list(leaves(typer.main.get_command(app)))
    assert ("state", "snapshot") in commands and ("lag",) in commands
    for names in commands:
        said = CliRunner().invoke(app, [*names, "--help"], env={"COLUMNS": "120"}).output
        assert re.search(rf"Examples?:(.|\n)*ringlog {' '.join(names)}", said), names
