"""The credential of a webhook."""

import pytest
from pydantic import SecretStr

from service.auth import Keys

SECRETS = [SecretStr("first-secret"), SecretStr("second:secret")]


def admits(header: str, name: str, value: str) -> bool:
    return Keys(header, SECRETS).admits([(b"host", b"x"), (name.encode(), value.encode("latin-1"))])


@pytest.mark.parametrize(
    ("value", "admitted"),
    [
        ("Bearer first-secret", True),
        ("bearer first-secret", True),
        ("BEARER  first-secret ", True),
        ("Bearer second:secret", True),
        ("Bearer first-secre", False),
        ("Bearer first-secrett", False),
        ("Bearer First-secret", False),
        ("Bearer ", False),
        ("Bearer", False),
        ("Basic first-secret", False),
        ("first-secret", False),
        ("", False),
        ("Bearer é\xff", False),
    ],
)
def test_authorization_is_a_bearer_with_one_of_the_secrets(value: str, admitted: bool) -> None:
    assert admits("authorization", "authorization", value) is admitted


@pytest.mark.parametrize("value", ["first-secret", "Bearer first-secret"])
def test_a_header_of_ones_own_needs_no_scheme(value: str) -> None:
    assert admits("X-Ringlog-Key", "x-ringlog-key", value)
    assert not admits("X-Ringlog-Key", "x-ringlog-key", value + "x")
    assert not admits("X-Ringlog-Key", "authorization", value)


def test_without_the_header_nobody_is_admitted() -> None:
    assert not Keys("authorization", SECRETS).admits([(b"host", b"x")])
    assert not Keys("authorization", []).admits([(b"authorization", b"Bearer ")])


def test_a_refusal_says_what_to_send_and_no_secret() -> None:
    standard, own = Keys("Authorization", SECRETS), Keys("X-Key", SECRETS)
    assert b"authorization: Bearer <secret>" in standard.refusal and b"RINGLOG_WEBHOOK_KEYS" in standard.refusal
    assert b"x-key: <secret>" in own.refusal
    assert (standard.challenge, own.challenge) == (((b"www-authenticate", b"Bearer"),), ())
    for secret in SECRETS:
        assert secret.get_secret_value().encode() not in standard.refusal + own.refusal
