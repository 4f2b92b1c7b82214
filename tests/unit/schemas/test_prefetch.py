"""The prefetch query, as it is really sent."""

from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.prefetch import MAX_PARAMETERS, MAX_QUERY_BYTES, PrefetchQuery, QueryTooLarge, parse_prefetch


def test_the_documented_parameters_and_metadata() -> None:
    query = parse_prefetch(b"session_id=s1&agent_id=-OmN&from=%2B14155550199&to=%2B18005550100&tier=gold&lang=de")
    assert (query.session_id, query.agent_id, query.from_, query.to) == ("s1", "-OmN", "+14155550199", "+18005550100")
    assert query.metadata() == {"tier": "gold", "lang": "de"}


def test_an_empty_query_is_none_of_them() -> None:
    assert parse_prefetch(b"") == PrefetchQuery(None, None, None, None, {})


def test_a_plus_arrives_as_a_space_and_is_left_to_the_identity() -> None:
    assert parse_prefetch(b"from=+14155550199").from_ == " 14155550199"


@pytest.mark.parametrize("query", [b"session_id=", b"session_id", b"session_id=+", b"session_id=%20%20", b"&&=&"])
def test_blank_is_absent(query: bytes) -> None:
    assert parse_prefetch(query).session_id is None


def test_a_name_that_occurs_twice_keeps_all_its_values() -> None:
    query = parse_prefetch(b"from=%2B14155550199&from=berlin&tag=a&tag=b&tag=c")
    assert query.from_ == "+14155550199"
    assert query.parameters["from"] == ["+14155550199", "berlin"]
    assert query.metadata() == {"tag": ["a", "b", "c"]}


def test_blank_metadata_is_kept() -> None:
    assert parse_prefetch(b"note=&flag").metadata() == {"note": "", "flag": ""}


@pytest.mark.parametrize(
    ("query", "value"),
    [
        (b"name=caf%C3%A9", "café"),
        ("name=café".encode(), "café"),  # not escaped, as some clients send it
        (b"name=caf%E9", "caf\ufffd"),
        (b"name=caf\xe9", "caf\ufffd"),
        (b"name=%00%zz", "\x00%zz"),
    ],
)
def test_bytes(query: bytes, value: str) -> None:
    assert parse_prefetch(query).metadata() == {"name": value}


def test_a_query_has_limits() -> None:
    most = b"&".join(b"n%d=1" % number for number in range(MAX_PARAMETERS))
    assert len(parse_prefetch(most).parameters) == MAX_PARAMETERS
    with pytest.raises(QueryTooLarge, match=f"more than {MAX_PARAMETERS} parameters"):
        parse_prefetch(most + b"&one=more")
    assert parse_prefetch(b"a=" + b"x" * (MAX_QUERY_BYTES - 2)).metadata() == {"a": "x" * (MAX_QUERY_BYTES - 2)}
    with pytest.raises(QueryTooLarge, match=str(MAX_QUERY_BYTES)):
        parse_prefetch(b"a=" + b"x" * (MAX_QUERY_BYTES - 1))


@given(st.dictionaries(st.text(min_size=1, max_size=10), st.text(max_size=20), max_size=10))
def test_what_is_encoded_comes_back(parameters: dict[str, str]) -> None:
    assert parse_prefetch(urlencode(parameters).encode()).parameters == parameters
    by_hand = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in parameters.items())
    assert parse_prefetch(by_hand.encode()).parameters == parameters


@given(st.binary(max_size=300))
def test_no_bytes_raise(query: bytes) -> None:
    parse_prefetch(query)
