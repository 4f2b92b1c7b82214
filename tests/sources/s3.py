"""Where the tests' S3 comes from: a given one, a container, or a program; the last two versitygw over a folder."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from runtime.local_kafka import dies_with_us
from tests.sources.origin import Server, Unavailable, first_available, given

PROGRAM = "versitygw"
IMAGE = "versity/versitygw:v1.8.0"

# Of the test equipment, where a machine has no such program: `make test-all` says where it is.
TESTBED = "TESTBED"
BUILD = "s3-image"

START_DEADLINE_S = 30

BUCKET = "ringlog"
_KEY, _SECRET = "tests", "tests-only"
_PORT = 7070


def open_s3() -> AbstractContextManager[Server]:
    """`http://key:secret@host:port/bucket` of a bucket that is there. Entering raises `Unavailable`."""
    return first_available(
        "S3", {"given": partial(given, "RINGLOG_TEST_S3_URL"), "containers": _container, "local": _program}
    )


def aws_variables(address: str) -> Mapping[str, str]:
    """How a process is told of the server."""
    url = urlsplit(address)
    return {
        "AWS_ACCESS_KEY_ID": url.username or "",
        "AWS_SECRET_ACCESS_KEY": url.password or "",
        "AWS_ENDPOINT_URL": f"{url.scheme}://{url.hostname}:{url.port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
    }


def bucket_of(address: str) -> str:
    return urlsplit(address).path.strip("/")


class Gateway:
    """versitygw over a folder, each of whose folders is a bucket. It may be stopped and started again."""

    def __init__(self, program: str, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://{_KEY}:{_SECRET}@127.0.0.1:{self.port}/{BUCKET}"

    def start(self) -> None:
        """Returns when it answers. Raises `Unavailable`."""
        (self.folder / BUCKET).mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [self._program, "--port", f"127.0.0.1:{self.port}", "--quiet", "posix", str(self.folder)],
            env={**os.environ, "ROOT_ACCESS_KEY": _KEY, "ROOT_SECRET_KEY": _SECRET},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=dies_with_us(),  # noqa: PLW1509 - it only calls what was loaded before the fork
        )
        _wait_until_it_answers(self.port, self._process)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_DEADLINE_S)
            self._process = None


@contextmanager
def own_gateway() -> Iterator[Gateway]:
    """One that a test may stop. Running. Raises `Unavailable`."""
    program = _found()
    with tempfile.TemporaryDirectory(prefix="ringlog-test-s3-") as folder:
        gateway = Gateway(program, Path(folder), _free_port())
        try:
            gateway.start()
            yield gateway
        finally:
            gateway.stop()


@contextmanager
def _program() -> Iterator[Server]:
    with own_gateway() as gateway:
        yield Server(gateway.address, f"{PROGRAM} at 127.0.0.1:{gateway.port} over {gateway.folder}")


@contextmanager
def _container() -> Iterator[Server]:
    from tests.sources.docker_engine import container_of, running

    # What the container writes there may be another user's.
    with tempfile.TemporaryDirectory(prefix="ringlog-test-s3-", ignore_cleanup_errors=True) as folder:
        Path(folder, BUCKET).mkdir()
        container = container_of(IMAGE).with_exposed_ports(_PORT).with_volume_mapping(folder, "/buckets", "rw")
        container.with_envs(ROOT_ACCESS_KEY=_KEY, ROOT_SECRET_KEY=_SECRET).with_command("posix /buckets")
        with running(container):
            host, port = container.get_container_host_ip(), int(container.get_exposed_port(_PORT))
            _wait_until_it_answers(port, None, host)
            yield Server(f"http://{_KEY}:{_SECRET}@{host}:{port}/{BUCKET}", f"container of {IMAGE} at {host}:{port}")


def _found() -> str:
    """On the path, or built by the test equipment: some minutes the first time. Raises `Unavailable`."""
    if found := shutil.which(PROGRAM):
        return found
    build = Path(os.environ.get(TESTBED, "")).absolute() / BUILD
    if not os.environ.get(TESTBED) or not build.exists():
        raise Unavailable(f"{PROGRAM} is not on the path, and {TESTBED} names no folder with {BUILD}")
    built = subprocess.run([str(build), "--binary"], capture_output=True, text=True, check=False)
    program = built.stdout.strip()
    if built.returncode or not Path(program).exists():
        raise Unavailable(f"{build} could not build {PROGRAM}: {built.stderr.strip()[-200:]}")
    return program


def _wait_until_it_answers(
    port: int, process: subprocess.Popen[bytes] | None, host: str = "127.0.0.1", within_s: float = START_DEADLINE_S
) -> None:
    deadline = time.monotonic() + within_s
    while process is None or process.poll() is None:
        with suppress(OSError), closing(socket.create_connection((host, port), 1)):
            return
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    raise Unavailable(f"{PROGRAM} does not answer at {host}:{port}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
