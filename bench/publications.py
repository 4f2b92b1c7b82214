"""What a publication itself costs, without HTTP: the journal against `send_and_wait`. `python -m bench.publications`.

In one process on a core of its own, with the broker on the other: so many tasks publish one event after the other.
`loop` is what the tasks cost that publish nothing.
"""

import asyncio
import gc
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from bench import cpu
from runtime import topics
from runtime.kafka import make_producer, start_within, stop_within
from runtime.local_kafka import LocalKafka
from runtime.process import GC_THRESHOLD
from runtime.settings import Settings, load_settings
from schemas.event import ENDED, headers_of
from schemas.topics import CALLS_ENDED, PARTITIONS_LOCALLY
from service.journal import Entry, Journal
from service.journal.backlog import hash_of, partition_of

TASKS = (32, 64, 128, 512)
EVENTS = 40_000  # of one measurement
CALLERS_A_TASK = 100
VALUE = os.urandom(1700).hex().encode()  # as long as a usual end of call

Publish = Callable[[Entry], Awaitable[object]]


async def _nowhere(_: Entry) -> None:
    await asyncio.sleep(0)


async def _task(publish: Publish, number: int, events: int) -> None:
    for turn in range(events):
        key = b"caller-%06d-%08d" % (number, turn % CALLERS_A_TASK)
        headers = headers_of(ENDED, "x" * 32, time.time_ns() // 1000, "s" * 20)
        await publish(Entry(CALLS_ENDED, key, key, VALUE, headers))


async def _us_an_event(publish: Publish, tasks: int) -> float:
    """Processor time of this process."""
    before = time.process_time()
    await asyncio.gather(*(_task(publish, number, EVENTS // tasks) for number in range(tasks)))
    return (time.process_time() - before) / (EVENTS // tasks * tasks) * 1e6


async def _measured(settings: Settings, rounds: int) -> dict[int, dict[str, list[float]]]:
    journal, stop = Journal(settings, (CALLS_ENDED,)), asyncio.Event()
    running = asyncio.create_task(journal.run(stop))
    producer = make_producer(settings)
    await start_within(producer)
    topic = CALLS_ENDED.named(settings.topic_prefix)
    partitions = len(await producer.partitions_for(topic))
    while not journal.is_connected:  # noqa: ASYNC110 - a journal tells nobody
        await asyncio.sleep(0.05)

    async def single(entry: Entry) -> None:
        partition = partition_of(hash_of(entry.partition_by), partitions)
        await producer.send_and_wait(topic, entry.value, entry.key, partition, headers=entry.headers)

    ways: dict[str, Publish] = {"loop": _nowhere, "journal": journal.publish, "send_and_wait": single}
    found: dict[int, dict[str, list[float]]] = {tasks: {way: [] for way in ways} for tasks in TASKS}
    for tasks in TASKS:
        for _ in range(rounds):
            for way, publish in ways.items():
                found[tasks][way].append(await _us_an_event(publish, tasks))
    stop.set()
    await running
    await stop_within(producer)
    return found


def main(rounds: Annotated[int, typer.Option(help="How often each is measured.")] = 6) -> None:
    """Measure what a publication costs by the journal, and by `send_and_wait`."""
    load_core, server_core = cpu.cores()
    with tempfile.TemporaryDirectory(prefix="ringlog-bench-") as name, ExitStack() as stack:
        with cpu.on_core(load_core):
            kafka = stack.enter_context(LocalKafka(Path(name) / "kafka"))
        settings = load_settings(
            kafka_bootstrap_servers=kafka.bootstrap_servers,
            topic_partitions=PARTITIONS_LOCALLY,
            data_dir=Path(name) / "data",
        )
        asyncio.run(topics.apply(settings))
        gc.freeze()  # as `runtime.process` does
        gc.set_threshold(GC_THRESHOLD)
        with cpu.on_core(server_core), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(_measured(settings, rounds))
    table = Table("tasks", *next(iter(found.values())), title="CPU us an event")
    for tasks, ways in found.items():
        table.add_row(str(tasks), *(f"{median(us):.1f} ({min(us):.1f}-{max(us):.1f})" for us in ways.values()))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
