"""A consumer of somebody's own, found by its import path or by its entry point. See `docs/own-consumers.md`."""

import difflib
import importlib
import inspect
import re
import sys
import traceback
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import MetaData

from consumers import tables
from consumers.contract import Consumer, Deliverer, Topic
from runtime.settings import SettingsError

ENTRY_POINTS = "ringlog.consumers"

# It becomes the end of a topic's name, of which Kafka allows 249 characters, prefix and `dead-letters.` included.
MAX_NAME_LENGTH = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Own = Consumer | Deliverer


def is_import_path(which: str) -> bool:
    return ":" in which


def entry_point(name: str) -> EntryPoint | None:
    """Raises `SettingsError` when several packages have one of that name."""
    found = list(entry_points(group=ENTRY_POINTS, name=name))
    if len({point.value for point in found}) > 1:
        whose = ", ".join(sorted(point.value for point in found))
        raise SettingsError(f"several packages have a consumer {name!r} ({whose}): name one by its import path.")
    return found[0] if found else None


def entry_point_names() -> list[str]:
    return sorted(entry_points(group=ENTRY_POINTS).names)


def load(which: str, group: str | None, taken: frozenset[str]) -> Own:
    """Made anew, and with its name: `group`, or that of the entry point, or its own.

    `which` is `module:attribute`, or the name of an entry point that exists. The attribute is a class or a function
    that is called without arguments, or the consumer itself. Raises `SettingsError`, whose sentence says what is wrong.
    """
    point = None if is_import_path(which) else entry_point(which)
    path = point.value if point else which
    consumer = prepared(_made(_attribute(path), path), path, group or (point.name if point else None))
    if consumer.name in taken:
        raise SettingsError(
            f"{path} can't be called {consumer.name!r}: ringlog has a consumer of that name; give another --group."
        )
    return consumer


def prepared(consumer: Any, path: str, name: str | None = None, default_name: str | None = None) -> Own:
    """The same object, looked at whether it is a consumer, and called `name`, if one is given, else as it says itself.

    Raises `SettingsError`.
    """
    _check_shape(consumer, path)
    _check_tables(consumer, path)
    name = name or getattr(consumer, "name", default_name)
    if not name:
        raise SettingsError(f"{path} has no name: give it one by --group, or by an attribute `name`.")
    check_name(name, path)
    if getattr(consumer, "name", None) != name:
        try:
            consumer.name = name
        except AttributeError:
            raise SettingsError(
                f"{path} calls itself {consumer.name!r} and takes no other name: drop --group."
            ) from None
    found: Own = consumer
    return found


def check_name(name: Any, whose: str) -> None:
    """Raises `SettingsError` for what can't be a consumer's name."""
    if not isinstance(name, str) or len(name) > MAX_NAME_LENGTH or not _NAME.fullmatch(name):
        raise SettingsError(
            f"{whose} can't be called {name!r}: a name has letters, digits, '.', '_' and '-', begins with a letter or a"
            f" digit, and is at most {MAX_NAME_LENGTH} long, because topics are named after it."
        )


def _attribute(path: str) -> Any:
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise SettingsError(f"{path!r} names no consumer: write it as my_package.my_module:MyConsumer.")
    found: Any = _module(module_name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            close = difflib.get_close_matches(part, dir(found), 1)
            guess = f"; is {close[0]} meant?" if close else ""
            raise SettingsError(f"{module_name} has no {attribute!r}{guess or '.'}")
        found = getattr(found, part)
    return found


def _module(name: str) -> ModuleType:
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise SettingsError(
                f"there is no module {missing!r}: neither in {here}, nor in PYTHONPATH, nor among what is installed."
            ) from None
        raise SettingsError(f"{name} imports {missing!r}, and that is not installed.") from error
    except Exception as error:
        raise SettingsError(f"{name} can't be imported: {_said(error)}.") from error


def _made(found: Any, path: str) -> Any:
    if not callable(found):
        return found
    try:
        needed = [p.name for p in inspect.signature(found).parameters.values() if _is_needed(p)]
    except (TypeError, ValueError):  # some callables have no signature that can be known
        needed = []
    if needed:
        raise SettingsError(
            f"{path} needs {', '.join(needed)}: give what it is called with a default, or name a function."
        )
    try:
        return found()
    except SettingsError:
        raise
    except Exception as error:
        raise SettingsError(f"{path} can't be made: {_said(error)}.") from error


def _is_needed(parameter: inspect.Parameter) -> bool:
    varies = parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.default is inspect.Parameter.empty and not varies


def _check_shape(consumer: Any, path: str) -> None:
    topics = getattr(consumer, "topics", None)
    handles, delivers = (callable(getattr(consumer, name, None)) for name in ("handle", "deliver"))
    wrong = []
    if not isinstance(topics, tuple) or not topics or not all(isinstance(topic, Topic) for topic in topics):
        wrong.append("it needs `topics`, a tuple of topics such as (CALLS_ENDED,)")
    if handles and delivers:
        wrong.append("it has handle and deliver, and may have only one of them")
    elif not handles and not delivers:
        wrong.append("it needs either handle(tx, records) or deliver(records)")
    elif handles and inspect.iscoroutinefunction(consumer.handle):
        wrong.append("its handle is async, and a transaction is none: only deliver may be")
    if delivers and not _is_count(getattr(consumer, "max_records", 1)):
        wrong.append("its max_records is no number above 0")
    if wrong:
        raise SettingsError(f"{path} is no consumer: {'; '.join(wrong)}.")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value > 0


def _check_tables(consumer: Any, path: str) -> None:
    metadata = getattr(consumer, "metadata", None)
    if metadata is None:
        return
    if not isinstance(metadata, MetaData):
        raise SettingsError(f"{path} is no consumer: its metadata is no sqlalchemy.MetaData.")
    if both := metadata.tables.keys() & tables.metadata.tables.keys():
        raise SettingsError(f"{path} has a table {min(both)!r}, and so has ringlog: name yours otherwise.")


def _said(error: Exception) -> str:
    """With the innermost line, which is the author's own more often than not."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return said
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{said} ({Path(frame.filename).name}:{frame.lineno})"
