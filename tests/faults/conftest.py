"""The cluster that all fault tests share, and what they say at the end of a run."""

import os
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from runtime.kafka import make_admin, start_within, stop_within
from runtime.local_kafka.error import LocalKafkaError
from runtime.settings import load_settings
from service.app import TOPICS
from tests.faults.audit import Findings
from tests.faults.books_scene import AUDITED
from tests.faults.cluster import Cluster
from tests.faults.quick_kafka import quick_kafka
from tests.faults.scene import Scene

# The seed of the load and of the moments at which something is killed: a run can be repeated with that of a former one.
SEED = "RINGLOG_TEST_SEED"

__all__ = ["quick_kafka"]  # a fixture of all tests here

_said = pytest.StashKey[list[str]]()


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    """Three brokers, whole at the start of every test that uses `scene`."""
    with tempfile.TemporaryDirectory(prefix="ringlog-faults-", ignore_cleanup_errors=True) as directory:
        cluster = Cluster(Path(directory))
        try:
            cluster.start()
        except LocalKafkaError as error:
            cluster.stop()
            if os.environ.get("CI"):
                pytest.fail(f"{error}. In CI nothing is skipped.", pytrace=False)
            pytest.skip(str(error))
        yield cluster
        cluster.stop()


@pytest.fixture
def seed() -> int:
    found = int(os.environ.get(SEED) or random.SystemRandom().randrange(10**6))
    print(f"{SEED}={found}")  # noqa: T201 - pytest shows it when the test fails
    return found


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """A line under the test's name at the end of the run: what was measured."""
    said = request.config.stash.setdefault(_said, [])
    return lambda sentence: said.append(f"{request.node.name}: {sentence}")


@pytest.fixture(autouse=True)
def books_said(say: Callable[[str], None]) -> Iterator[None]:
    before = len(AUDITED)
    yield
    for sentence in AUDITED[before:]:
        say(sentence)


@pytest.fixture
async def scene(cluster: Cluster, tmp_path: Path, seed: int) -> AsyncIterator[Scene]:
    with ExitStack() as stack:
        scene = Scene(cluster, tmp_path, seed, stack)
        try:
            await scene.prepare()
            yield scene
        finally:
            scene.end()
            await cluster.heal()
    # A broker carries the topics of all tests, but restarts ever more slowly.
    admin = make_admin(load_settings(kafka_bootstrap_servers=cluster.bootstrap_servers))
    await start_within(admin)
    await admin.delete_topics([topic.named(scene.prefix) for topic in TOPICS])
    await stop_within(admin)


@pytest.fixture
def clean(say: Callable[[str], None]) -> Callable[[Findings], None]:
    """Asserts that the oracle has nothing to object to."""

    def check(findings: Findings) -> None:
        say(str(findings))
        shown = findings.violations[:20]
        assert not shown, f"{len(findings.violations)} violations, of {findings}:\n" + "\n".join(shown)

    return check


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_said, []):
        terminalreporter.write_line(line)
