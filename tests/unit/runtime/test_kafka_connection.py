"""What a broken connection is to aiokafka's clients: an error that they know."""

import asyncio

import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

import runtime.kafka  # noqa: F401 - it teaches them


def test_to_send_on_a_closed_transport_is_a_connection_error() -> None:
    async def send() -> None:
        server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
        connection = AIOKafkaConnection("127.0.0.1", server.sockets[0].getsockname()[1])
        _, connection._writer = await asyncio.open_connection("127.0.0.1", connection.port or 0)
        connection._writer.transport.abort()
        await asyncio.sleep(0.05)
        connection._versions = {3: (0, 1)}
        connection.send(MetadataRequest([]))
        server.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, pytest.raises(KafkaConnectionError):
        runner.run(send())
