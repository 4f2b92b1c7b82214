"""One instance, and one broker that it knows by an address at which nobody may answer: then its spool is all it has."""

import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from runtime.kafka import make_admin, start_within, stop_within
from runtime.settings import load_settings
from runtime.topics import apply
from service.app import TOPICS
from service.journal.layout import DATA_FILE
from tests.faults.audit import Findings, audit
from tests.faults.instance import SERVE, Instance
from tests.faults.ledger import Ledger
from tests.faults.load import Load
from tests.faults.ports import HOST, free_ports
from tests.faults.proxy import Proxy

PARTITIONS = 2


class SpoolScene:
    """At first Kafka is away. To take it away again concerns only who starts afterwards: one that is connected knows
    the broker's own address."""

    def __init__(
        self, kafka: str, directory: Path, seed: int, *, data_dir: Path | None = None, **settings: str
    ) -> None:
        self.ledger = Ledger()
        self._kafka = kafka
        self._seed = seed
        self._settings = load_settings(
            kafka_bootstrap_servers=kafka, topic_prefix=f"s{secrets.token_hex(4)}.", topic_partitions=PARTITIONS
        )
        (self._port,) = free_ports(1)
        self._proxy = ExitStack()
        self.data_dir = data_dir or directory / "one"
        servers, prefix = f"{HOST}:{self._port}", self._settings.topic_prefix
        self.one = Instance("one", directory, servers, prefix, **{"data_dir": str(self.data_dir), **settings})  # type: ignore[arg-type]

    @property
    def spool_file(self) -> Path:
        return self.data_dir / "spool" / DATA_FILE

    @property
    def set_aside(self) -> list[Path]:
        return sorted(self.data_dir.glob("spool.damaged-*"))

    async def prepare(self) -> None:
        await apply(self._settings, topics=TOPICS)

    def kafka_returns(self) -> None:
        self._proxy.enter_context(Proxy(self._port, int(self._kafka.rpartition(":")[2])))

    def kafka_goes(self) -> None:
        self._proxy.close()

    async def start(self, command: Sequence[str] = SERVE) -> None:
        """Returns when it answers."""
        self.one.start(command)
        await self.one.listens()

    def load(self, **options: float) -> Load:
        return Load(self.ledger, [self.one], self._seed, **options)  # type: ignore[arg-type]

    async def drained(self) -> Findings:
        """With Kafka, and whether or not it runs: it empties its spool and ends, and the oracle is asked."""
        if not self.one.is_running:
            self.one.start()
        await self.one.connects()
        await self.one.settled()
        await self.one.terminate()
        findings = await audit(self._kafka, self._settings.topic_prefix, self.ledger)
        findings.violations += self.one.violations
        return findings

    async def end(self) -> None:
        self.one.kill()
        self._proxy.close()
        # A broker carries the topics of all tests, but ever more slowly.
        admin = make_admin(self._settings)
        await start_within(admin)
        await admin.delete_topics([topic.named(self._settings.topic_prefix) for topic in TOPICS])
        await stop_within(admin)
