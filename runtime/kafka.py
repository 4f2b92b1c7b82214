"""Connections to Kafka with our settings, which are safe where aiokafka's defaults are not."""

import asyncio
import contextlib
import ssl
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import BrokerResponseError, KafkaConnectionError, kafka_errors
from aiokafka.helpers import create_ssl_context
from pydantic import SecretStr

from runtime.logs import logger
from runtime.settings import PREFIX, Settings, SettingsError
from schemas.event import Record

START_DEADLINE_S = 15.0  # a bootstrap server that is away answers, or refuses, well before
STOP_DEADLINE_S = 5.0  # an idempotent producer's stop() hangs for as long as the broker is away
REQUEST_TIMEOUT_MS = 10_000  # aiokafka's default of 40 s hides a dead broker for too long

# With aiokafka's default of 16 KiB, events of 3 kB and 128 connections saw a p99 of 1.7 s; with 1 MiB, 59 ms.
BATCH_BYTES = 1024 * 1024

# Of one partition at a time: small enough that twelve of them fit in memory, large enough for the largest record.
PARTITION_FETCH_BYTES = 4 * 1024 * 1024


class InvalidRecord(BrokerResponseError):  # type: ignore[misc]
    """The broker refuses a record for what it is: one without a key in a compacted topic, for example."""

    errno = 87
    message = "INVALID_RECORD"
    description = "The broker refuses this record."


# aiokafka does not know it, and would call it unknown, which might be anything.
kafka_errors[InvalidRecord.errno] = InvalidRecord


_send = AIOKafkaConnection.send


def _send_or_close(self: AIOKafkaConnection, *request: Any, **options: Any) -> Any:
    """A connection that is gone is an `OSError` for asyncio, which aiokafka expects, and a `RuntimeError` for uvloop:
    that would end, unseen, the task of a client that keeps its knowledge of the cluster, and the client with it."""
    try:
        return _send(self, *request, **options)
    except RuntimeError as error:
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"the connection to {self.host}:{self.port} is closed") from error


AIOKafkaConnection.send = _send_or_close


class KafkaUnavailable(ConnectionError):
    """Kafka could not be reached within the deadline."""


def connection(settings: Settings) -> dict[str, Any]:
    """What every client needs: addresses and credentials. Raises `SettingsError` when no Kafka is configured."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "client_id": "ringlog",
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
        "security_protocol": settings.kafka_security_protocol,
    }
    if settings.kafka_security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(settings)
    if settings.kafka_security_protocol.startswith("SASL"):
        options |= _sasl(settings)
    return options


def _sasl(settings: Settings) -> dict[str, Any]:
    """`Settings` has refused to be without what is needed here."""
    options: dict[str, Any] = {"sasl_mechanism": settings.kafka_sasl_mechanism}
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        from runtime.oauth import ClientCredentials  # noqa: PLC0415 - a process without it loads no HTTP client

        return options | {
            "sasl_oauth_token_provider": ClientCredentials(
                settings.kafka_sasl_oauth_token_url or "",
                settings.kafka_sasl_oauth_client_id or "",
                _secret(settings.kafka_sasl_oauth_client_secret),
                settings.kafka_sasl_oauth_scope,
            )
        }
    return options | {
        "sasl_plain_username": settings.kafka_sasl_username,
        "sasl_plain_password": _secret(settings.kafka_sasl_password),
    }


def _secret(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""


def _ssl_context(settings: Settings) -> ssl.SSLContext:
    try:
        context: ssl.SSLContext = create_ssl_context(
            cafile=_path(settings.kafka_ssl_cafile),
            certfile=_path(settings.kafka_ssl_certfile),
            keyfile=_path(settings.kafka_ssl_keyfile),
            # Never None, with which OpenSSL would ask on the terminal for the password of a key that has one.
            password=_secret(settings.kafka_ssl_password),
        )
        # Since 3.13 Python demands a key identifier, which the certificates of many private authorities lack, those of
        # operators that run Kafka too. Source: strimzi/strimzi-kafka-operator, issue 11375.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(
            f"{PREFIX}KAFKA_SSL_CAFILE, _CERTFILE, _KEYFILE or _PASSWORD is wrong: {error.strerror or error}."
        ) from None


def make_producer(settings: Settings) -> AIOKafkaProducer:
    """Durable and idempotent. Must be made inside the running loop; start it with `start_within`."""
    return AIOKafkaProducer(
        **connection(settings),
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        max_batch_size=BATCH_BYTES,
        max_request_size=settings.max_request_bytes,
    )


def make_consumer(settings: Settings, group: str | None = None, **options: Any) -> AIOKafkaConsumer:
    """Without topics: subscribe or assign. It commits nothing by itself, and never decides where to start."""
    return AIOKafkaConsumer(
        **connection(settings),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
        **options,
    )


def make_admin(settings: Settings) -> AIOKafkaAdminClient:
    return AIOKafkaAdminClient(**connection(settings))


async def start_within(
    client: AIOKafkaProducer | AIOKafkaConsumer | AIOKafkaAdminClient, seconds: float = START_DEADLINE_S
) -> None:
    """Raises `KafkaUnavailable`, with the client closed."""
    try:
        await asyncio.wait_for(client.start(), seconds)
    except BaseException as error:  # whoever cancels us must not leave half a client behind either
        await stop_within(client, 1.0)
        if not isinstance(error, Exception):
            raise
        reason = str(error) or f"no answer in {seconds:g} s"
        raise KafkaUnavailable(f"Kafka can't be reached: {reason}") from error


async def stop_within(
    client: AIOKafkaProducer | AIOKafkaConsumer | AIOKafkaAdminClient, seconds: float = STOP_DEADLINE_S
) -> None:
    """Never raises, never takes longer than a second more: what a client can't finish in time, its broker prevents."""
    # A task of its own: a consumer's stop() lets the cancellation of its fetches out, as if we had been cancelled.
    closing = asyncio.create_task(_close(client))
    try:
        await asyncio.wait({closing}, timeout=seconds)
        if not closing.done():
            raise TimeoutError
        if closing.cancelled():
            raise ConnectionError("it was cancelled half-way")
        closing.result()
    except Exception as error:
        closing.cancel()
        logger("runtime.kafka").warning("a Kafka client did not stop cleanly", error=repr(error))
        with contextlib.suppress(Exception):  # its tasks and sockets must not outlive it, and it has failed already
            await asyncio.wait_for(_abandon(client), 1.0)


