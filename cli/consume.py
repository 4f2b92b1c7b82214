"""`ringlog consume NAME`: one consumer, or the profile builder."""

from typing import Annotated

import typer

from cli.context import explained
from consumers.process import consume as consume_process
from runtime.logs import configure_logs
from runtime.process import run
from runtime.settings import load_settings


def consume(name: Annotated[str, typer.Argument(help="profiles, billing, transcripts or recordings")]) -> None:
    """Run one consumer until SIGTERM. Its health and metrics are on RINGLOG_OPS_PORT.

    Example:

        RINGLOG_KAFKA_BOOTSTRAP_SERVERS=kafka:9092 RINGLOG_DATABASE_URL=postgresql://... ringlog consume billing
    """
    with explained():
        settings = load_settings()
        configure_logs(name, settings.log_format, settings.log_level)
        raise typer.Exit(run(lambda stop: consume_process(settings, name, stop)))
