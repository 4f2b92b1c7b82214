"""`ringlog serve`: the service alone, or with the profile builder beside it."""

import asyncio
import os
import sys
from typing import Annotated

import typer

from cli.context import begin, explained
from runtime.clock import SteadyClock
from runtime.companion import Companion
from runtime.process import run
from runtime.scheduling import ask_for_short_slices
from runtime.settings import PREFIX, Settings, SettingsError
from service.app import Service


def serve(
    with_profiles: Annotated[
        bool,
        typer.Option(
            "--with-profiles",
            help="Run the profile builder, too: as a child, with its health and metrics on RINGLOG_BUILDER_OPS_PORT.",
        ),
    ] = False,
) -> None:
    """Serve the two webhooks (RINGLOG_PORT) and the operations (RINGLOG_OPS_PORT) until SIGTERM.

    Examples:

        RINGLOG_KAFKA_BOOTSTRAP_SERVERS=kafka:9092 RINGLOG_WEBHOOK_KEYS=a:$A RINGLOG_IDENTITY_KEY=$KEY ringlog serve

        ringlog serve --with-profiles
    """
    with explained():
        settings = begin("service")
        builder = _builder(settings) if with_profiles else None
        ask_for_short_slices()  # a caller waits for what this process answers
        service = Service(settings, SteadyClock(), lambda: {"builder": builder.state} if builder else {})
        raise typer.Exit(run(service.run if builder is None else lambda stop: _serve(service, builder, stop)))


async def _serve(service: Service, builder: Companion, stop: asyncio.Event) -> None:
    """The builder stops last, as everywhere: to the last caller answers are folded on. Raises `SettingsError`."""
    served = asyncio.Event()
    building = asyncio.create_task(builder.run(served), name="profile builder")
    try:
        await service.run(stop)
    finally:
        served.set()
        await building


def _builder(settings: Settings) -> Companion:
    """Raises `SettingsError` for a port that is taken already, by us."""
    port = settings.builder_ops_port
    for name, ours in (("PORT", settings.port), ("OPS_PORT", settings.ops_port)):
        if port and port == ours:
            raise SettingsError(
                f"{PREFIX}BUILDER_OPS_PORT is {port}, as {PREFIX}{name} is: the profile builder needs one of its own."
            )
    return Companion(
        "profiles",
        [sys.executable, "-m", "cli.main", "consume", "profiles"],
        os.environ | {f"{PREFIX}OPS_PORT": str(port)},
    )
