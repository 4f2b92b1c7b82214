"""The integration tests really run against containers when they are told to, and leave none behind."""

import os
import time
from collections.abc import Iterator

import docker
import pytest
from docker.errors import NotFound
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from tests.sources import kafka as kafka_source
from tests.sources import postgres as postgres_source
from tests.sources.docker_engine import LABEL, container_of, running
from tests.sources.origin import FORCED, Unavailable

pytestmark = [
    pytest.mark.containers,
    pytest.mark.skipif(os.environ.get(FORCED) != "containers", reason=f"needs {FORCED}=containers (make test-all)"),
]

NO_SUCH_PROCESS = 2**22 + 1  # above the highest process id of Linux


@pytest.fixture
def docker_client() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


def test_the_servers_are_containers_of_ours(docker_client: docker.DockerClient, kafka: str, postgres: str) -> None:
    ours = docker_client.containers.list(filters={"label": f"{LABEL}={os.getpid()}"})
    assert {tag for container in ours for tag in container.image.tags} >= {kafka_source.IMAGE, postgres_source.IMAGE}
    ports = {binding["HostPort"] for container in ours for bound in container.ports.values() for binding in bound or ()}
    assert kafka.rpartition(":")[2] in ports
    assert postgres.rpartition(":")[2].partition("/")[0] in ports


def test_what_a_killed_run_left_is_removed_and_what_another_run_uses_is_not(docker_client: docker.DockerClient) -> None:
    left = _idle(NO_SUCH_PROCESS)
    used = _idle(os.getppid())
    try:
        container_of(postgres_source.IMAGE)
        with pytest.raises(NotFound):
            docker_client.containers.get(left.get_wrapped_container().id)
        assert docker_client.containers.get(used.get_wrapped_container().id).status == "running"
    finally:
        used.stop()


def test_an_image_that_is_nowhere_is_said_so_at_once() -> None:
    before = time.monotonic()
    with pytest.raises(Unavailable, match=r"has no 127.0.0.1:1/nothing:1 and can't pull it"):
        container_of("127.0.0.1:1/nothing:1")
    assert time.monotonic() - before < 10


def test_a_container_that_ends_at_once_gives_its_last_words() -> None:
    # Without a password, and without leave to do without, PostgreSQL's image refuses.
    container = container_of(postgres_source.IMAGE)
    container.waiting_for(LogMessageWaitStrategy("ready to accept connections").with_startup_timeout(30))
    with (
        pytest.raises(Unavailable, match=r"a container of postgres:17 does not start: .*POSTGRES_"),
        running(container),
    ):
        raise AssertionError("it started")


def _idle(pid: int) -> DockerContainer:
    container = DockerContainer(postgres_source.IMAGE).with_command("sleep 300")
    container.with_kwargs(labels={LABEL: str(pid)})
    return container.start()
