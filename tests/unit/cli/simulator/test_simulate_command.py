"""`ringlog simulate` asked wrongly: one sentence, exit code 2."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli.simulate import simulate

app = typer.Typer()
app.command()(simulate)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--calls", "5"], "run `ringlog up` first, or give both --url and --key"),
        (["--verify", "--url", "http://127.0.0.1:1", "--key", "k"], "--verify reads the books"),
        (["--odd", "lots"], "'lots' is no share"),
        (["--url", "nonsense", "--key", "k"], "'nonsense' is no URL"),
        (["--odd", "80%", "--revisions", "40%", "--url", "http://127.0.0.1:1", "--key", "k"], "together must not be"),
    ],
)
def test_a_wrong_question_gets_one_sentence(tmp_path: Path, options: list[str], sentence: str) -> None:
    result = CliRunner().invoke(app, ["--data-dir", str(tmp_path), *options])
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split())
