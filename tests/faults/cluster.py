"""Three real brokers on this machine, each of which may be killed, paused and restarted with its data.

The controller is a process of its own, to which nothing ever happens: so two dead brokers mean fewer replicas than
min in-sync, and not a cluster without a quorum.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from runtime.local_kafka.error import LocalKafkaError
from runtime.local_kafka.node import broker_properties, new_id
from runtime.local_kafka.ports import Ports
from runtime.local_kafka.probe import read_metadata
from tests.faults.layout import Partition, ask_layout
from tests.faults.member import Distribution, Member
from tests.faults.ports import HOST, free_ports

REPLICATION = 3
MIN_INSYNC = 2

# All four JVMs at once on two cores: five seconds; a machine may be busier than ours.
START_DEADLINE_S = 90.0
IN_SYNC_DEADLINE_S = 90.0
# Ports are free when they are drawn, and may be taken when a broker binds them a second later.
START_ATTEMPTS = 3
_POLL_S = 0.05

_CONTROLLER_ID = 100

# Long enough that a JVM on a busy machine is not taken for dead, short enough that a killed leader is missed soon.
# A restarted broker waits for its former session to end. Kafka's default is 9 s.
SESSION_TIMEOUT_MS = 2000

_REPLICATED = {
    "broker.session.timeout.ms": str(SESSION_TIMEOUT_MS),
    "broker.heartbeat.interval.ms": "300",
    # A follower that answers no more leaves the in-sync replicas when its session ends; one that is merely slow, here.
    "replica.lag.time.max.ms": "6000",
    "default.replication.factor": str(REPLICATION),
    "min.insync.replicas": str(MIN_INSYNC),
    "offsets.topic.replication.factor": str(REPLICATION),
    "transaction.state.log.replication.factor": str(REPLICATION),
    "transaction.state.log.min.isr": str(MIN_INSYNC),
    "share.coordinator.state.topic.replication.factor": str(REPLICATION),
    "share.coordinator.state.topic.min.isr": str(MIN_INSYNC),
}


class Cluster:
    """Brokers are named by their node ids, 1 to `brokers`. Methods that are no coroutines block, mostly briefly.

    `bootstrap_servers` are the brokers themselves. `proxied_servers` are addresses at which nobody listens until the
    test puts proxies there, which forward to `behind_proxies`: a client that begins there stays there, because each
    broker advertises to it the address of its own proxy.
    """

    def __init__(self, directory: Path, brokers: int = 3) -> None:
        self._directory = directory
        self.ids = tuple(range(1, brokers + 1))
        self._members: dict[int, Member] = {}
        self._controller: Member | None = None
        self._direct: dict[int, int] = {}
        self.proxy_ports: dict[int, int] = {}
        self.behind_proxies: dict[int, int] = {}

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"{HOST}:{port}" for port in self._direct.values())

    @property
    def proxied_servers(self) -> str:
        return ",".join(f"{HOST}:{port}" for port in self.proxy_ports.values())

    def start(self) -> None:
        """Returns when every broker knows all of them. Raises `LocalKafkaError`."""
        distribution = Distribution.find()
        for attempt in range(1, START_ATTEMPTS + 1):
            self._prepare(distribution, self._directory / f"attempt-{attempt}")
            try:
                for member in self._all():
                    member.launch()
                return self._wait_ready(self.ids)
            except LocalKafkaError:
                self.stop()
                if attempt == START_ATTEMPTS:
                    raise

    def stop(self) -> None:
        """All at once: their data goes with them."""
        for member in self._all():
            member.stop(0)

    def kill(self, *ids: int) -> None:
        for id_ in ids:
            self._members[id_].stop(0)

    def pause(self, *ids: int) -> None:
        """SIGSTOP: connections stay open, and nothing answers."""
        for id_ in ids:
            self._members[id_].pause()

    def resume(self, *ids: int) -> None:
        for id_ in ids:
            self._members[id_].resume()

    def launch(self, *ids: int) -> None:
        """Starts what is not running, with its data, and returns at once."""
        for id_ in ids:
            if not self._members[id_].is_running:
                self._members[id_].launch()

    def restart(self, *ids: int) -> None:
        """Kills what runs, starts it with its data, and returns when it takes part again. Raises `LocalKafkaError`."""
        self.kill(*ids)
        self.launch(*ids)
        self._wait_ready(ids)

    def pids(self) -> dict[int, int]:
        return {member.node_id: member.pid for member in self._all()}

    async def leader_of(self, topic: str, partition: int) -> int | None:
        """The node id; None while there is none."""
        for found in await self.layout():
            if (found.topic, found.number) == (topic, partition):
                return found.leader if found.leader >= 0 else None
        raise LookupError(f"there is no partition {partition} of {topic}")

    async def wait_leader(self, topic: str, partition: int, but: int | None = None, within_s: float = 30.0) -> int:
        """The leader, once there is one that is not `but`."""
        async with asyncio.timeout(within_s):
            while (leader := await self.leader_of(topic, partition)) in (None, but):  # noqa: ASYNC110 - no broker tells
                await asyncio.sleep(_POLL_S)
        assert leader is not None
        return leader

    async def wait_in_sync(self, within_s: float = IN_SYNC_DEADLINE_S) -> None:
        """Every replica of every partition is in sync. Raises `TimeoutError` that names those that are not."""
        deadline = time.monotonic() + within_s
        while behind := await self._behind():
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {within_s:g} s not in sync: {', '.join(behind[:10])}")
            await asyncio.sleep(_POLL_S)

    async def heal(self) -> None:
        """Whatever a test has done to it: all run, and all are in sync. Raises `LocalKafkaError`, `TimeoutError`."""
        self.resume(*self.ids)
        self.launch(*self.ids)
        await asyncio.to_thread(self._wait_ready, self.ids)
        await self.wait_in_sync()

    async def layout(self) -> list[Partition]:
        """As the first broker that answers says. Raises `ConnectionError` when none does."""
        for id_, member in self._members.items():
            if member.is_running and not member.is_paused:
                with suppress(OSError):  # then another knows
                    return await asyncio.to_thread(ask_layout, self._direct[id_])
        raise ConnectionError("no broker answers")

    async def _behind(self) -> list[str]:
        """What is not in sync in the eyes of any broker: one that was paused doesn't know yet what it has missed."""
        try:
            layouts = [await asyncio.to_thread(ask_layout, port) for port in self._direct.values()]
        except OSError as error:
            return [f"a broker does not answer ({error!r})"]
        return [str(found) for layout in layouts for found in layout if not found.is_whole]

    def _all(self) -> list[Member]:
        return [*self._members.values(), *([self._controller] if self._controller else [])]

    def _prepare(self, distribution: Distribution, directory: Path) -> None:
        self._cluster_id = new_id()
        count = len(self.ids)
        quorum, *ports = free_ports(1 + 3 * count)
        self._direct = dict(zip(self.ids, ports, strict=False))
        self.behind_proxies = dict(zip(self.ids, ports[count:], strict=False))
        self.proxy_ports = dict(zip(self.ids, ports[2 * count :], strict=False))
        self._controller = Member(distribution, directory / "controller", _CONTROLLER_ID, self._cluster_id)
        self._controller.configure(_controller_properties(quorum, self._controller.data))
        for id_ in self.ids:
            member = self._members[id_] = Member(distribution, directory / f"broker-{id_}", id_, self._cluster_id)
            addresses = (self._direct[id_], self.behind_proxies[id_], self.proxy_ports[id_])
            member.configure(_broker_properties(id_, addresses, quorum, member.data))

    def _wait_ready(self, ids: Sequence[int]) -> None:
        """Each of them answers, and knows of itself: it is not fenced."""
        deadline = time.monotonic() + START_DEADLINE_S
        for id_ in ids:
            while not self._is_ready(id_):
                for member in self._all():
                    if not member.is_running and member.node_id in (*ids, _CONTROLLER_ID):
                        raise member.failure("ended while it started")
                if time.monotonic() > deadline:
                    raise self._members[id_].failure(f"was not ready within {START_DEADLINE_S:g} s")
                time.sleep(_POLL_S)

    def _is_ready(self, id_: int) -> bool:
        try:
            metadata = read_metadata(self._direct[id_])
        except OSError:
            return False
        return metadata.cluster_id == self._cluster_id and id_ in {broker for broker, _, _ in metadata.brokers}


def _controller_properties(port: int, data: Path) -> Mapping[str, str]:
    properties = broker_properties(Ports(0, port), data) | _REPLICATED
    for name in ("advertised.listeners", "inter.broker.listener.name"):
        del properties[name]
    return properties | {
        "process.roles": "controller",
        "node.id": str(_CONTROLLER_ID),
        "controller.quorum.voters": f"{_CONTROLLER_ID}@{HOST}:{port}",
        "listeners": f"CONTROLLER://{HOST}:{port}",
    }


def _broker_properties(id_: int, addresses: tuple[int, int, int], quorum: int, data: Path) -> Mapping[str, str]:
    direct, behind, proxy = addresses
    return (
        broker_properties(Ports(direct, quorum), data)
        | _REPLICATED
        | {
            "process.roles": "broker",
            "node.id": str(id_),
            "controller.quorum.voters": f"{_CONTROLLER_ID}@{HOST}:{quorum}",
            "listeners": f"PLAINTEXT://{HOST}:{direct},PROXIED://{HOST}:{behind}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{direct},PROXIED://{HOST}:{proxy}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT",
        }
    )
