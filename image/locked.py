"""Prints a part of requirements.lock: some packages and all that they need, word by word, hashes included.

`python image/locked.py` prints what ringlog itself needs to run, without its extras: what goes into the image.
`python image/locked.py hatchling` prints what the build of the package needs. It reads the lines `# via` by which the
lock says who needs what. Should one be missing pip refuses the part, because with hashes everything must be named.
"""

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

LOCK = "requirements.lock"
PROJECT = "pyproject.toml"

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)
_VIA = re.compile(r"^    #   (?:via )?([A-Za-z0-9._-]+)$|^    # via ([A-Za-z0-9._-]+)$", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def entries(lock: str) -> dict[str, str]:
    """Package -> its lines in the lock."""
    starts = [*_PIN.finditer(lock)]
    ends = [*(start.start() for start in starts[1:]), len(lock)]
    return {normalized(start[1]): lock[start.start() : end] for start, end in zip(starts, ends, strict=True)}


def part(lock: str, roots: Sequence[str]) -> Iterator[str]:
    """The entries of `roots` and of what they need, in the order of the lock. Raises `KeyError` for what it has not."""
    of = entries(lock)
    needed_by = {name: {normalized(one or other) for one, other in _VIA.findall(entry)} for name, entry in of.items()}
    wanted = {normalized(root) for root in roots}
    if missing := sorted(wanted - of.keys()):
        raise KeyError(f"{LOCK} has no {', '.join(missing)}; run `make lock`")
    while more := {name for name, by in needed_by.items() if name not in wanted and by & wanted}:
        wanted |= more
    return (entry for name, entry in of.items() if name in wanted)


def dependencies(project: Mapping[str, Mapping[str, list[str]]]) -> list[str]:
    """The names of what the project needs without its extras."""
    return [found[0] for line in project["project"]["dependencies"] if (found := _NAME.match(line))]


def main() -> None:
    here = Path.cwd()
    roots = sys.argv[1:] or dependencies(tomllib.loads((here / PROJECT).read_text()))
    sys.stdout.writelines(part((here / LOCK).read_text(), roots))


if __name__ == "__main__":
    main()
