"""A Kafka with TLS and SASL: each mechanism gets in with the right credentials, and none without."""

import asyncio
import base64
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from runtime.kafka import KafkaUnavailable, make_consumer, make_producer, start_within, stop_within
from runtime.local_kafka import LocalKafkaError
from runtime.oauth import ClientCredentials
from runtime.settings import Settings, load_settings
from runtime.topics import apply, check
from schemas.topics import CALLS_ENDED
from tests.sources.origin import Unavailable
from tests.sources.secure_kafka import PASSWORD, USER, SecureKafka, secure_kafka

CLIENT, SECRET = "ringlog", "client-secret-of-the-tests"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    try:
        with secure_kafka(tmp_path_factory.mktemp("secure")) as kafka:
            yield kafka
    except (LocalKafkaError, Unavailable) as error:
        pytest.skip(f"there is no Kafka with TLS to test with: {error}")


def settings_of(servers: str, **more: Any) -> Settings:
    prefix = f"t{secrets.token_hex(4)}."
    return load_settings(kafka_bootstrap_servers=servers, topic_prefix=prefix, topic_partitions=1, **more)


def sasl(kafka: SecureKafka, mechanism: str, **more: Any) -> Settings:
    known = {
        "kafka_security_protocol": "SASL_SSL",
        "kafka_sasl_mechanism": mechanism,
        "kafka_ssl_cafile": kafka.authority.certificate,
        "kafka_sasl_username": USER,
        "kafka_sasl_password": PASSWORD,
    }
    return settings_of(kafka.sasl, **(known | more))


async def goes_through(settings: Settings) -> None:
    """As all of our clients do it: topics made, a record written, and read."""
    await apply(settings, topics=[CALLS_ENDED])
    topic = CALLS_ENDED.named(settings.topic_prefix)
    producer = make_producer(settings)
    await start_within(producer)
    await producer.send_and_wait(topic, b"value", b"key")
    await stop_within(producer)
    consumer = make_consumer(settings)
    await start_within(consumer)
    try:
        consumer.assign([partition := TopicPartition(topic, 0)])
        consumer.seek(partition, 0)
        assert (await asyncio.wait_for(consumer.getone(), 20)).value == b"value"
    finally:
        await stop_within(consumer)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_user_gets_in_by_password(secure: SecureKafka, mechanism: str) -> None:
    await goes_through(sasl(secure, mechanism))
    with pytest.raises(KafkaUnavailable):
        await check(sasl(secure, mechanism, kafka_sasl_password="another"))


async def test_a_client_gets_in_by_certificate_and_not_without(secure: SecureKafka) -> None:
    ca = {"kafka_security_protocol": "SSL", "kafka_ssl_cafile": secure.authority.certificate}
    files = {"kafka_ssl_certfile": secure.client.certificate, "kafka_ssl_keyfile": secure.client.key}
    await goes_through(settings_of(secure.mtls, **ca, **files))
    with pytest.raises(KafkaUnavailable):
        await check(settings_of(secure.mtls, **ca))


async def test_a_broker_of_an_unknown_authority_is_refused(secure: SecureKafka) -> None:
    with pytest.raises(KafkaUnavailable):
        await check(sasl(secure, "PLAIN", kafka_ssl_cafile=None))


class TokenServer:
    """Gives out unsigned tokens, which the broker of the tests takes."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.life_s: object = 3600
        self.status = 200
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append({key: str(value) for key, value in (await request.post()).items()})
        kind, _, credentials = request.headers["authorization"].partition(" ")
        assert kind == "Basic"
        known = base64.b64decode(credentials).decode() == f"{CLIENT}:{SECRET}"
        if self.status != 200 or not known:
            return web.json_response({"error": "invalid_client"}, status=self.status if self.status != 200 else 401)
        now = int(time.time())
        claims = {"sub": CLIENT, "iat": now, "exp": now + 3600, "jti": str(len(self.asked))}
        token = ".".join(_part(part) for part in ({"alg": "none"}, claims)) + "."
        return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": self.life_s})


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@asynccontextmanager
async def token_server() -> AsyncIterator[TokenServer]:
    server = TokenServer()
    app = web.Application()
    app.router.add_post("/token", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}/token"
    try:
        yield server
    finally:
        await runner.cleanup()


def oauth(secure: SecureKafka, server: TokenServer, **more: Any) -> Settings:
    return sasl(
        secure,
        "OAUTHBEARER",
        **{
            "kafka_sasl_username": None,
            "kafka_sasl_password": None,
            "kafka_sasl_oauth_token_url": server.url,
            "kafka_sasl_oauth_client_id": CLIENT,
            "kafka_sasl_oauth_client_secret": SECRET,
            "kafka_sasl_oauth_scope": "kafka",
            **more,
        },
    )


async def test_a_client_gets_in_by_a_token_that_it_asks_for(secure: SecureKafka) -> None:
    async with token_server() as server:
        await goes_through(oauth(secure, server))
        assert server.asked[0] == {"grant_type": "client_credentials", "scope": "kafka"}
        with pytest.raises(KafkaUnavailable):
            await check(oauth(secure, server, kafka_sasl_oauth_client_secret="another"))


async def test_a_token_server_that_is_away_is_a_kafka_that_is_away(secure: SecureKafka) -> None:
    async with token_server() as server:
        pass
    with pytest.raises(KafkaUnavailable):
        await check(oauth(secure, server))


async def test_a_token_is_kept_for_most_of_its_life_and_then_another_is_asked_for() -> None:
    now = 0.0
    async with token_server() as server:
        server.life_s = "100"  # some servers send text
        provider = ClientCredentials(server.url, CLIENT, SECRET, clock=lambda: now)
        first = await provider.token()
        now = 79
        assert await provider.token() == first
        now = 81
        assert await provider.token() != first
        assert [set(form) for form in server.asked] == [{"grant_type"}] * 2


async def test_why_there_is_no_token_is_said_without_the_secret() -> None:
    async with token_server() as server:
        with pytest.raises(KafkaConnectionError, match=r"status 401: .*invalid_client") as refused:
            await ClientCredentials(server.url, CLIENT, "hush").token()
        assert "hush" not in str(refused.value)
        server.status = 503
        with pytest.raises(KafkaConnectionError, match=f"no token for Kafka from {server.url}: status 503"):
            await ClientCredentials(server.url, CLIENT, SECRET).token()
