"""The secrets of compose.yaml: new ones each time, for their owner only, and never another in their place."""

import re
from pathlib import Path

import pytest

from image import new_env
from runtime.settings import load_settings

COMPOSE = (Path(__file__).parents[3] / "compose.yaml").read_text()


def test_it_writes_what_compose_yaml_insists_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    new_env.main()
    written = dict(line.split("=", 1) for line in Path(".env").read_text().splitlines())
    assert set(re.findall(r"\$\{(\w+):\?", COMPOSE)) <= written.keys()
    assert Path(".env").stat().st_mode & 0o777 == 0o600


def test_a_service_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    made, other = new_env.variables(), new_env.variables()
    assert not set(made.values()) & set(other.values())
    for name, value in made.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert list(settings.webhook_keys) == ["compose"]
    settings.identity()


def test_what_is_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("RINGLOG_IDENTITY_KEY=old\n")
    new_env.main()
    assert Path(".env").read_text() == "RINGLOG_IDENTITY_KEY=old\n"
    assert ".env is there already" in capsys.readouterr().err
