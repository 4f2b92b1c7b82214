"""`ringlog serve`: the service alone."""

import typer

from cli.context import begin, explained
from runtime.clock import SteadyClock
from runtime.process import run
from runtime.scheduling import ask_for_short_slices
from service.app import Service


def serve() -> None:
    """Serve the two webhooks (RINGLOG_PORT) and the operations (RINGLOG_OPS_PORT) until SIGTERM.

    Example:

        RINGLOG_KAFKA_BOOTSTRAP_SERVERS=kafka:9092 RINGLOG_WEBHOOK_KEYS=a:$A RINGLOG_IDENTITY_KEY=$KEY ringlog serve
    """
    with explained():
        settings = begin("service")
        ask_for_short_slices()  # a caller waits for what this process answers
        service = Service(settings, SteadyClock())
        raise typer.Exit(run(service.run))
