"""docs/compose.md names each variable that compose.yaml takes from `.env`, and no other one."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_page_names_what_the_file_takes() -> None:
    said = (ROOT / "compose.yaml").read_text()
    taken = set(re.findall(r"\$\{(\w+)", said)) | set(re.findall(r"^  (AWS_\w+):$", said, re.MULTILINE))
    rows = re.findall(r"^\| (`[A-Z].*?) \|", (ROOT / "docs" / "compose.md").read_text(), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == taken
