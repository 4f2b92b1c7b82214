"""`ringlog consume NAME`: one consumer, or the profile builder."""

from typing import Annotated

import typer

from cli.context import begin, explained
from consumers.process import consume as consume_process
from runtime.process import run


def consume(name: Annotated[str, typer.Argument(help="profiles, calls, billing, transcripts or recordings")]) -> None:
    """Run one consumer until SIGTERM. Its health and metrics are on RINGLOG_OPS_PORT.

    Example:

        RINGLOG_KAFKA_BOOTSTRAP_SERVERS=kafka:9092 RINGLOG_DATABASE_URL=postgresql://... ringlog consume billing
    """
    with explained():
        settings = begin(name)
        raise typer.Exit(run(lambda stop: consume_process(settings, name, stop)))
