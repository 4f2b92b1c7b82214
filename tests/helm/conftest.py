"""What the tests of the chart stand on: Helm, and a real cluster with a Kafka and a PostgreSQL beside it."""

import os
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from runtime.local_kafka import LocalKafkaError
from tests.helm.outside import Outside, open_outside
from tests.helm.release import Release
from tests.sources.cluster import NODE, Cluster, Tools, open_cluster, open_tools
from tests.sources.image import build_image
from tests.sources.origin import Unavailable

_measured = pytest.StashKey[dict[str, str]]()
_releases = pytest.StashKey[list[Release]]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for what, figure in config.stash.get(_measured, {}).items():
        terminalreporter.write_line(f"{what}: {figure}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows what one needs: what a command said, and the pods, events and logs of its releases."""
    report = yield
    if report.failed and call.excinfo is not None:
        error = call.excinfo.value
        if isinstance(error, subprocess.CalledProcessError):
            report.sections.append(("what the command said", f"{error.stdout or ''}{error.stderr or ''}"))
        for release in item.config.stash.get(_releases, []):
            try:
                said = release.what_is_wrong()
            except subprocess.SubprocessError as no_answer:  # the cluster itself may be what failed
                said = str(no_answer)
            report.sections.append((f"release in {release.namespace}", said))
    return report


def give_up(reason: Exception) -> NoReturn:
    """Skips the test; but who names a node, as `make test-all` does, wants it, and then it fails."""
    if os.environ.get(NODE):
        pytest.fail(str(reason), pytrace=False)
    pytest.skip(str(reason))


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Takes a figure that the end of the run shows."""
    figures = request.config.stash.setdefault(_measured, {})
    return figures.__setitem__


@pytest.fixture(scope="session")
def tools() -> Tools:
    """Helm, helm-unittest, kubeconform."""
    try:
        return open_tools()
    except Unavailable as error:
        give_up(error)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One that was there stays, one that is started for these tests goes with them."""
    try:
        cluster = open_cluster()
    except Unavailable as error:
        give_up(error)
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def image(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image of this checkout, where the cluster's pods find it."""
    try:
        name = build_image("ringlog:test")
        cluster.load(name, tmp_path_factory.mktemp("image"))
    except Unavailable as error:
        give_up(error)
    return name


@pytest.fixture(scope="session")
def outside(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    try:
        with open_outside(cluster.host, tmp_path_factory.mktemp("outside")) as outside:
            yield outside
    except (Unavailable, LocalKafkaError) as error:
        give_up(error)


@pytest.fixture(scope="module")
def new_release(
    request: pytest.FixtureRequest, cluster: Cluster, outside: Outside, image: str
) -> Iterator[Callable[..., Release]]:
    """Makes a release that is prepared and not yet installed; all are gone after the module."""
    made: list[Release] = []
    request.config.stash[_releases] = made

    def make(helm: str = "4") -> Release:
        try:
            cluster.tools.program(helm)
        except Unavailable as error:
            give_up(error)
        release = Release(cluster, outside, image, helm)
        made.append(release)
        release.prepare()
        return release

    yield make
    for release in made:
        release.delete()
    made.clear()


@pytest.fixture(scope="session")
def chart() -> Path:
    return Path(__file__).parents[2] / "helm" / "ringlog"
