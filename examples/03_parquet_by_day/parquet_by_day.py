"""Writes ended calls to Parquet files, a folder a day; the files have each event of the log once, also after a kill.

A file's name says what it holds: `day=2026-01-31/calls.ended-3-100-499.parquet` has the events of that day among the
offsets 100 to 499 of partition 3. Files are written aside and renamed, so that a reader never sees a half. And before a
batch from offset 100 on is renamed, whatever claims offset 100 or a later one is removed: the position says that it was
never acknowledged, so it is left from a try that ended in the middle.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from consumers.calls import ended_call
from consumers.contract import Record
from schemas.topics import CALLS_ENDED

# Money stays an integer of micro-credits, times are those of the event: nothing is lost by a float.
SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("received_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("session_id", pa.string(), nullable=False),
        pa.field("agent_id", pa.string()),
        pa.field("caller_id", pa.string(), nullable=False),
        pa.field("started_at", pa.timestamp("us", tz="UTC")),
        pa.field("duration_ms", pa.int64()),
        pa.field("status", pa.string()),
        pa.field("cost_micros", pa.int64()),
        pa.field("body", pa.string(), nullable=False),
    ]
)


class ParquetByDay:
    name = "parquet-by-day"
    topics = (CALLS_ENDED,)

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(os.environ.get("PARQUET_FOLDER", "calls"))

    def deliver(self, records: Sequence[Record]) -> None:
        for _, of_partition in groupby(sorted(records, key=_place), key=attrgetter("topic", "partition")):
            self._write(list(of_partition))

    def _write(self, records: Sequence[Record]) -> None:
        """The records of one partition, in their order."""
        days: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for record in records:
            row = _row(record)
            days[f"day={row['received_at']:%Y-%m-%d}"].append(row)
        first, last = records[0], records[-1]
        partition = f"{first.topic}-{first.partition}"
        for day, rows in days.items():
            (self._folder / day).mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), self._unfinished(day, partition))
        for left_behind in self._claiming(partition, first.offset):
            left_behind.unlink()
        for day in days:
            finished = f"{partition}-{first.offset}-{last.offset}.parquet"
            self._unfinished(day, partition).replace(self._folder / day / finished)

    def _unfinished(self, day: str, partition: str) -> Path:
        """One that is there is of a process that was killed, and is overwritten. Readers pass over such a name."""
        return self._folder / day / f".{partition}.unfinished"

    def _claiming(self, partition: str, offset: int) -> Iterator[Path]:
        """The partition's files that say that they hold that offset or a later one."""
        for file in self._folder.glob(f"day=*/{partition}-*-*.parquet"):
            if int(file.stem.rpartition("-")[2]) >= offset:
                yield file


def _place(record: Record) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset


def _row(record: Record) -> dict[str, Any]:
    call = ended_call(record)
    cost = call.body.cost()
    return {
        "event_id": call.event_id,
        "received_at": datetime.fromtimestamp(call.received_at / 1_000_000, UTC),
        "session_id": call.session_id,
        "agent_id": call.agent_id,
        "caller_id": call.caller.id,
        "started_at": call.body.started_at_us,
        "duration_ms": call.body.duration_ms,
        "status": call.body.status.value,
        "cost_micros": None if cost is None else cost.total_micros,
        "body": bytes(call.sent).decode(errors="replace"),
    }
