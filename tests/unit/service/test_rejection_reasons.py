"""The words by which rejected webhooks are counted are all known, so that each is counted from zero."""

import re
from pathlib import Path

import pytest

from service.quarantine import REASONS

SERVICE = Path(__file__).parents[3] / "service"
SAID = re.compile(r'(?:WEBHOOK, |Unacceptable\()"([a-z][a-z0-9-]+)"')


@pytest.mark.parametrize(
    ("webhook", "files"), [("prefetch", ["prefetch.py"]), ("end-of-call", ["end_of_call.py", "ended_call.py"])]
)
def test_every_reason_is_listed(webhook: str, files: list[str]) -> None:
    said = {word for name in files for word in SAID.findall((SERVICE / name).read_text())}
    assert said == set(REASONS[webhook])
