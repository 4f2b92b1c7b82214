"""What a fault test needs besides its fault: instances, a load, proxies, and the oracle's word at the end."""

import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from runtime.settings import load_settings
from runtime.topics import apply
from service.app import TOPICS
from tests.faults.audit import Findings, audit
from tests.faults.cluster import Cluster
from tests.faults.instance import SERVE, Instance
from tests.faults.ledger import Ledger
from tests.faults.load import Load
from tests.faults.provider import ENDED
from tests.faults.proxy import Proxy

# As many as brokers: each leads one partition of each topic.
PARTITIONS = 3


class Scene:
    """`ledger` has all that was sent; `prefix` keeps the topics of one test from another's."""

    def __init__(self, cluster: Cluster, directory: Path, seed: int, stack: ExitStack) -> None:
        self.cluster = cluster
        self.ledger = Ledger()
        self.prefix = f"f{secrets.token_hex(4)}."
        self.seed = seed
        self.proxies: dict[int, Proxy] = {}
        self._directory = directory
        self._stack = stack
        self._instances: list[Instance] = []

    @property
    def ended_topic(self) -> str:
        return self.prefix + ENDED

    async def prepare(self) -> None:
        """The topics, and all of their replicas in sync."""
        settings = load_settings(
            kafka_bootstrap_servers=self.cluster.bootstrap_servers,
            topic_prefix=self.prefix,
            topic_partitions=PARTITIONS,
        )
        await apply(settings, topics=TOPICS)
        await self.cluster.wait_in_sync()

    def instance(
        self, name: str = "one", *, proxied: bool = False, command: Sequence[str] = SERVE, **settings: str
    ) -> Instance:
        """Not started yet. `proxied`: it knows the brokers by our proxies only."""
        if proxied and not self.proxies:
            self.proxies = {
                id_: self._stack.enter_context(Proxy(self.cluster.proxy_ports[id_], self.cluster.behind_proxies[id_]))
                for id_ in self.cluster.ids
            }
        servers = self.cluster.proxied_servers if proxied else self.cluster.bootstrap_servers
        instance = Instance(name, self._directory, servers, self.prefix, command=command, environment=None, **settings)
        self._instances.append(instance)
        return instance

    def network(self, **what: Any) -> None:
        """Sets an attribute of every proxy, such as `half_open=True`."""
        for proxy in self.proxies.values():
            for name, value in what.items():
                setattr(proxy, name, value)

    def reset_network(self) -> None:
        """Cuts every connection; what a proxy held back is lost."""
        for proxy in self.proxies.values():
            proxy.reset()

    def restore_network(self) -> None:
        for proxy in self.proxies.values():
            proxy.restore()

    def load(self, *instances: Instance, **options: Any) -> Load:
        return Load(self.ledger, instances, self.seed, **options)

    async def audited(self) -> Findings:
        """Heals everything, lets every instance finish, ends it, and asks the oracle. The test asserts what it says."""
        self.restore_network()
        await self.cluster.heal()
        for instance in self._instances:
            instance.watch()
            if instance.is_running:
                await instance.settled()
                await instance.terminate()
        findings = await audit(self.cluster.bootstrap_servers, self.prefix, self.ledger)
        findings.violations += [violation for instance in self._instances for violation in instance.violations]
        return findings

    def end(self) -> None:
        for instance in self._instances:
            instance.resume()
            instance.kill()
