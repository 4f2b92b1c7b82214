"""The programs of a whole ringlog on one machine, and the settings that they share."""

import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator

import aiohttp

from cli.running import Running
from cli.secrets import Secrets
from runtime.local_kafka import LocalKafka
from runtime.settings import PREFIX, Settings
from runtime.supervisor import Program
from runtime.threads import in_thread
from schemas.topics import PARTITIONS_LOCALLY

HOST = "127.0.0.1"

# Where the embedded Kafka and the simulator's server of recordings listen when nobody else does.
KAFKA_PORT = 19092
SIMULATOR_PORT = 18099

CONSUMERS = ("profiles", "billing", "transcripts", "recordings")


class Stack:
    """Ports, addresses and environment, decided once; `programs` in the order of their start, without Kafka."""

    def __init__(self, settings: Settings, secrets: Secrets, bootstrap_servers: str, *, kafka_is_ours: bool) -> None:
        self._settings = settings
        self._log_dir = settings.data_dir.absolute() / "logs"
        self._bootstrap = bootstrap_servers
        given = settings.model_fields_set
        taken = {0}
        self.port = settings.port if "port" in given else _free_port(settings.port, taken)
        self.ops_port = settings.ops_port if "ops_port" in given else _free_port(settings.ops_port, taken)
        self._consumer_ports = {name: _free_port(self.ops_port + 1 + n, taken) for n, name in enumerate(CONSUMERS)}
        self.simulator = f"{HOST}:{_free_port(SIMULATOR_PORT, taken)}"
        self.webhook_key = (
            next(iter(settings.webhook_keys.values())).get_secret_value()
            if settings.webhook_keys
            else secrets.webhook_key
        )
        self.ops_key = settings.ops_key.get_secret_value() if settings.ops_key else secrets.ops_key
        self.environment = self._environment(secrets, kafka_is_ours)

    def _environment(self, secrets: Secrets, kafka_is_ours: bool) -> dict[str, str]:
        """This process's, and what was not said in it."""
        settings = self._settings
        private = [*settings.recording_private_hosts, self.simulator]
        defaults = {
            "HOST": HOST,
            "PORT": str(self.port),
            "WEBHOOK_KEYS": f"up:{secrets.webhook_key}",
            "OPS_KEY": secrets.ops_key,
            "IDENTITY_KEY": secrets.identity_key,
        }
        if kafka_is_ours:
            defaults["TOPIC_PARTITIONS"] = str(PARTITIONS_LOCALLY)
        decided = {
            "DATA_DIR": str(settings.data_dir.absolute()),
            "KAFKA_BOOTSTRAP_SERVERS": self._bootstrap,
            "RECORDING_PRIVATE_HOSTS": ",".join(private),
        }
        return {**_prefixed(defaults), **os.environ, **_prefixed(decided)}

    def running(self, pids: dict[str, int]) -> Running:
        return Running(
            bootstrap_servers=self._bootstrap,
            webhooks_url=f"http://{HOST}:{self.port}",
            ops_url=f"http://{HOST}:{self.ops_port}",
            database_url=self._settings.database,
            recordings_url=self._settings.recordings,
            state_dir=str(self._settings.state_dir.absolute()),
            webhook_key=self.webhook_key,
            pids=pids,
            simulator=self.simulator,
        )

    def programs(self) -> Iterator[Program]:
        for name in CONSUMERS:
            yield self._program(name, ["consume", name], self._consumer_ports[name])
        # Last, so that it is stopped first: no call comes in any more while what is behind it ends.
        yield self._program("service", ["serve"], self.ops_port)

    def _program(self, name: str, arguments: list[str], ops_port: int) -> Program:
        command = [sys.executable, "-m", "cli.main", *arguments]
        return Program(
            name=name,
            command=lambda: command,
            environment=self.environment | {f"{PREFIX}OPS_PORT": str(ops_port)},
            log=self._log_dir / f"{name}.log",
            ready=_answers(f"http://{HOST}:{ops_port}/health/ready"),
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


def _free_port(wanted: int, taken: set[int]) -> int:
    """`wanted` when nobody listens there, else one that is free now."""
    for port in (*range(wanted, wanted + 100), 0):
        if port in taken and port:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            taken.add(found)
            return found
    raise OSError("no port of the loopback interface is free")
