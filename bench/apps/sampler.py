"""Where a server's processor time goes: its stack, looked at each time it has used some more."""

import signal
from collections import Counter
from types import CodeType, FrameType
from typing import Any

# Of processor time, not of the clock: a server that waits is not sampled. Linux looks no more often than its own tick.
INTERVAL_S = 0.004

_MAX_DEPTH = 40


class Sampler:
    """In the process and the thread that is looked at, by a signal; what runs in C counts for what comes next."""

    def __init__(self) -> None:
        self._stacks: Counter[tuple[CodeType, ...]] = Counter()

    def start(self) -> None:
        self._stacks.clear()
        signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)

    def stop(self) -> list[dict[str, Any]]:
        """How often each stack was seen; a frame is `module:function`, the innermost comes first."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        return [
            {"samples": count, "stack": [f"{_module_of(code)}:{code.co_name}" for code in stack]}
            for stack, count in self._stacks.most_common()
        ]

    def _look(self, _signal: int, frame: FrameType | None) -> None:
        stack: list[CodeType] = []
        while frame is not None and len(stack) < _MAX_DEPTH:
            stack.append(frame.f_code)
            frame = frame.f_back
        self._stacks[tuple(stack)] += 1


def _module_of(code: CodeType) -> str:
    """As a person would call it: the file's path from the last folder of packages on."""
    path = code.co_filename.rpartition("site-packages/")[2]
    return "/".join(path.rsplit("/", 3)[-3:]).removesuffix(".py")
