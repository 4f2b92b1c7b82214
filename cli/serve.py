"""`ringlog serve`: the service alone."""

import typer

from cli.context import explained
from runtime.logs import configure_logs
from runtime.process import run
from runtime.settings import load_settings
from service.app import Service


def serve() -> None:
    """Serve the two webhooks (RINGLOG_PORT) and the operations (RINGLOG_OPS_PORT) until SIGTERM.

    Example:

        RINGLOG_KAFKA_BOOTSTRAP_SERVERS=kafka:9092 RINGLOG_WEBHOOK_KEYS=a:$A RINGLOG_IDENTITY_KEY=$KEY ringlog serve
    """
    with explained():
        settings = load_settings()
        configure_logs("service", settings.log_format, settings.log_level)
        service = Service(settings)
        raise typer.Exit(run(service.run))
