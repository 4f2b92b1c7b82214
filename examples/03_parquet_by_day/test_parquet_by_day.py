"""The example, without a broker: which events are in the files, wherever it was killed."""

from functools import partial
from pathlib import Path

import pyarrow.dataset as ds
from parquet_by_day import ParquetByDay

from consumers.testing import Trial, any_order, ended, killed_everywhere, odd_calls

DAY_S = 86_400

# Three days, in turn, so that a batch has events of several.
EVENTS = [ended(f"session-{n}", at=n % 3 * DAY_S + n) for n in range(12)]
SESSIONS = sorted(f"session-{n}" for n in range(12))


def rows(folder: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = ds.dataset(folder, format="parquet", partitioning="hive").to_table().to_pylist()
    return found


def sessions(folder: Path) -> list[str]:
    return sorted(str(row["session_id"]) for row in rows(folder))


def test_a_call_is_a_row_of_its_day() -> None:
    with Trial(ended("session-1"), ended("session-2", at=DAY_S, duration=None, cost_breakdown=None)) as trial:
        trial.run(lambda: ParquetByDay(trial.folder / "calls"))
        first, second = sorted(rows(trial.folder / "calls"), key=lambda row: str(row["session_id"]))
    assert (first["day"], first["duration_ms"], first["cost_micros"]) == ("2026-01-31", 120_500, 19_500)
    assert (second["day"], second["duration_ms"], second["cost_micros"]) == ("2026-02-01", None, None)
    assert '"find_order"' in str(first["body"])


def test_every_event_is_there_once_for_any_batches() -> None:
    for trial in any_order(*EVENTS, arriving=False):
        folder = trial.folder / "calls"
        trial.run(partial(ParquetByDay, folder))
        assert sessions(folder) == SESSIONS


def test_every_event_is_there_once_wherever_it_is_killed() -> None:
    for trial in killed_everywhere(*EVENTS, most=100):
        folder = trial.folder / "calls"
        trial.run(partial(ParquetByDay, folder))
        assert sessions(folder) == SESSIONS, trial


def test_no_odd_call_is_given_up() -> None:
    with Trial(*odd_calls()) as trial:
        trial.run(lambda: ParquetByDay(trial.folder / "calls"))
        assert trial.dead_letters == []
        assert len(rows(trial.folder / "calls")) == len(odd_calls())
