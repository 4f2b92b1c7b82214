"""Every metric, declared in one place, named by Prometheus' conventions. No label ever holds a caller or a session."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client import GCCollector as _GC
from prometheus_client import PlatformCollector as _Platform
from prometheus_client import ProcessCollector as _Process

# A creation time beside every counter doubles the page, and nobody asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]

# One a process, like the process's own clock and log: a metric is declared once and is the same for all who count.
REGISTRY = CollectorRegistry()
for _collector in (_GC, _Platform, _Process):
    _collector(registry=REGISTRY)

# From a state lookup (tens of microseconds) to a leader that was killed (ten seconds).
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


def _counter(name: str, about: str, *labels: str) -> Counter:
    return Counter(name, about, labels, registry=REGISTRY)


def _gauge(name: str, about: str, *labels: str) -> Gauge:
    return Gauge(name, about, labels, registry=REGISTRY)


def _seconds(name: str, about: str, *labels: str) -> Histogram:
    return Histogram(name, about, labels, registry=REGISTRY, buckets=_SECONDS)


# Service
REQUESTS = _counter("ringlog_requests_total", "Webhook requests, by answer.", "webhook", "status")
REQUEST_SECONDS = _seconds("ringlog_request_seconds", "From the request's head to its answer.", "webhook")
REJECTED = _counter("ringlog_rejected_total", "Webhooks that could not be read.", "webhook", "reason")
ANSWERS = _counter("ringlog_prefetch_answers_total", "Prefetch answers: known, unknown caller, or failed open.", "kind")
TEMPLATE_ERRORS = _counter("ringlog_template_errors_total", "Prompt templates that failed and gave an empty prompt.")
ACK_SECONDS = _seconds("ringlog_ack_seconds", "From handing a batch to Kafka to its acknowledgement.", "topic")
EVENTS_PUBLISHED = _counter("ringlog_events_published_total", "Events acknowledged by Kafka.", "topic")
EVENTS_FAILED = _counter("ringlog_events_failed_total", "Events that neither Kafka nor the spool took.", "topic")
EVENTS_DROPPED = _counter(
    "ringlog_events_dropped_total", "Prefetch events that neither Kafka nor the spool took.", "topic"
)
EVENTS_WAITING = _gauge("ringlog_events_waiting", "Events that wait to be durable.")
KAFKA_CONNECTED = _gauge("ringlog_kafka_connected", "1 while the producer is connected.")
PRODUCER_REBUILDS = _counter("ringlog_producer_rebuilds_total", "Times that the producer was made anew.")
LANES_OPEN = _gauge(
    "ringlog_lanes_open", "Partitions whose events go to the spool, because Kafka does not acknowledge them."
)
COMPANION_ENDS = _counter(
    "ringlog_companion_ends_total", "Times that a program which runs beside this process ended by itself.", "program"
)
SPOOLED = _counter("ringlog_spooled_total", "Events made durable by the spool.", "topic")
DRAINED = _counter("ringlog_drained_total", "Events of the spool acknowledged by Kafka.", "topic")
SPOOL_EVENTS = _gauge("ringlog_spool_events", "Events in the spool that wait for Kafka.")
SPOOL_BYTES = _gauge("ringlog_spool_bytes", "What the events in the spool take of RINGLOG_SPOOL_MAX_BYTES.")
SPOOL_REFUSED = _gauge("ringlog_spool_refused_events", "Events that Kafka refused and the spool has set aside.")
SPOOL_USABLE = _gauge("ringlog_spool_usable", "1 while the spool takes events.")
SPOOL_ERRORS = _counter("ringlog_spool_errors_total", "Commits of the spool that failed.", "reason")
SPOOL_COMMIT_SECONDS = _seconds("ringlog_spool_commit_seconds", "From handing a commit to the disk to its fsync.")

# State
STORE_BYTES = _gauge("ringlog_state_store_bytes", "Size of the state store's file in use.")
STORE_PROFILES = _gauge("ringlog_state_profiles", "Profiles in the state store.")
FOLDED = _counter("ringlog_state_folded_total", "Events folded into the state store.", "topic")
FOLD_SKIPPED = _counter("ringlog_state_skipped_total", "Events that the fold could not read, and went past.", "topic")
STATE_BUILDING = _gauge("ringlog_state_building", "1 while the builder builds a new generation of the state store.")
STATE_STALE = _gauge("ringlog_state_stale", "1 while the generation that is served is not folded on.")
STATE_LAG = _gauge("ringlog_state_lag_events", "Events in the topics that the state store has not seen.")
SNAPSHOT_AT = _gauge("ringlog_snapshot_timestamp_seconds", "When the newest snapshot of the state store was taken.")

# Consumers
CONSUMED = _counter("ringlog_consumed_total", "Events whose effects were committed.", "consumer", "topic")
BATCH_SECONDS = _seconds("ringlog_batch_seconds", "From a batch's arrival to the commit of its effects.", "consumer")
LAG = _gauge(
    "ringlog_lag_events", "Events in a partition behind the consumer's position.", "consumer", "topic", "partition"
)
DEAD_LETTERS = _counter("ringlog_dead_letters_total", "Events sent to the dead letters.", "consumer")
DEAD_LETTERS_UNSETTLED = _gauge(
    "ringlog_dead_letters_unsettled", "Dead letters that nobody has redriven or discarded.", "consumer"
)
DEAD_LETTER_SHARE = _gauge(
    "ringlog_dead_letter_share",
    "Of the consumer's last 1000 events, the share that are unsettled dead letters.",
    "consumer",
)
CALLS_OVERDUE = _gauge(
    "ringlog_calls_overdue", "Calls that were announced, are longer ago than a call may last, and have no end."
)
RECONCILED_AT = _gauge(
    "ringlog_reconciled_timestamp_seconds", "When a pass over what may be missing was last complete."
)
RECONCILED = _counter(
    "ringlog_reconciled_total", "Calls that the provider was asked for, by what came of it.", "outcome"
)
RETRIES = _counter("ringlog_retries_total", "Batches tried again.", "consumer", "reason")
OUTBOX_WAITING = _gauge("ringlog_outbox_events", "Derived events that wait to be published.", "consumer")
RECORDINGS = _counter("ringlog_recording_attempts_total", "Attempts to fetch a recording, by outcome.", "outcome")
RECORDING_BYTES = _counter("ringlog_recording_bytes_total", "Bytes of recordings stored.")
RECORDING_CONTINUATIONS = _counter(
    "ringlog_recording_continuations_total", "Downloads that broke off and went on where they had ended."
)


def exposition() -> bytes:
    """All of it in Prometheus' text format."""
    return generate_latest(REGISTRY)
