"""The processes of a consumer that run now: the members of its group in Kafka."""

from runtime.cluster import Cluster
from runtime.settings import Settings


async def processes_of(cluster: Cluster, settings: Settings, consumer: str) -> int:
    """Raises `KafkaUnavailable`."""
    return await cluster.members(f"{settings.topic_prefix}ringlog.{consumer}")


def counted(number: int) -> str:
    return f"{number} {'process' if number == 1 else 'processes'}"
