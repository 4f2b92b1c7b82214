"""Reads all of `calls.ended` with aiokafka's `getmany` and throws it away: what reading alone costs.

The client is ringlog's own, with the settings with which the builder reads.
"""

import asyncio
import json
import sys
import time

from aiokafka import TopicPartition

from consumers.follower import BATCH_RECORDS, METADATA_AGE_MS
from runtime.kafka import make_consumer, start_within, stop_within
from runtime.process import run
from runtime.settings import load_settings
from schemas.topics import CALLS_ENDED


async def discard(_stop: asyncio.Event) -> None:
    """Prints seconds on the clock and of the processor, from the connection on."""
    events = int(sys.argv[1])
    settings = load_settings()
    began, used = time.perf_counter(), time.process_time()
    consumer = make_consumer(settings, metadata_max_age_ms=METADATA_AGE_MS)
    await start_within(consumer)
    topic = CALLS_ENDED.named(settings.topic_prefix)
    partitions = [TopicPartition(topic, number) for number in range(settings.topic_partitions or 1)]
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    read = 0
    while read < events:
        found = await consumer.getmany(timeout_ms=250, max_records=BATCH_RECORDS)
        read += sum(map(len, found.values()))
    found = {"seconds": time.perf_counter() - began, "cpu_s": time.process_time() - used}
    await stop_within(consumer)
    print(json.dumps({"events": events, **found}))


if __name__ == "__main__":
    run(discard)
