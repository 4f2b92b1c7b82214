"""docs/settings.md: the page has every setting, and no other."""

import re
from pathlib import Path

from runtime.settings import PREFIX, Settings

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"
OF_THE_MACHINE = {"RINGLOG_CACHE_DIR", "RINGLOG_JAVA"}


def test_the_page_names_every_setting_and_no_other() -> None:
    said = set(re.findall(r"`(RINGLOG_[A-Z0-9_]+)", PAGE.read_text())) - OF_THE_MACHINE
    assert said == {PREFIX + name.upper() for name in Settings.model_fields}
