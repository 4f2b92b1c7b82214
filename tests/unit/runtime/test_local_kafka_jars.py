"""The jars of the embedded Kafka: locked, fetched once, never half."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from runtime.local_kafka import ConsoleProgress, LocalKafkaError, jars
from runtime.local_kafka.cache import cache_directory, scratch
from runtime.local_kafka.jars import KAFKA_VERSION, ensure_jars, locked_jars

FIRST, SECOND = b"PK first jar" * 1000, b"PK second jar" * 1000


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: pytest's output is for failures."""


@contextmanager
def a_repository(root: Path) -> Iterator[str]:
    """A Maven repository over HTTP, as a company's mirror is one."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def publish(root: Path, coordinate: str, content: bytes) -> None:
    group, artifact, version = coordinate.split(":")
    folder = root / group.replace(".", "/") / artifact / version
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{artifact}-{version}.jar").write_bytes(content)


@pytest.fixture
def two_jars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A lock of two small jars in place of Kafka's 45 MB."""
    coordinates = ("org.one:first:1.0", "org.two:second:2.0")
    lines = (
        f"{name} {len(content)} {hashlib.sha256(content).hexdigest()}\n"
        for name, content in zip(coordinates, (FIRST, SECOND), strict=True)
    )
    lock = tmp_path / "two.lock"
    lock.write_text("# two\n" + "".join(lines))
    monkeypatch.setattr(jars, "LOCK_FILE", lock)
    return coordinates


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def progress(said: io.StringIO) -> ConsoleProgress:
    return ConsoleProgress(Console(file=said))


