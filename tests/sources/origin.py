"""Where a server to test with may come from, in which order, and which one it is in the end."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import pytest

# Restricts a run to one kind of source, `containers` or `local`.
FORCED = "RINGLOG_TEST_SOURCE"


@dataclass(frozen=True)
class Server:
    """A running server: where it is, for clients and for people."""

    address: str
    description: str


class Unavailable(Exception):
    """A source has no server to offer; the text says why."""


Sources = Mapping[str, Callable[[], AbstractContextManager[Server]]]


@contextmanager
def first_available(what: str, sources: Sources) -> Iterator[Server]:
    """The server of the first source, by order, that has one. Raises `Unavailable` with the reasons of all."""
    forced = os.environ.get(FORCED, "auto")
    if forced != "auto" and forced not in sources:
        raise Unavailable(f"{FORCED} is {forced!r}: it must be auto, containers or local")
    reasons = []
    for name, source in sources.items():
        if forced not in ("auto", name):
            continue
        with ExitStack() as stack:
            try:
                server = stack.enter_context(source())
            except Unavailable as error:
                reasons.append(str(error))
                continue
            yield server
            return
    raise Unavailable(f"there is no {what} to test with: " + "; ".join(reasons))


@contextmanager
def given(variable: str) -> Iterator[Server]:
    """What the one who runs the tests has named."""
    address = os.environ.get(variable)
    if not address:
        raise Unavailable(f"{variable} is not set")
    yield Server(address, f"given by {variable}")


def require(source: AbstractContextManager[Server], stack: ExitStack) -> Server:
    """A server that lives as long as the stack.

    Without one a test is skipped; in CI it fails, because there a skipped test is a hole and no green tick.
    """
    try:
        return stack.enter_context(source)
    except Unavailable as error:
        if os.environ.get("CI"):
            pytest.fail(f"{error}. In CI nothing is skipped.", pytrace=False)
        pytest.skip(str(error))
