"""The programs of a whole ringlog on one machine, and the settings that they share."""

import errno
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import aiohttp

from cli.running import Running
from cli.secrets import Secrets
from runtime.local_kafka import LocalKafka
from runtime.settings import PREFIX, Settings, SettingsError
from runtime.supervisor import Program
from runtime.threads import in_thread
from schemas.topics import PARTITIONS_LOCALLY

HOST = "127.0.0.1"

# Where the embedded Kafka and the simulator's server of recordings listen when nobody else does.
KAFKA_PORT = 19092
SIMULATOR_PORT = 18099

MAX_PORT = 65535

# After a power cut a broker checks every segment that was open; the supervisor's own minute is for programs that start.
KAFKA_READY_WITHIN_S = 300.0

CONSUMERS = ("profiles", "calls", "billing", "transcripts", "recordings")


class Stack:
    """Ports, addresses and environment, decided once; `programs` in the order of their start, without Kafka."""

    def __init__(self, settings: Settings, secrets: Secrets, bootstrap_servers: str, *, kafka_is_ours: bool) -> None:
        """Raises `SettingsError` when nothing can listen on the host that was given."""
        self._settings = settings
        self._log_dir = settings.data_dir.absolute() / "logs"
        self._bootstrap = bootstrap_servers
        given = settings.model_fields_set
        self._host = settings.host if "host" in given else HOST
        port = settings.port if "port" in given else 0
        ops_port = settings.ops_port if "ops_port" in given else 0
        taken = {port, ops_port} - {0}
        self._port = port or _free_port(self._host, settings.port, taken)
        self._ops_port = ops_port or _free_port(self._host, settings.ops_port, taken)
        self._consumer_ports = {
            name: _free_port(self._host, self._ops_port + 1 + n, taken) for n, name in enumerate(CONSUMERS)
        }
        self._simulator = f"{HOST}:{_free_port(HOST, SIMULATOR_PORT, taken)}"
        self._webhook_key = (
            next(iter(settings.webhook_keys.values())).get_secret_value()
            if settings.webhook_keys
            else secrets.webhook_key
        )
        self._environment = self._with_decisions(secrets, kafka_is_ours)

    def _with_decisions(self, secrets: Secrets, kafka_is_ours: bool) -> dict[str, str]:
        """This process's environment, and what was not said in it."""
        settings = self._settings
        private = [*settings.recording_private_hosts, self._simulator]
        defaults = {
            "HOST": self._host,
            "WEBHOOK_KEYS": f"up:{secrets.webhook_key}",
            "OPS_KEY": secrets.ops_key,
            "IDENTITY_KEY": secrets.identity_key,
        }
        if kafka_is_ours:
            defaults["TOPIC_PARTITIONS"] = str(PARTITIONS_LOCALLY)
        # An empty variable says nothing, as everywhere; Docker Compose passes those that are not set so.
        said = {name: value for name, value in os.environ.items() if value or not name.startswith(PREFIX)}
        decided = {
            "PORT": str(self._port),
            "OPS_PORT": str(self._ops_port),
            "KAFKA_BOOTSTRAP_SERVERS": self._bootstrap,
            "RECORDING_PRIVATE_HOSTS": ",".join(private),
        }
        # Whoever reads up.json may stand in another directory.
        paths = {name.upper(): str(value.absolute()) for name, value in settings if isinstance(value, Path)}
        return {**_prefixed(defaults), **said, **_prefixed(decided | paths)}

    def running(self, pids: Mapping[str, int]) -> Running:
        host = _reached_at(self._host)
        return Running(
            bootstrap_servers=self._bootstrap,
            webhooks_url=f"http://{host}:{self._port}",
            ops_url=f"http://{host}:{self._ops_port}",
            database_url=self._settings.database,
            recordings_url=self._settings.recordings,
            state_dir=str(self._settings.state_dir.absolute()),
            webhook_key=self._webhook_key,
            pids=dict(pids),
            simulator=self._simulator,
            webhook_header=self._settings.webhook_header,
            settings={name: value for name, value in self._environment.items() if name.startswith(PREFIX)},
        )

    def programs(self) -> Iterator[Program]:
        for name in CONSUMERS:
            # The builder is ready when it has caught up, however long that takes: the service waits a while for it.
            path = "/health/live" if name == "profiles" else "/health/ready"
            yield self._program(name, ["consume", name], self._consumer_ports[name], path)
        # Last, so that it is stopped first: no call comes in any more while what is behind it ends.
        yield self._program("service", ["serve"], self._ops_port, "/health/ready")

    def _program(self, name: str, arguments: list[str], ops_port: int, ready_path: str) -> Program:
        command = [sys.executable, "-m", "cli.main", *arguments]
        return Program(
            name=name,
            command=lambda: command,
            environment=self._environment | {f"{PREFIX}OPS_PORT": str(ops_port)},
            log=self._log_dir / f"{name}.log",
            ready=_answers(f"http://{_reached_at(self._host)}:{ops_port}{ready_path}"),
        )


def kafka_program(kafka: LocalKafka) -> Program:
    """`kafka` has been prepared once, so that its addresses are known; it is again before every start."""

    async def ready() -> bool:
        return await in_thread(kafka.is_ready)

    return Program(
        name="kafka",
        command=kafka.command,
        environment=kafka.environment(),
        log=kafka.log_file,
        ready=ready,
        prepare=kafka.prepare,
        ready_within_s=KAFKA_READY_WITHIN_S,
    )


def _prefixed(values: dict[str, str]) -> dict[str, str]:
    return {PREFIX + name: value for name, value in values.items()}


def _answers(url: str) -> Callable[[], Awaitable[bool]]:
    async def ready() -> bool:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
                session.get(url) as response,
            ):
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    return ready


def _reached_at(host: str) -> str:
    """Where on this machine whoever listens on `host` is reached, as it stands in a URL."""
    address = {"0.0.0.0": HOST, "::": "::1"}.get(host, host)  # noqa: S104 - listens everywhere, so here too
    return f"[{address}]" if ":" in address else address


def _free_port(host: str, wanted: int, taken: set[int]) -> int:
    """`wanted` when nobody listens there, else one that is free now; 0 wants any. It is `taken` from then on.

    Raises `SettingsError` when nothing can listen on `host`.
    """
    near = range(wanted, min(wanted + 100, MAX_PORT + 1)) if wanted else ()
    for port in (*near, *[0] * 20):  # what the system chooses may be taken, too
        if port in taken:
            continue
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except (OSError, UnicodeError) as error:
                if isinstance(error, OSError) and error.errno in (errno.EADDRINUSE, errno.EACCES):
                    continue
                raise SettingsError(
                    f"{PREFIX}HOST is wrong: {host!r} is no address of this machine; 0.0.0.0 listens on all of them."
                ) from None
            found: int = probe.getsockname()[1]
        if found not in taken:
            taken.add(found)
            return found
    raise SettingsError(f"{PREFIX}HOST: no port of {host} is free.")
