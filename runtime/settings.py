"""Every setting of every process: environment variables with the prefix `RINGLOG_`."""

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from schemas.caller import CallerIdentity
from schemas.own_numbers import split_own_numbers
from schemas.topics import MAX_MESSAGE_BYTES
from state.room import Room

PREFIX = "RINGLOG_"

# With our prefix, and yet no settings: of the machine, and of the tests.
_NO_SETTINGS = (f"{PREFIX}CACHE_DIR", f"{PREFIX}JAVA", f"{PREFIX}TEST_")

# A shorter one could be found by trying; 16 characters of hex are 64 bits.
MIN_IDENTITY_KEY_LENGTH = 16

# What each kind of SASL mechanism can't do without.
_OF_A_USER = ("kafka_sasl_username", "kafka_sasl_password")
_OF_OAUTH = ("kafka_sasl_oauth_token_url", "kafka_sasl_oauth_client_id", "kafka_sasl_oauth_client_secret")


class SettingsError(ValueError):
    """One sentence that names the variable and says what to do."""


def _words(value: Any) -> Any:
    """`a, b` -> `["a", "b"]`"""
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    return value


def _keys(value: Any) -> Any:
    """`id:secret,id:secret` -> `{id: secret}`"""
    if not isinstance(value, str):
        return value
    keys: dict[str, str] = {}
    for pair in _words(value):
        name, colon, secret = pair.partition(":")
        if not colon or not name or not secret:
            raise ValueError("each key must be written id:secret, several separated by commas")
        if name in keys:
            raise ValueError(f"the key id {name!r} occurs twice")
        keys[name] = secret
    return keys


def _host_port(addresses: list[str]) -> list[str]:
    for address in addresses:
        host, colon, port = address.rpartition(":")
        if not colon or not host or not port.isdecimal() or not 0 < int(port) <= 65535:
            raise ValueError(f"{address[:80]!r} must be written host:port")
    return addresses


def _own_numbers(entries: list[str]) -> list[str]:
    split_own_numbers(entries)
    return entries


def _servers(servers: str) -> str:
    return ",".join(_host_port(_words(servers)))