def use_mirror(monkeypatch: pytest.MonkeyPatch, folder: Path, url: str) -> None:
    """As a user would: by jgo's own configuration file."""
    settings = folder / "jgo.conf"
    settings.write_text(f"[repositories]\ncentral = {url}\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))


def test_the_lock_is_of_the_kafka_that_we_name() -> None:
    locked = {jar.coordinate: jar for jar in locked_jars()}
    kafkas = {key.split(":")[2] for key in locked if key.startswith("org.apache.kafka:")}
    assert kafkas == {KAFKA_VERSION}
    assert set(jars.ROOTS) <= set(locked)
    assert len({jar.name for jar in locked.values()}) == len(locked)
    assert all(len(jar.sha256) == 64 and jar.size_bytes > 0 for jar in locked.values())
    # Kafka's own classes speak slf4j 1.7: one API, one binding, of one version.
    assert {key for key in locked if "slf4j" in key} == {
        f"org.slf4j:slf4j-{part}:{jars.SLF4J_VERSION}" for part in ("api", "simple")
    }


def test_another_lock_has_another_folder(tmp_path: Path, two_jars: tuple[str, str]) -> None:
    before = jars.distribution_directory(tmp_path)
    jars.LOCK_FILE.write_text(jars.LOCK_FILE.read_text() + "org.three:third:3 1 00\n")
    after = jars.distribution_directory(tmp_path)
    assert before != after
    assert before.name.startswith(f"kafka-{KAFKA_VERSION}-")


def test_jars_are_fetched_once_and_then_without_a_network(
    tmp_path: Path,
    two_jars: tuple[str, str],
    progress: ConsoleProgress,
    said: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for coordinate, content in zip(two_jars, (FIRST, SECOND), strict=True):
        publish(tmp_path / "mirror", coordinate, content)
    with a_repository(tmp_path / "mirror") as url:
        use_mirror(monkeypatch, tmp_path, url)
        first = ensure_jars(tmp_path / "cache", progress)
    assert [path.read_bytes() for path in first] == [FIRST, SECOND]
    assert said.getvalue().startswith(f"Downloading Apache Kafka {KAFKA_VERSION}")
    assert said.getvalue().count("\n") == 1
    assert ensure_jars(tmp_path / "cache", progress) == first
    assert said.getvalue().count("\n") == 1
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["jars", "writer.lock"]


def test_a_jar_cut_short_in_the_cache_is_fetched_again_alone(
    tmp_path: Path, two_jars: tuple[str, str], progress: ConsoleProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache" / "jars"
    folder.mkdir(parents=True)
    (folder / "first-1.0.jar").write_bytes(FIRST)
    (folder / "second-2.0.jar").write_bytes(SECOND[:100])
    # The mirror does not have the first: it must not be asked for it.
    publish(tmp_path / "mirror", two_jars[1], SECOND)
    with a_repository(tmp_path / "mirror") as url:
        use_mirror(monkeypatch, tmp_path, url)
        found = ensure_jars(tmp_path / "cache", progress)
    assert [path.read_bytes() for path in found] == [FIRST, SECOND]


def test_a_jar_with_other_bytes_is_refused_and_not_kept(
    tmp_path: Path, two_jars: tuple[str, str], progress: ConsoleProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path / "mirror", two_jars[0], FIRST)
    publish(tmp_path / "mirror", two_jars[1], SECOND[:-1] + b"!")
    with a_repository(tmp_path / "mirror") as url:
        use_mirror(monkeypatch, tmp_path, url)
        with pytest.raises(LocalKafkaError, match=r"the download of second-2\.0\.jar has SHA-256"):
            ensure_jars(tmp_path / "cache", progress)
    assert [path.name for path in (tmp_path / "cache" / "jars").iterdir()] == ["first-1.0.jar"]


def test_without_a_network_one_sentence_says_what_to_do(
    tmp_path: Path, two_jars: tuple[str, str], progress: ConsoleProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_repository(tmp_path) as url:
        pass
    use_mirror(monkeypatch, tmp_path, url)
    with pytest.raises(LocalKafkaError, match="could not be downloaded") as refused:
        ensure_jars(tmp_path / "cache", progress)
    assert "RINGLOG_KAFKA_BOOTSTRAP_SERVERS" in str(refused.value)


def test_without_the_extra_one_sentence_says_what_to_install(
    tmp_path: Path, two_jars: tuple[str, str], progress: ConsoleProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("jgo.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jgo", None)
    with pytest.raises(LocalKafkaError, match=r"jgo.*pip install 'ringlog\[local\]'"):
        ensure_jars(tmp_path / "cache", progress)


def test_the_cache_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGLOG_CACHE_DIR", str(tmp_path))
    assert cache_directory() == tmp_path
    monkeypatch.delenv("RINGLOG_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory().name == "ringlog"


def test_what_a_killed_process_left_is_swept_and_its_lock_is_gone(
    tmp_path: Path, progress: ConsoleProgress, said: io.StringIO
) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from runtime.local_kafka.cache import scratch\n"
        "from runtime.local_kafka.progress import ConsoleProgress\n"
        "with scratch(Path(sys.argv[1]), ConsoleProgress()) as folder:\n"
        "    (folder / 'half.jar').write_bytes(b'PK')\n"
        "    print(folder, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(jars.__file__).parents[2],
    ) as owner:
        assert owner.stdout is not None
        left = Path(owner.stdout.readline().strip())
        assert (left / "half.jar").exists()
        owner.kill()
    with scratch(tmp_path, progress) as mine:
        assert mine != left
        assert not left.exists()
        assert list(mine.iterdir()) == []
    assert said.getvalue() == ""


def test_one_process_at_a_time_and_the_other_is_told(
    tmp_path: Path, progress: ConsoleProgress, said: io.StringIO
) -> None:
    inside = threading.Event()
    leave = threading.Event()

    def own() -> None:
        with scratch(tmp_path, progress):
            inside.set()
            leave.wait(10)

    owner = threading.Thread(target=own)
    owner.start()
    inside.wait(10)
    # Beyond the time for which a wait says nothing.
    threading.Timer(1.5, leave.set).start()
    with scratch(tmp_path, progress):
        assert leave.is_set()
    owner.join()
    assert said.getvalue() == "Waiting for another process that prepares Kafka ...\n"
