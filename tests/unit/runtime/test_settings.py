"""The settings: what is wrong is said in one sentence, which names the variable and never a secret."""

import ssl
from pathlib import Path

import pytest

from runtime.kafka import connection
from runtime.settings import SettingsError, load_settings, unknown_variables


def refusal(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "web"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("OPS_PORT", "9090.5"),
        ("WEBHOOK_HEADER", "my header"),
        ("WEBHOOK_HEADER", "clé"),
        ("MAX_BODY_BYTES", "10"),
        ("MAX_BODY_BYTES", "99999999999"),
        ("DEFAULT_REGION", "Germany"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:port"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092,other:99999"),
        ("KAFKA_SECURITY_PROTOCOL", "TLS"),
        ("KAFKA_SASL_MECHANISM", "GSSAPI"),
        ("TOPIC_PREFIX", "a b"),
        ("TOPIC_PARTITIONS", "0"),
        ("TOPIC_REPLICATION", "11"),
        ("RECORDING_PRIVATE_HOSTS", "127.0.0.1"),
        ("RECORDING_WORKERS", "none"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
        ("ALLOW_FORGETFUL_TOPICS", "perhaps"),
    ],
)
def test_a_wrong_value_is_one_sentence_with_the_variable_and_what_it_says(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    said = refusal(monkeypatch, **{f"RINGLOG_{name}": value})
    assert said.startswith(f"RINGLOG_{name} is wrong: ")
    assert said.endswith(".")
    assert "\n" not in said
    assert repr(value) in said


@pytest.mark.parametrize("value", ["hush", "a:hush,hush", ":hush", "a:", "a:hush,a:hush2"])
def test_keys_that_are_wrong_are_not_repeated(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    said = refusal(monkeypatch, RINGLOG_WEBHOOK_KEYS=value)
    assert said.startswith("RINGLOG_WEBHOOK_KEYS is wrong: ")
    assert "hush" not in said


def test_keys_are_ids_with_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGLOG_WEBHOOK_KEYS", " a:one , b:two:three,")
    keys = load_settings().webhook_keys
    assert {name: secret.get_secret_value() for name, secret in keys.items()} == {"a": "one", "b": "two:three"}


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGLOG_OWN_NUMBERS", "+15551234567, +15557654321,")
    monkeypatch.setenv("RINGLOG_KAFKA_BOOTSTRAP_SERVERS", "a:1, b:2 ,[::1]:3")
    settings = load_settings()
    assert settings.own_numbers == ["+15551234567", "+15557654321"]
    assert settings.bootstrap_servers == "a:1,b:2,[::1]:3"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("+1*", "'+1*' may be every number of a country; write at least 4 digits before the *"),
        ("+15551234567,agents", "'agents' is no number; write +15551234567, or +1555000* for all that begin so"),
    ],
)
def test_a_wrong_own_number_is_one_sentence(monkeypatch: pytest.MonkeyPatch, said: str, reason: str) -> None:
    assert refusal(monkeypatch, RINGLOG_OWN_NUMBERS=said) == (
        f"RINGLOG_OWN_NUMBERS is wrong: {reason} (it says {said!r})."
    )


def test_own_numbers_may_be_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGLOG_OWN_NUMBERS", "+1555000*")
    identity = load_settings(identity_key="a" * 16).identity()
    assert identity.identify("s", "+15550001234", "+14155550199", dict)[0].number == "+14155550199"


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PORT", "PROMPTS_DIR", "KAFKA_BOOTSTRAP_SERVERS", "OPS_KEY", "WEBHOOK_KEYS"):
        monkeypatch.setenv(f"RINGLOG_{name}", "")
    settings = load_settings()
    assert (settings.port, settings.prompts_dir, settings.ops_key, settings.webhook_keys) == (8080, None, None, {})


def test_no_secret_is_shown_by_what_prints_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("WEBHOOK_KEYS", "a:hush"),
        ("OPS_KEY", "hush"),
        ("IDENTITY_KEY", "hush"),
        ("KAFKA_SASL_PASSWORD", "hush"),
        ("KAFKA_SSL_PASSWORD", "hush"),
        ("KAFKA_SASL_OAUTH_CLIENT_SECRET", "hush"),
    ):
        monkeypatch.setenv(f"RINGLOG_{name}", value)
    assert "hush" not in repr(load_settings()) + str(load_settings())


