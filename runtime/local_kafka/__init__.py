"""The embedded Kafka: a real Apache Kafka for ``ringlog up`` and the tests when none is configured."""

from runtime.child import dies_with_us
from runtime.local_kafka.broker import LocalKafka
from runtime.local_kafka.error import LocalKafkaError
from runtime.local_kafka.jars import KAFKA_VERSION
from runtime.local_kafka.progress import ConsoleProgress, Progress

__all__ = ["KAFKA_VERSION", "ConsoleProgress", "LocalKafka", "LocalKafkaError", "Progress", "dies_with_us"]
