"""What `ringlog up` decides, and how the commands in another terminal come to know it."""

import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cli.context import load
from cli.secrets import Secrets, make_secrets
from cli.stack import CONSUMERS, Stack
from runtime.settings import SettingsError, load_settings

SECRETS = Secrets(identity_key="i" * 32, webhook_key="made-webhook-key", ops_key="made-ops-key")


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Stack]:
    def make(**variables: str) -> Stack:
        for name, value in {"DATA_DIR": str(tmp_path), **variables}.items():
            monkeypatch.setenv(f"RINGLOG_{name}", value)
        return Stack(load_settings(), SECRETS, "127.0.0.1:19092", kafka_is_ours=True)

    return make


def ports_of(stack: Stack) -> list[int]:
    """The public port, then each program's own."""
    programs = {program.name: int(program.environment["RINGLOG_OPS_PORT"]) for program in stack.programs()}
    return [int(stack.running({}).settings["RINGLOG_PORT"]), programs["service"], *(programs[c] for c in CONSUMERS)]


@pytest.mark.parametrize(
    ("port", "ops_port"), [("0", "0"), ("0", "65535"), ("65535", "0"), ("65535", "65530"), ("9091", "9090")]
)
def test_every_listener_has_a_port_of_its_own_and_up_json_says_the_real_ones(
    stack: Callable[..., Stack], port: str, ops_port: str
) -> None:
    made = stack(PORT=port, OPS_PORT=ops_port)
    ports = ports_of(made)
    assert all(0 < port <= 65535 for port in ports)
    assert len(set(ports)) == len(ports)
    for said, given in zip(ports, (port, ops_port), strict=False):
        assert given in ("0", str(said))
    running = made.running({})
    assert [urlsplit(url).port for url in (running.webhooks_url, running.ops_url)] == ports[:2]


def test_a_port_that_is_taken_is_passed_over(stack: Callable[..., Stack]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        assert taken not in ports_of(stack(PORT="0", OPS_PORT=str(taken - 1)))[2:]


@pytest.mark.parametrize(
    ("host", "reached_at"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.2", "127.0.0.2"),
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104 - the setting, as people write it
        ("localhost", "localhost"),
    ],
)
def test_programs_are_asked_where_they_listen(stack: Callable[..., Stack], host: str, reached_at: str) -> None:
    running = stack(HOST=host).running({})
    assert {urlsplit(url).hostname for url in (running.webhooks_url, running.ops_url)} == {reached_at}
    assert running.settings["RINGLOG_HOST"] == host


def test_without_a_host_it_is_the_loopback_interface(stack: Callable[..., Stack]) -> None:
    assert stack().running({}).settings["RINGLOG_HOST"] == "127.0.0.1"


def test_a_host_that_is_not_here_is_a_wrong_setting(stack: Callable[..., Stack]) -> None:
    with pytest.raises(SettingsError, match=r"RINGLOG_HOST is wrong: '192\.0\.2\.1' is no address of this machine"):
        stack(HOST="192.0.2.1")


def test_an_empty_variable_does_not_take_away_what_was_made(stack: Callable[..., Stack]) -> None:
    made = stack(WEBHOOK_KEYS="", OPS_KEY="", IDENTITY_KEY="", HOST="", PORT="")
    for program in made.programs():
        assert program.environment["RINGLOG_WEBHOOK_KEYS"] == "up:made-webhook-key"
        assert program.environment["RINGLOG_OPS_KEY"] == "made-ops-key"
        assert program.environment["RINGLOG_IDENTITY_KEY"] == "i" * 32
        assert program.environment["RINGLOG_HOST"] == "127.0.0.1"


def test_the_header_of_the_credential_is_known_to_who_delivers(stack: Callable[..., Stack]) -> None:
    running = stack(WEBHOOK_HEADER="x-key", WEBHOOK_KEYS="a:hush,b:other").running({})
    assert (running.webhook_header, running.webhook_key) == ("x-key", "hush")


GIVEN = {
    "IDENTITY_KEY": "given-identity-key",
    "OPS_KEY": "given-ops-key",
    "WEBHOOK_KEYS": "a:given-webhook-key,b:another",
    "TOPIC_PREFIX": "mine.",
    "DEFAULT_REGION": "DE",
    "OWN_NUMBERS": "+15550001, +15550002",
    "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "KAFKA_SASL_USERNAME": "user",
    "KAFKA_SASL_PASSWORD": "hush",
    "KAFKA_SSL_CAFILE": "ca.pem",
    "ALLOW_FORGETFUL_TOPICS": "true",
}


def test_another_terminal_goes_by_the_settings_that_up_was_given(
    stack: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_secrets(tmp_path)  # other ones
    stack(**GIVEN).running({}).write(tmp_path)
    expected = load_settings()
    for name in GIVEN:
        monkeypatch.delenv(f"RINGLOG_{name}")
    loaded = load()
    for name in GIVEN:
        if name != "KAFKA_SSL_CAFILE":
            assert getattr(loaded, name.lower()) == getattr(expected, name.lower()), name
    assert loaded.kafka_ssl_cafile == Path.cwd() / "ca.pem"
    assert loaded.identity().id_of_number("+15551234567") == expected.identity().id_of_number("+15551234567")
    assert loaded.kafka_bootstrap_servers == "127.0.0.1:19092"


def test_what_a_terminal_says_itself_goes_before(
    stack: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stack(TOPIC_PREFIX="mine.").running({}).write(tmp_path)
    monkeypatch.setenv("RINGLOG_TOPIC_PREFIX", "other.")
    assert load().topic_prefix == "other."


def test_without_a_running_ringlog_the_secrets_that_it_made_must_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RINGLOG_DATA_DIR", str(tmp_path))
    made = make_secrets(tmp_path)
    loaded = load()
    assert loaded.identity_key is not None
    assert loaded.identity_key.get_secret_value() == made.identity_key
