"""The headers by which a dead letter says whose it is, why, and where its event lies."""

CONSUMER = "dead_letter_consumer"
ERROR = "dead_letter_error"
MESSAGE = "dead_letter_message"
TOPIC = "dead_letter_topic"
PARTITION = "dead_letter_partition"
OFFSET = "dead_letter_offset"
APPENDED = "dead_letter_appended_ms"
TIME = "dead_letter_time"

BYTES = "dead_letter_bytes"
SHA256 = "dead_letter_sha256"

# In the order in which they follow those of the event.
HEADERS = {
    CONSUMER: "Who could not handle it.",
    ERROR: "Why: the kind of error.",
    MESSAGE: "What the error said; it may quote the event.",
    TOPIC: "The topic in which the event lies.",
    PARTITION: "Its partition there.",
    OFFSET: "Its offset there.",
    APPENDED: "When the broker had appended the event, in milliseconds since the epoch.",
    TIME: "When it was given up, as `ce_time` is written.",
}
# Of one whose event no letter could hold, after those.
HEADERS_OF_A_HEAD = {
    BYTES: "The letter's value is only the first 64 KiB of the event's; this is how many bytes that has.",
    SHA256: "The SHA-256 of the event's value, in hexadecimal.",
}
