"""The command as a person meets it first."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
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


def commands(command: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each that does something, by its names."""
    verbs = command.list_commands(None) if hasattr(command, "list_commands") else []
    for verb in verbs:
        yield from commands(command.get_command(None, verb), *names, verb)
    if not verbs:
        yield names, command


ALL = dict(commands(typer.main.get_command(app)))


def test_each_command_shows_an_example_of_itself() -> None:
    assert ("state", "snapshot") in ALL and ("lag",) in ALL
    for names in ALL:
        said = CliRunner().invoke(app, [*names, "--help"], env={"COLUMNS": "120"}).output
        assert re.search(rf"Examples?:(.|\n)*ringlog {' '.join(names)}", said), names


@pytest.mark.parametrize("names", ALL, ids=" ".join)
def test_nothing_is_lost_of_what_the_help_says(names: tuple[str, ...]) -> None:
    """As it would be of what stands in square brackets, and looks like markup."""
    output = CliRunner().invoke(app, [*names, "--help"], env={"COLUMNS": "1000"}).output
    shown = words(output.replace("│", " "))
    for said in (ALL[names].help, *(option.help for option in ALL[names].params)):
        assert words(said) in shown


def words(said: str) -> str:
    return " ".join(said.split())
