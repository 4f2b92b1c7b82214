"""Rebuilds the profiles as `ringlog state rebuild` does: decode, fold, LMDB, positions, fsync."""

import asyncio
import json
import os
import sys
import time
from itertools import pairwise
from typing import Any

from bench import cpu
from consumers.folding import Folding
from consumers.rebuild import Rebuild
from runtime.clock import system_clock
from runtime.logs import configure_logs
from runtime.process import run
from runtime.settings import load_settings
from state.generations import Generations
from state.reader import ProfileReader

QUARTERS = 4


async def rebuild(stop: asyncio.Event) -> None:
    """Prints seconds on the clock and of the processor, from the connection on; the latter also by quarters of the
    events; profiles; memory that is nobody else's."""
    events = int(sys.argv[1])
    settings = load_settings(log_level="warning")
    configure_logs("bench", settings.log_format, settings.log_level)
    began, used = time.perf_counter(), time.process_time()
    generations = Generations(settings.state_dir)
    peak, passed = 0, [(0, used)]

    def look(folding: Folding) -> None:
        nonlocal peak
        peak = max(peak, cpu.resident_bytes(os.getpid()))
        if folding.folded >= len(passed) * events // QUARTERS:
            passed.append((folding.folded, time.process_time()))

    build = Rebuild(settings, generations, system_clock, may_forget=False, progress=look)
    with generations.rebuilding():
        path = await build.run(stop)
        assert path is not None
        generations.swap(path)
    found: dict[str, Any] = {"seconds": time.perf_counter() - began, "cpu_s": time.process_time() - used}
    reader = ProfileReader(settings.state_dir)
    assert reader.available
    reader.close()
    steps = [(later[0] - before[0], later[1] - before[1]) for before, later in pairwise(passed)]
    found["us_by_quarter"] = [cpu_s / folded * 1e6 for folded, cpu_s in steps if folded]
    print(json.dumps({"events": events, **found, "profiles": build.profiles, "peak_bytes": peak}))


if __name__ == "__main__":
    run(rebuild)
