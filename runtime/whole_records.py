"""Records as consumers get them, made by aiokafka's own reading of a batch.

aiokafka makes an object of eleven members of each record that it has read, of which we would make one of seven.
"""

from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import FetchResult

from runtime.kafka import record_at


def read_whole(consumer: AIOKafkaConsumer) -> None:
    """From now on `getmany` gives `Record`s. Once, when the consumer has started, and before it has partitions."""
    fetcher = consumer._fetcher
    fetch = fetcher._proc_fetch_request

    async def fetch_whole(assignment: Any, node_id: int, request: Any) -> bool:
        fetched: bool = await fetch(assignment, node_id, request)
        for result in fetcher._records.values():
            if type(result) is FetchResult and result._partition_records is not None:
                result._partition_records._consumer_record = record_at
        return fetched

    fetcher._proc_fetch_request = fetch_whole
