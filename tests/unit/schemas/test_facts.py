"""Facts of a caller: their limits and their keys."""

from typing import Any

import pytest

from schemas.facts import MAX_FACT_BYTES, MAX_FACT_NAME_LENGTH, FactError, check_fact, fact_key, parse_fact_key


@pytest.mark.parametrize("value", ["gold", 5, 0.5, True, None, ["a"], {"a": [1]}, "x" * (MAX_FACT_BYTES - 2)])
def test_json_values_are_facts(value: Any) -> None:
    check_fact("tier", value)


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "x" * (MAX_FACT_NAME_LENGTH + 1), "\ud800"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(FactError, match="the fact's name"):
        check_fact(name, 1)


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("value", [object(), {1j: 2}, "\ud800", "x" * MAX_FACT_BYTES, deep(100_000)])
def test_values_that_are_none(value: Any) -> None:
    with pytest.raises(FactError, match="the fact 'tier'"):
        check_fact("tier", value)


def test_a_key_names_caller_and_fact() -> None:
    assert fact_key("c1", "größe") == "c1/größe".encode()
    assert parse_fact_key("c1/größe".encode()) == ("c1", "größe")


@pytest.mark.parametrize("key", [b"", b"c1", b"c1/", b"/tier", b"\xff/a"])
def test_other_keys_are_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match=f"a key of {len(key)} bytes is no fact's: expected <caller>/<fact>"):
        parse_fact_key(key)


def test_a_key_that_is_refused_is_not_quoted() -> None:
    for key in (b"+14155550199", b"/+14155550199", b"+14155550199\xff/tier"):
        with pytest.raises(ValueError, match="no fact's") as refused:
            parse_fact_key(key)
        assert "415555" not in repr(refused.value)