def test_sasl_needs_a_user_and_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(monkeypatch, RINGLOG_KAFKA_SECURITY_PROTOCOL="SASL_SSL", RINGLOG_KAFKA_SASL_USERNAME="me")
    assert said == (
        "RINGLOG_KAFKA_SASL_USERNAME and RINGLOG_KAFKA_SASL_PASSWORD are needed"
        " with RINGLOG_KAFKA_SECURITY_PROTOCOL=SASL_SSL and RINGLOG_KAFKA_SASL_MECHANISM=PLAIN."
    )


def test_oauth_needs_a_server_and_credentials_and_no_user(monkeypatch: pytest.MonkeyPatch) -> None:
    oauth = {
        "RINGLOG_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "RINGLOG_KAFKA_SASL_MECHANISM": "OAUTHBEARER",
        "RINGLOG_KAFKA_SASL_OAUTH_TOKEN_URL": "https://id.example.com/token",
        "RINGLOG_KAFKA_SASL_OAUTH_CLIENT_ID": "ringlog",
    }
    said = refusal(monkeypatch, **oauth)
    assert "RINGLOG_KAFKA_SASL_OAUTH_CLIENT_SECRET" in said and "_USERNAME" not in said
    monkeypatch.setenv("RINGLOG_KAFKA_SASL_OAUTH_CLIENT_SECRET", "hush")
    assert load_settings().kafka_sasl_oauth_client_id == "ringlog"


@pytest.mark.parametrize(("key", "what"), [(None, "not set"), ("", "not set"), ("hush", "too short")])
def test_the_identity_key_must_be_long(key: str | None, what: str) -> None:
    with pytest.raises(SettingsError, match=f"^RINGLOG_IDENTITY_KEY is {what}: .*openssl") as refused:
        load_settings(identity_key=key).identity()
    assert "hush" not in str(refused.value)


def test_the_same_key_names_the_same_caller() -> None:
    one, same, other = (load_settings(identity_key=key * 16).identity() for key in ("a", "a", "b"))
    assert one.id_of_number("+15551234567") == same.id_of_number("+15551234567") != other.id_of_number("+15551234567")


def test_no_kafka_is_said_with_what_to_do() -> None:
    with pytest.raises(SettingsError, match=r"^RINGLOG_KAFKA_BOOTSTRAP_SERVERS is not set: .*ringlog up"):
        _ = load_settings().bootstrap_servers


def test_a_certificate_that_can_t_be_read_is_a_wrong_setting(tmp_path: Path) -> None:
    no_certificate = tmp_path / "ca.pem"
    no_certificate.write_text("this is none")
    for path in (tmp_path / "missing.pem", no_certificate):
        settings = load_settings(kafka_bootstrap_servers="a:1", kafka_security_protocol="SSL", kafka_ssl_cafile=path)
        with pytest.raises(SettingsError, match=r"^RINGLOG_KAFKA_SSL_CAFILE.* is wrong: "):
            connection(settings)


def test_a_broker_s_certificate_is_verified_and_need_not_be_stricter_than_private_authorities_are() -> None:
    context = connection(load_settings(kafka_bootstrap_servers="a:1", kafka_security_protocol="SSL"))["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgres://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("postgresql://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("sqlite:////x/y.db", "sqlite:////x/y.db"),
    ],
)
def test_a_database_url_gets_the_driver_that_we_ship(url: str, driver: str) -> None:
    assert load_settings(database_url=url).database == driver


def test_variables_that_nobody_reads_are_named_with_what_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RECORDING_HOST", "WEBHOOKKEYS", "SOMETHING_ELSE", "CACHE_DIR", "JAVA", "TEST_ANY", "PORT"):
        monkeypatch.setenv(f"RINGLOG_{name}", "1")
    monkeypatch.setenv("RINGLOGS_PORT", "1")
    assert unknown_variables() == {
        "RINGLOG_RECORDING_HOST": "RINGLOG_RECORDING_HOSTS",
        "RINGLOG_WEBHOOKKEYS": "RINGLOG_WEBHOOK_KEYS",
        "RINGLOG_SOMETHING_ELSE": None,
    }


def test_settings_can_t_be_changed() -> None:
    with pytest.raises(Exception, match="frozen"):
        load_settings().port = 1
