"""Rebuilds the profiles as `ringlog state rebuild` does: decode, fold, LMDB, positions, fsync."""

import asyncio
import json
import os
import sys
import time

from bench import cpu
from consumers.folding import Folding
from consumers.rebuild import Rebuild
from runtime.clock import system_clock
from runtime.logs import configure_logs
from runtime.process import run
from runtime.settings import load_settings
from state.generations import Generations
from state.reader import ProfileReader


async def rebuild(stop: asyncio.Event) -> None:
    """Prints seconds on the clock and of the processor, from the connection on; profiles; memory that is nobody
    else's."""
    settings = load_settings(log_level="warning")
    configure_logs("bench", settings.log_format, settings.log_level)
    began, used = time.perf_counter(), time.process_time()
    generations = Generations(settings.state_dir)
    peak = 0

    def look(_: Folding) -> None:
        nonlocal peak
        peak = max(peak, cpu.resident_bytes(os.getpid()))

    build = Rebuild(settings, generations, system_clock, may_forget=False, progress=look)
    with generations.rebuilding():
        path = await build.run(stop)
        assert path is not None
        generations.swap(path)
    found = {"seconds": time.perf_counter() - began, "cpu_s": time.process_time() - used}
    reader = ProfileReader(settings.state_dir)
    assert reader.available
    reader.close()
    print(json.dumps({"events": int(sys.argv[1]), **found, "profiles": build.profiles, "peak_bytes": peak}))


if __name__ == "__main__":
    run(rebuild)
