"""Rebuilds the profiles as `ringlog state rebuild` does: decode, fold, LMDB, positions, fsync."""

import asyncio
import json
import resource
import sys
import time

import uvloop

from consumers.rebuild import Rebuild
from runtime.clock import system_clock
from runtime.settings import load_settings
from state.generations import Generations
from state.reader import ProfileReader


async def rebuild() -> tuple[float, float, int]:
    """Seconds on the clock and of the processor, from the connection on, and profiles."""
    settings = load_settings(log_level="warning")
    began, used = time.perf_counter(), time.process_time()
    generations = Generations(settings.state_dir)
    build = Rebuild(settings, generations, system_clock, may_forget=False)
    with generations.rebuilding():
        path = await build.run(asyncio.Event())
        assert path is not None
        generations.swap(path)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - used
    reader = ProfileReader(settings.state_dir)
    assert reader.available
    reader.close()
    return seconds, cpu_s, build.profiles


if __name__ == "__main__":
    seconds, cpu_s, profiles = uvloop.run(rebuild())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = {"events": int(sys.argv[1]), "seconds": seconds, "cpu_s": cpu_s, "profiles": profiles, "peak_bytes": peak}
    print(json.dumps(found))