Words = Annotated[list[str], NoDecode, BeforeValidator(_words)]
OwnNumbers = Annotated[list[str], NoDecode, BeforeValidator(_words), AfterValidator(_own_numbers)]
Keys = Annotated[dict[str, SecretStr], NoDecode, BeforeValidator(_keys)]
Servers = Annotated[str, AfterValidator(_servers)]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
Addresses = Annotated[list[str], NoDecode, BeforeValidator(_words), AfterValidator(_host_port)]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True)

    # Listeners
    host: str = "0.0.0.0"  # noqa: S104 - in a container the listener must be reachable; `ringlog up` says 127.0.0.1
    port: int = Field(8080, ge=0, le=65535)
    ops_port: int = Field(9090, ge=0, le=65535)
    builder_ops_port: int = Field(9091, ge=0, le=65535)  # of the profile builder that `serve --with-profiles` brings

    # Credentials
    webhook_keys: Keys = {}
    webhook_header: HeaderName = "authorization"
    ops_key: SecretStr | None = None
    identity_key: SecretStr | None = None

    # Webhooks
    max_body_bytes: int = Field(8 * 1024 * 1024, ge=1024, le=8 * 1024 * 1024)
    prompts_dir: Path | None = None
    own_numbers: OwnNumbers = []
    default_region: Annotated[str | None, Field(pattern="^[A-Z]{2}$")] = None
    caller_metadata_key: str | None = None

    # Kafka
    kafka_bootstrap_servers: Servers | None = None
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = "PLAIN"
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_sasl_oauth_token_url: Annotated[str | None, Field(pattern=r"^https?://[^\s/]")] = None
    kafka_sasl_oauth_client_id: str | None = None
    kafka_sasl_oauth_client_secret: SecretStr | None = None
    kafka_sasl_oauth_scope: str | None = None
    kafka_ssl_cafile: Path | None = None
    kafka_ssl_certfile: Path | None = None
    kafka_ssl_keyfile: Path | None = None
    kafka_ssl_password: SecretStr | None = None
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$", max_length=100)] = ""
    topic_partitions: int | None = Field(None, ge=1, le=10_000)  # of topics to be made; none: the catalogue's
    topic_replication: int | None = Field(None, ge=1, le=10)
    topic_min_insync: int | None = Field(None, ge=1, le=10)
    allow_forgetful_topics: bool = False

    # Consumers
    dead_letter_share: float = Field(0.05, ge=0, le=1)

    # Billing
    billing_plans: Path | None = None

    # Where things are kept
    data_dir: Path = Path("ringlog-data")
    database_url: str | None = None
    recordings_url: str | None = None
    snapshots_url: str | None = None
    snapshots_keep: int = Field(7, ge=1)  # one a day: a week
    spool_max_bytes: int = Field(1024**3, ge=0)  # 0: no spool; what Kafka does not take is refused

    # Calls whose end does not arrive
    longest_call_s: float = Field(7200.0, gt=0)
    millis_api_key: SecretStr | None = None
    millis_api_url: Annotated[str, Field(pattern=r"^https?://[^\s/]")] = "https://api-west.millis.ai"

    # Recordings
    recording_hosts: Words = []
    recording_private_hosts: Addresses = []
    recording_workers: int = Field(4, ge=1, le=256)
    recording_max_bytes: int = Field(2 * 1024**3, ge=1)
    recording_min_bytes_per_s: int = Field(1024, ge=0)  # 0: no floor; telephone sound has 8000 a second

    # Logs
    log_format: Literal["auto", "json", "pretty"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if self.kafka_security_protocol.startswith("SASL"):
            needed = _OF_OAUTH if self.kafka_sasl_mechanism == "OAUTHBEARER" else _OF_A_USER
            if not all(getattr(self, name) for name in needed):
                names = [PREFIX + name.upper() for name in needed]
                raise ValueError(
                    f"{', '.join(names[:-1])} and {names[-1]} are needed with"
                    f" {PREFIX}KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol} and"
                    f" {PREFIX}KAFKA_SASL_MECHANISM={self.kafka_sasl_mechanism}"
                )
        return self

    @property
    def state_dir(self) -> Path:
        return self.data_dir / "state"

    @property
    def spool_dir(self) -> Path:
        return self.data_dir / "spool"

    @property
    def state_room(self) -> Room:
        """On the disk of the state directory."""
        return Room(self.state_dir, self.spool_dir, self.spool_max_bytes)

    @property
    def database(self) -> str:
        """An SQLAlchemy URL, with the driver that we ship."""
        url = self.database_url or f"sqlite:///{(self.data_dir / 'ringlog.db').absolute()}"
        for plain in ("postgres://", "postgresql://"):
            if url.startswith(plain):
                return "postgresql+psycopg://" + url.removeprefix(plain)
        return url

    @property
    def recordings(self) -> str:
        return self.recordings_url or (self.data_dir / "recordings").absolute().as_uri()

    @property
    def snapshots(self) -> str:
        return self.snapshots_url or (self.data_dir / "snapshots").absolute().as_uri()

    @property
    def bootstrap_servers(self) -> str:
        """Raises `SettingsError` when no Kafka is configured."""
        if not self.kafka_bootstrap_servers:
            raise missing(
                "KAFKA_BOOTSTRAP_SERVERS",
                "name your Kafka as host:port, or run `ringlog up`, which starts one on this machine",
            )
        return self.kafka_bootstrap_servers

    @property
    def max_request_bytes(self) -> int:
        """Between the largest event and what a topic takes: a record we send is never too large for its topic."""
        return MAX_MESSAGE_BYTES - 64 * 1024

    def identity(self) -> CallerIdentity:
        """Raises `SettingsError` without a key: every process must compute the same caller."""
        key = self.identity_key.get_secret_value() if self.identity_key else ""
        if len(key) < MIN_IDENTITY_KEY_LENGTH:
            raise SettingsError(
                f"{PREFIX}IDENTITY_KEY is {'too short' if key else 'not set'}: it keys the hash of a caller and needs"
                f" at least {MIN_IDENTITY_KEY_LENGTH} random characters, the same for every process and for ever"
                " (for example from `openssl rand -hex 32`)."
            )
        return CallerIdentity(key.encode(), self.own_numbers, self.default_region, self.caller_metadata_key)


def missing(name: str, what_to_do: str) -> SettingsError:
    return SettingsError(f"{PREFIX}{name} is not set: {what_to_do}.")


def load_settings(**overrides: Any) -> Settings:
    """From the environment. Raises `SettingsError` with one sentence for the first thing that is wrong."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        reason = str(first["msg"]).removeprefix("Value error, ")
        if not first["loc"]:  # about several settings, which it names itself
            raise SettingsError(f"{reason}.") from None
        name = PREFIX + str(first["loc"][0]).upper()
        raise SettingsError(f"{name} is wrong: {reason}{_said(name)}.") from None


def unknown_variables() -> dict[str, str | None]:
    """Variables of the environment with our prefix that are no setting -> the setting that was probably meant.

    Nobody reads them, so a guard that was misspelt would be open, and nobody would know.
    """
    known = [PREFIX + field.upper() for field in Settings.model_fields]
    strangers = sorted(
        name
        for name in os.environ
        if name.startswith(PREFIX) and name not in known and not name.startswith(_NO_SETTINGS)
    )
    return {name: next(iter(difflib.get_close_matches(name, known, 1, 0.8)), None) for name in strangers}


def _said(name: str) -> str:
    """What was said, unless it may be a secret."""
    value = os.environ.get(name)
    if value is None or any(word in name for word in ("KEY", "PASSWORD", "SECRET", "URL")):
        return ""
    return f" (it says {value[:80]!r})"
