"""Where a test's servers come from, and what happens when one is nowhere."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.sources.docker_engine import ANSWER_DEADLINE_S, container_of
from tests.sources.origin import FORCED, Server, Sources, Unavailable, first_available, given, require


@pytest.fixture(autouse=True)
def nothing_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FORCED, raising=False)


@contextmanager
def has(name: str) -> Iterator[Server]:
    yield Server(name, f"the {name}")


@contextmanager
def has_not(why: str) -> Iterator[Server]:
    if why:
        raise Unavailable(why)
    yield Server("", "")


ALL: Sources = {"given": partial(has_not, "not given"), "containers": partial(has, "c"), "local": partial(has, "l")}


def test_the_first_that_has_one_is_taken() -> None:
    with first_available("Kafka", ALL) as server:
        assert server == Server("c", "the c")


def test_one_kind_may_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FORCED, "local")
    with first_available("Kafka", ALL) as server:
        assert server.address == "l"


def test_when_nobody_has_one_all_reasons_are_given() -> None:
    sources: Sources = {"given": partial(has_not, "A is not set"), "containers": partial(has_not, "no engine")}
    with (
        pytest.raises(Unavailable, match="there is no Kafka to test with: A is not set; no engine"),
        first_available("Kafka", sources),
    ):
        raise AssertionError("there was one")


def test_an_error_of_a_test_is_not_taken_for_a_missing_server() -> None:
    with pytest.raises(Unavailable, match="of the test"), first_available("Kafka", ALL):
        raise Unavailable("of the test")


def test_what_is_given_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGLOG_TEST_SOMETHING", "host:1")
    with first_available("Kafka", {**ALL, "given": partial(given, "RINGLOG_TEST_SOMETHING")}) as server:
        assert server == Server("host:1", "given by RINGLOG_TEST_SOMETHING")


def test_no_docker_engine_is_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    with pytest.raises(Unavailable, match="no Docker engine answers"):
        container_of("postgres:17")


def test_a_docker_engine_that_hangs_costs_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "deaf.sock"))
        deaf.listen(10)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/deaf.sock")
        before = time.monotonic()
        with pytest.raises(Unavailable, match="no Docker engine answers"):
            container_of("postgres:17")
        assert time.monotonic() - before < ANSWER_DEADLINE_S + 3


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_what_is_missing_is_skipped_here_and_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="no engine"), ExitStack() as stack:
        require(has_not("no engine"), stack)
