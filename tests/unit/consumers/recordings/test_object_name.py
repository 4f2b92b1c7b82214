"""Ids are input: whatever they are, the name of an object stays inside its folder and is nobody else's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.recordings.object_name import object_stem, safe_part

NEW_YEAR_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z


def test_the_documented_ids_stay_as_they_are() -> None:
    assert object_stem("agent001", "session-123", NEW_YEAR_US) == "agent001/2026/01/01/session-123"


def test_the_day_is_utc() -> None:
    assert object_stem("a", "s", NEW_YEAR_US - 1) == "a/2025/12/31/s"


def test_a_call_without_an_agent_has_a_name_too() -> None:
    assert object_stem(None, "s", NEW_YEAR_US) == "no-agent/2026/01/01/s"


def test_no_part_is_an_option_of_a_command() -> None:
    assert safe_part("-OmNNf485Na8Bw82RSfz") == "_-OmNNf485Na8Bw82RSfz"
    assert safe_part("_-OmNNf485Na8Bw82RSfz") == "__-OmNNf485Na8Bw82RSfz"


@pytest.mark.parametrize(
    "id_", ["..", ".", "../../etc/passwd", "a/b", "a\\b", ".hidden", "a..b", "a.", "a b", "a\0b", "é"]
)
def test_an_id_that_is_no_plain_name_gets_a_hash(id_: str) -> None:
    part = safe_part(id_)
    assert part[-21] == "_"
    assert set(part) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")


def test_what_looks_hashed_is_hashed() -> None:
    assert safe_part(safe_part("a/b")) != safe_part("a/b")


ids = st.one_of(
    st.text(min_size=1), st.text("aA0-_./ é", min_size=1, max_size=6), st.text("ab", min_size=110, max_size=300)
)


@given(ids)
def test_every_part_is_safe(id_: str) -> None:
    part = safe_part(id_)
    assert 0 < len(part.encode()) <= 120
    assert part.isascii()
    assert part[0] not in "-."
    assert part[-1] != "."
    assert not {"..", "/", "\\", "\0", " "} & {part[i : i + n] for n in (1, 2) for i in range(len(part))}


@given(ids, ids)
def test_distinct_ids_never_meet(one: str, other: str) -> None:
    assert (safe_part(one) == safe_part(other)) == (one == other)
    assert safe_part(safe_part(one)) != safe_part(one) or safe_part(one) == one
