"""The command as a person meets it first."""

import re

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
