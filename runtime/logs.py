"""Structured logs: JSON for machines, one readable line on a terminal. Never a phone number, never a secret."""

import logging
import re
import sys
from typing import Any, Literal

import structlog

Format = Literal["auto", "json", "pretty"]

# The last line of defence, for texts that are not ours: an exception may quote what it could not read.
_NUMBER = re.compile(r"(?<![\w.])(?:\+|%2[Bb])[1-9][0-9]{6,14}\b")

# Without the values of local variables, which structlog and rich would show: there are callers and keys among them.
_TRACEBACKS = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


def configure_logs(process: str, format_: Format = "auto", level: str = "info") -> None:
    """Once a process, at its start. Lines go to stderr; what libraries log goes the same way, from `warning` on."""
    pretty = format_ == "pretty" or (format_ == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if pretty
        else [structlog.processors.ExceptionRenderer(_TRACEBACKS), structlog.processors.JSONRenderer()]
    )
    last.append(_without_numbers)
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[_drop_meta, *last]))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # aiokafka repeats every failed connection at error level; what it means for us is in our own lines.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def _drop_meta(
    _logger: structlog.typing.WrappedLogger, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return structlog.stdlib.ProcessorFormatter.remove_processors_meta(_logger, _name, event)


def _without_numbers(_logger: structlog.typing.WrappedLogger, _name: str, line: Any) -> str:
    return _NUMBER.sub("[number]", line)


def logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """`name` is the part of ringlog that speaks, such as `service.journal`."""
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=name)
    return log
