"""Commands configure the logs of their process, which here is that of the tests."""

from collections.abc import Iterator

import pytest

from tests.logging_restored import logs_restored


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    with logs_restored():
        yield
