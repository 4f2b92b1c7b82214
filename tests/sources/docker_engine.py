"""The Docker engine, if one answers: its images, our containers, and what a killed run left behind."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Read when testcontainers is imported. Its reaper is one more image to pull; `_sweep` does what it is for.
os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")

import docker
from docker.errors import DockerException, ImageNotFound
from requests.exceptions import RequestException
from testcontainers.core.container import DockerContainer

from tests.sources.origin import Unavailable

ANSWER_DEADLINE_S = 5  # an engine on this machine answers in milliseconds; a dead socket never does
PULL_DEADLINE_S = 300  # of silence while an image is pulled, once the registry has said that it has it

LABEL = "ringlog.test.pid"


def container_of(image: str) -> DockerContainer:
    """A container that can be started: the engine answers and has the image. Raises `Unavailable`."""
    try:
        client = docker.from_env(timeout=ANSWER_DEADLINE_S)
        client.ping()
    except (DockerException, RequestException) as error:
        raise Unavailable(f"no Docker engine answers ({type(error).__name__})") from None
    try:
        _sweep(client)
        if not _is_there(client, image):
            client.api.inspect_distribution(image)  # asks the registry, and so fails soon when there is none
            client.api.timeout = PULL_DEADLINE_S
            client.images.pull(image)
    except (DockerException, RequestException) as error:
        raise Unavailable(f"the Docker engine has no {image} and can't pull it ({type(error).__name__})") from None
    finally:
        client.close()
    return DockerContainer(image).with_kwargs(labels={LABEL: str(os.getpid())})


@contextmanager
def running(container: DockerContainer) -> Iterator[None]:
    """Starts the container, and removes it afterwards. Raises `Unavailable` when it doesn't start."""
    try:
        try:
            container.start()
        except (RuntimeError, TimeoutError, DockerException) as error:
            raise Unavailable(
                f"a container of {container.image} does not start: {_last_words(container, error)}"
            ) from None
        yield
    finally:
        container.stop()


def _last_words(container: DockerContainer, error: Exception) -> str:
    try:
        said = b"".join(container.get_logs()).decode(errors="replace").split("\n")
    except Exception:  # it may not even exist
        said = []
    return next((line for line in reversed(said) if line.strip()), str(error))


def _is_there(client: docker.DockerClient, image: str) -> bool:
    try:
        client.images.get(image)
    except ImageNotFound:
        return False
    return True


def _sweep(client: docker.DockerClient) -> None:
    """Removes the containers of test runs that were killed: nobody else will."""
    for container in client.containers.list(all=True, filters={"label": LABEL}):
        if not Path(f"/proc/{container.labels[LABEL]}").exists():
            container.remove(force=True, v=True)
