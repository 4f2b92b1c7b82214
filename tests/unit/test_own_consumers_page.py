"""The examples of docs/own-consumers.md are programs: they have types, and their tests pass."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "own-consumers.md"


@pytest.fixture
def written(tmp_path: Path) -> list[str]:
    """Each example as the file that its first line names."""
    names = []
    for name, source in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        (tmp_path / name).write_text(source)
        names.append(name)
    assert names == ["crm_sync.py", "test_crm_sync.py", "first_calls.py", "test_first_calls.py"]
    return names


def run(folder: Path, *command: str, **environment: str) -> None:
    command = (sys.executable, "-m", *command)
    env = {**os.environ, **environment}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_their_types_are_right(written: list[str], tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in written]
    run(ROOT, "mypy", "--config-file", str(ROOT / "pyproject.toml"), *files, MYPYPATH=str(tmp_path))


def test_their_tests_pass(written: list[str], tmp_path: Path) -> None:
    run(tmp_path, "pytest", "-q", "-p", "no:cacheprovider", ".", PYTHONPATH=f"{ROOT}:{tmp_path}")


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[\w-]+)?\)", PAGE.read_text())
    assert links
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
