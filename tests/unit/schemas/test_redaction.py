"""No secret of `agent_config` stays, and nothing else goes."""

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.lenient import UNREADABLE
from schemas.redaction import REDACTED, is_secret_name, redact_agent_config, redact_url

SECRET = "hunter2-hunter2"


def redacted(config: Any) -> Any:
    return json.loads(bytes(redact_agent_config(msgspec.Raw(json.dumps(config).encode()))))


@pytest.mark.parametrize("name", ["header", "headers", "credentials", "Headers", "CREDENTIALS"])
def test_everything_below_a_credentials_name_goes(name: str) -> None:
    below = {"X-Anything": SECRET, "deep": [{"er": SECRET}, SECRET], "n": 5, "b": True, "none": None}
    assert redacted({"tools": [{name: below}]}) == {
        "tools": [
            {
                name: {
                    "X-Anything": REDACTED,
                    "deep": [{"er": REDACTED}, REDACTED],
                    "n": 5,
                    "b": True,
                    "none": None,
                }
            }
        ]
    }
    assert redacted({name: SECRET}) == {name: REDACTED}


SECRET_NAMES = (
    "secret client_secret clientSecret SECRET secrets token access_token accessToken refresh-token x-auth-token"
    " password db_password Password authorization Authorization proxy-authorization apiKey api_key API-KEY apikey"
    " x-api-key openAiApiKey OPENAI_API_KEY api.key api_keys apiKeys apikeys API_KEYS credential awsCredential passwd"
    " db_credentials userPasswd pwd db_pwd"
).split()

HARMLESS_NAMES = (
    "max_tokens maxTokens tokens prompt_tokens tokenizer secretary key keys keyboard api apis monkey public_key"
    " authorize passwordless passwds credentialed cwd apikeyring voice language prompt keyApi api_public_key"
).split()


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_names_that_say_secret(name: str) -> None:
    assert is_secret_name(name)
    assert redacted({"a": {name: SECRET}}) == {"a": {name: REDACTED}}
    assert redacted({name: {"of": [SECRET]}}) == {name: {"of": [REDACTED]}}


@pytest.mark.parametrize("name", HARMLESS_NAMES)
def test_names_that_do_not(name: str) -> None:
    assert not is_secret_name(name)
    assert redacted({name: "stays"}) == {name: "stays"}


def test_max_tokens_stays_a_number() -> None:
    assert redacted({"llm": {"max_tokens": 300, "token": 5}}) == {"llm": {"max_tokens": 300, "token": 5}}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://x.io/hook?token=abc&a=1", f"https://x.io/hook?token={REDACTED}&a=1"),
        ("https://x.io/hook?a=1&api_key=abc#top", f"https://x.io/hook?a=1&api_key={REDACTED}#top"),
        (
            "https://x.io/?api_keys=a&apiKeys=b&pwd=c",
            f"https://x.io/?api_keys={REDACTED}&apiKeys={REDACTED}&pwd={REDACTED}",
        ),
        ("https://x.io/?a??token=abc", f"https://x.io/?a??token={REDACTED}"),
        ("https://x.io/?sig=abc;key=d", f"https://x.io/?sig={REDACTED};key={REDACTED}"),
        ("https://user:pw@x.io/a", f"https://{REDACTED}@x.io/a"),
        ("postgresql://h/d?user=u&password=hunter2", f"postgresql://h/d?user=u&password={REDACTED}"),
        ("wss://t0ken@x.io", f"wss://{REDACTED}@x.io"),
        ("/hook?token=abc", f"/hook?token={REDACTED}"),
        ("see https://x.io?jwt=a.b.c now", f"see https://x.io?jwt={REDACTED} now"),
        ("https://x.io/a?max_tokens=5&id=7", "https://x.io/a?max_tokens=5&id=7"),
        ("https://x.io/token/abc", "https://x.io/token/abc"),
        ("Is it you? Say the password.", "Is it you? Say the password."),
    ],
)
def test_secrets_in_urls(url: str, expected: str) -> None:
    assert redact_url(url) == expected
    assert redacted({"tools": [{"webhook": url}]}) == {"tools": [{"webhook": expected}]}


def test_the_configuration_that_the_provider_sends() -> None:
    config = {
        "prompt": "You are a helper. token",
        "tools": [{"name": "t", "webhook": "https://x.io/a", "header": {"X-Key": SECRET}, "timeout": 5}],
        "app_functions": [{"name": "cal", "credentials": {"user": SECRET}}],
        "session_data_webhook": {"url": f"https://x.io/end?secret={SECRET}", "headers": {"authorization": SECRET}},
        "session_timeout": {"max_duration": 600},
        "llm": {"model": "m", "api_key": SECRET, "max_tokens": 256},
    }
    result = redacted(config)
    assert SECRET not in json.dumps(result)
    assert result["prompt"] == config["prompt"]
    assert result["tools"][0]["header"] == {"X-Key": REDACTED}
    assert result["tools"][0]["timeout"] == 5
    assert result["session_timeout"] == config["session_timeout"]
    assert result["llm"] == {"model": "m", "api_key": REDACTED, "max_tokens": 256}


@pytest.mark.parametrize(
    "literal", ["0.10", "1.0", "5", "-0.0", "1e400", "123456789012345678901234567890", "0.1234567890123456789012345"]
)
def test_numbers_keep_their_value_and_their_zeros(literal: str) -> None:
    raw = redact_agent_config(msgspec.Raw(f'{{"temperature":{literal}}}'.encode()))
    kept = bytes(raw).decode().removeprefix('{"temperature":').removesuffix("}")
    assert kept.upper().replace("E+", "E") == literal.upper()


@pytest.mark.parametrize("unit", ["?", "&", "?a", "&a=", "://", "://a", "://a@", "/?", "aA", "A1"])
def test_a_megabyte_of_anything_is_searched_in_moments(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    started = time.process_time()
    redact_url("https://x.io/?" + text)
    is_secret_name(text)
    assert time.process_time() - started < 4  # a tenth of it; where a pattern goes back at each step, hours


@pytest.mark.parametrize("raw", [b'{"a":', b'"\xff"', b"[" * 100_000 + b"]" * 100_000])
def test_what_can_not_be_read_can_not_be_redacted(raw: bytes) -> None:
    with pytest.raises(UNREADABLE):
        redact_agent_config(msgspec.Raw(raw))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.just(SECRET),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "headers", "password"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(values)
def test_redacting_twice_is_redacting_once(value: object) -> None:
    once = redacted({"value": value})
    assert redacted(once) == once


@given(values)
def test_no_secret_survives_below_a_secret_name(value: object) -> None:
    assert SECRET not in json.dumps(redacted({"credentials": value}))