async def _close(client: AIOKafkaProducer | AIOKafkaConsumer | AIOKafkaAdminClient) -> None:
    if isinstance(client, AIOKafkaAdminClient):
        await client.close()
        return
    if isinstance(client, AIOKafkaProducer):
        # stop() would flush in a task of its own, which waits on for ever when we no longer do.
        await client.flush()
    await client.stop()


async def _abandon(client: AIOKafkaProducer | AIOKafkaConsumer | AIOKafkaAdminClient) -> None:
    """aiokafka offers no way to drop what a producer could not send; its sender would go on trying for ever."""
    if isinstance(client, AIOKafkaConsumer):
        _cancel_tasks_of(client)
    if not isinstance(client, AIOKafkaProducer):
        await client._client.close()
        return
    client._closed = True
    sender: asyncio.Task[None] | None = client._sender.sender_task
    if sender is not None:
        sender.cancel()
    # The sender, when it is cancelled, waits for its requests. Without a connection they end at once, but then they
    # wait for news of the cluster, which nobody will ask for any more.
    await client.client.close()
    while sender is not None and not sender.done():  # one after the other may ask for news
        if (news := client.client._md_update_fut) is None:
            news = client.client._md_update_fut = asyncio.get_running_loop().create_future()
        if not news.done():
            news.set_result(False)
        await asyncio.wait({sender}, timeout=0.05)


def _cancel_tasks_of(consumer: AIOKafkaConsumer) -> None:
    """Those that a stop() which was broken off has left: they would wait for ever for what nobody brings them."""
    fetcher, coordinator = consumer._fetcher, consumer._coordinator
    tasks = [*fetcher._pending_tasks, fetcher._fetch_task] if fetcher is not None else []
    # Without a group there is a coordinator that has none of them.
    tasks += [getattr(coordinator, f"_{what}_task", None) for what in ("coordination", "heartbeat", "commit_refresh")]
    for task in tasks:
        if task is not None:
            task.cancel()


def record_of(message: ConsumerRecord) -> Record:
    return record_at(message, message)


def record_at(where: TopicPartition | ConsumerRecord, found: Any) -> Record:
    """Of what aiokafka has read there."""
    return Record(
        topic=where.topic,
        partition=where.partition,
        offset=found.offset,
        appended_ms=found.timestamp,
        key=found.key,
        value=found.value,
        headers=tuple(found.headers),
    )


def _path(path: Any) -> str | None:
    return str(path) if path else None
