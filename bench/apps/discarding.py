"""Reads all of `calls.ended` with aiokafka's `getmany` and throws it away: what reading alone costs.

The client is ringlog's own, with the settings with which the builder reads.
"""

import json
import sys
import time

import uvloop
from aiokafka import TopicPartition

from consumers.follower import BATCH_RECORDS, METADATA_AGE_MS
from runtime.kafka import make_consumer, start_within, stop_within
from runtime.settings import load_settings
from schemas.topics import CALLS_ENDED


async def discard(events: int) -> tuple[float, float]:
    """Seconds on the clock and of the processor, from the connection on."""
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
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - used
    await stop_within(consumer)
    return seconds, cpu_s


if __name__ == "__main__":
    count = int(sys.argv[1])
    seconds, cpu_s = uvloop.run(discard(count))
    print(json.dumps({"events": count, "seconds": seconds, "cpu_s": cpu_s}))
