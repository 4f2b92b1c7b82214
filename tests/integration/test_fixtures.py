"""The ground the other tests stand on."""

import psycopg
from aiokafka import TopicPartition
from sqlalchemy import Engine, create_engine, inspect, text

from consumers.tables import metadata
from runtime.kafka import make_consumer, make_producer, start_within, stop_within
from runtime.settings import Settings, load_settings


async def test_an_event_goes_through_the_broker(settings: Settings, topics: tuple[str, ...]) -> None:
    ended = f"{settings.topic_prefix}calls.ended"
    assert ended in topics
    producer, consumer = make_producer(settings), make_consumer(settings)
    await start_within(producer)
    await start_within(consumer)
    try:
        await producer.send_and_wait(ended, b"value", key=b"key", partition=1)
        partition = TopicPartition(ended, 1)
        consumer.assign([partition])
        consumer.seek(partition, 0)
        message = await consumer.getone()
        assert (message.key, message.value, message.offset) == (b"key", b"value", 0)
        assert message.timestamp_type == 1  # LogAppendTime
    finally:
        await stop_within(producer)
        await stop_within(consumer)


def test_every_test_has_a_database_of_its_own(database_url: str) -> None:
    url = load_settings(database_url=database_url).database
    engine = create_engine(url)
    with engine.begin() as connection:
        assert inspect(connection).get_table_names() == []
        connection.execute(text("CREATE TABLE mine (x integer)"))  # the next test must not find it
    engine.dispose()


def test_postgresql_is_recent(postgres: str) -> None:
    with psycopg.connect(postgres) as connection:
        assert connection.info.server_version >= 170_000


def test_an_engine_has_all_tables(engine: Engine) -> None:
    assert set(inspect(engine).get_table_names()) >= set(metadata.tables)
