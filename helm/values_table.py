"""The table of values in the chart's README, made from the comments of values.yaml.

`python helm/values_table.py` writes it. A comment that begins with `# -- ` describes the value below it. Read line by
line: a chart needs no YAML library, and values.yaml is written by us, two spaces a level.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CHART = Path(__file__).parent / "ringlog"
BEGIN, END = "<!-- values: begin -->\n", "<!-- values: end -->\n"

_DESCRIBED = re.compile(r"^ *# -- (?P<text>.*)$")
_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][A-Za-z0-9]*):(?: (?P<value>.*))?$")


class Value(NamedTuple):
    path: str
    default: str
    about: str


def values(text: str) -> Iterator[Value]:
    """Those that are described. A default that takes several lines is left to the file."""
    path: list[str] = []
    about = ""
    for line in text.splitlines():
        if described := _DESCRIBED.match(line):
            about = described["text"]
        elif key := _KEY.match(line):
            path[len(key["indent"]) // 2 :] = [key["key"]]
            if about:
                yield Value(".".join(path), key["value"] or "(see values.yaml)", about)
            about = ""


def table(text: str) -> str:
    rows = [f"| `{path}` | `{_cell(default)}` | {_cell(about)} |" for path, default, about in values(text)]
    return "\n".join(["| value | default | |", "|---|---|---|", *rows]) + "\n"


def with_table(readme: str, text: str) -> str:
    """Raises `ValueError` when the README has no place for it."""
    before, _, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"README.md has no lines {BEGIN.strip()} and {END.strip()}")
    return before + BEGIN + table(text) + END + after


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    readme = CHART / "README.md"
    readme.write_text(with_table(readme.read_text(), (CHART / "values.yaml").read_text()))


if __name__ == "__main__":
    main()
