"""What the tests of the chart stand on: Helm, and a real cluster with a Kafka and a PostgreSQL beside it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.local_kafka import LocalKafkaError
from tests.helm.outside import Outside, open_outside
from tests.helm.release import Release
from tests.sources.cluster import Cluster, Tools, open_cluster, open_tools
from tests.sources.image import build_image
from tests.sources.origin import Unavailable

_measured = pytest.StashKey[dict[str, str]]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for what, figure in config.stash.get(_measured, {}).items():
        terminalreporter.write_line(f"{what}: {figure}")


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
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    try:
        return open_cluster()
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def image(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image of this checkout, where the cluster's pods find it."""
    try:
        name = build_image("ringlog:test")
        cluster.load(name, tmp_path_factory.mktemp("image"))
    except Unavailable as error:
        pytest.skip(str(error))
    return name


@pytest.fixture(scope="session")
def outside(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    try:
        with open_outside(cluster.host, tmp_path_factory.mktemp("outside")) as outside:
            yield outside
    except (Unavailable, LocalKafkaError) as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def new_release(cluster: Cluster, outside: Outside, image: str) -> Iterator[Callable[..., Release]]:
    """Makes a release that is prepared and not yet installed; all are gone after the module."""
    made: list[Release] = []

    def make(helm: str = "4") -> Release:
        try:
            cluster.tools.program(helm)
        except Unavailable as error:
            pytest.skip(str(error))
        release = Release(cluster, outside, image, helm)
        made.append(release)
        release.prepare()
        return release

    yield make
    for release in made:
        release.delete()


@pytest.fixture(scope="session")
def chart() -> Path:
    return Path(__file__).parents[2] / "helm" / "ringlog"
