"""Logs are a process's; a test that configures them puts them back."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog


@contextmanager
def logs_restored() -> Iterator[None]:
    try:
        yield
    finally:
        logging.getLogger().handlers.clear()
        structlog.contextvars.clear_contextvars()
        structlog.reset_defaults()
