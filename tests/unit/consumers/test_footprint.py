"""What is known of a consumer is all that the database knows of it."""

from consumers.footprint import TABLES
from consumers.tables import metadata, outbox


def test_every_table_that_knows_of_consumers_is_in_it_but_the_outbox() -> None:
    """What waits there is told first: without it nobody could forget the consumer."""
    knowing = {table for table in metadata.tables.values() if "consumer" in table.c}
    assert knowing == {*TABLES, outbox}
