"""The settings of a command: the environment, and for what it doesn't say, the ringlog that runs here."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import typer
from rich.console import Console

from cli.running import NotRunning, find
from cli.secrets import read_secrets
from consumers.stopping import unless
from runtime.logs import configure_logs, logger
from runtime.process import EXIT_SETTINGS, run
from runtime.settings import Settings, SettingsError, load_settings, unknown_variables
from state.room import NoRoom

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130  # as shells count it

# Between tries of what is waited for. A job of a cluster that waits longer would delay what waits for it.
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 8.0

T = TypeVar("T")

out = Console()
err = Console(stderr=True)


def load() -> Settings:
    """For a command that looks or writes, and ends: its logs are warnings. Raises `SettingsError`."""
    settings = load_settings()
    configure_logs("ringlog", settings.log_format, "warning")
    known = _known(settings.data_dir)
    return load_settings(**{name: value for name, value in known.items() if name not in settings.model_fields_set})


def begin(process: str, **overrides: Any) -> Settings:
    """For a process that stays: its settings, its logs configured. Raises `SettingsError`."""
    settings = load_settings(**overrides)
    configure_logs(process, settings.log_format, settings.log_level)
    for name, meant in unknown_variables().items():
        guess = f"; is {meant} meant?" if meant else ""
        logger("cli").warning(f"there is no setting {name}, so it changes nothing{guess}")
    return settings


def join(process: str) -> Settings:
    """As `begin`, for a process that `ringlog up` doesn't start: without a Kafka it joins what runs here.

    Its health and metrics are on a free port then, unless one is given. Raises `SettingsError`.
    """
    settings = load_settings()
    if settings.kafka_bootstrap_servers:
        return begin(process)
    known = _known(settings.data_dir) | {"ops_port": 0}
    return begin(process, **{name: value for name, value in known.items() if name not in settings.model_fields_set})


def _known(data_dir: Path) -> dict[str, Any]:
    """What an earlier or a running `ringlog up` left in the data directory. Raises `SettingsError`."""
    with suppress(NotRunning):  # then the secrets of an earlier run must do
        return find(data_dir).overrides()
    try:
        secrets = read_secrets(data_dir)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    if secrets is None:
        return {}
    return {
        "identity_key": secrets.identity_key,
        "ops_key": secrets.ops_key,
        "webhook_keys": {"up": secrets.webhook_key},
    }


def complain(sentence: str) -> None:
    """On one line, however narrow the terminal: it may be searched for, or be read by a program."""
    err.print(sentence, style="red", highlight=False, markup=False, soft_wrap=True)


def end_with(sentence: str, code: int = EXIT_FAILED) -> NoReturn:
    """Ends the command."""
    complain(sentence)
    raise typer.Exit(code)


def ask(question: str, otherwise: str, *, json: bool) -> None:
    """Ends the command when nobody agrees, with `otherwise`: what was not done. With `json` nobody is there to ask."""
    if json or not sys.stdin.isatty():
        end_with(f"{otherwise}: there is nobody to ask. Say --yes.", EXIT_SETTINGS)
    if not typer.confirm(question, err=True):
        end_with(f"{otherwise}.")


def result_of(work: Callable[[], Awaitable[T]]) -> T:
    """Of work that may be broken off, whose result is not None. SIGTERM and Ctrl-C cancel it, and end the command."""
    found: list[T] = []

    async def main(stop: asyncio.Event) -> None:
        if (result := await unless(stop, work())) is not None:
            found.append(result)

    run(main)
    if not found:
        end_with("Stopped before the end.", EXIT_INTERRUPTED)
    return found[0]


def patiently(attempt: Callable[[], T], *, wait: bool) -> T:
    """What `attempt` returns. With `wait` what is away is waited for, however long; else its error is raised."""
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return attempt()
        except ConnectionError as error:
            if not wait:
                raise
            complain(f"{error} Trying again in {pause_s:g} s.")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


@contextmanager
def explained() -> Iterator[None]:
    """What can go wrong outside of us ends a command with a sentence and an exit code, not with a traceback."""
    try:
        yield
    except SettingsError as error:
        complain(str(error))
        raise typer.Exit(EXIT_SETTINGS) from None
    except BrokenPipeError:  # nobody reads on, as behind `| head`: that is nothing to be told
        raise
    except (ConnectionError, NoRoom) as error:  # Kafka, the database or the disk, with a sentence of ours
        complain(str(error))
        raise typer.Exit(EXIT_FAILED) from None
