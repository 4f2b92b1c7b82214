"""The provider's prefetch query. Source: the provider's webhook page; provider facts, shapes."""

from urllib.parse import unquote

import msgspec

# Session metadata is flattened into the query; more than this is no call's metadata, and parsing must stay cheap.
MAX_QUERY_BYTES = 64 * 1024
MAX_PARAMETERS = 500

NAMED = frozenset(("session_id", "agent_id", "from", "to"))


class PrefetchQuery(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """The four named parameters (None when absent or blank) and every further one.

    A name that occurs twice has its first value in the named fields, and all of its values, as a list, in `parameters`:
    metadata is flattened into the query, and its names may collide with the provider's own.
    """

    session_id: str | None
    agent_id: str | None
    from_: str | None
    to: str | None
    parameters: dict[str, str | list[str]]

    def metadata(self) -> dict[str, str | list[str]]:
        """What is not one of the four."""
        return {name: value for name, value in self.parameters.items() if name not in NAMED}


class QueryTooLarge(ValueError):
    """More than `MAX_QUERY_BYTES` or `MAX_PARAMETERS`."""


def parse_prefetch(query: bytes) -> PrefetchQuery:
    """Bytes that are no UTF-8 become U+FFFD. Raises `QueryTooLarge`."""
    if len(query) > MAX_QUERY_BYTES:
        raise QueryTooLarge(f"the query has {len(query)} bytes; at most {MAX_QUERY_BYTES} are read")
    text = query.decode(errors="replace").replace("+", " ")
    # The plus of a number is mostly the only escape there is, and can't be a part of another one.
    fields = text.replace("%2B", "+").split("&")
    if len(fields) > MAX_PARAMETERS:
        raise QueryTooLarge(f"the query has more than {MAX_PARAMETERS} parameters")
    parameters: dict[str, str | list[str]] = {}
    for field in filter(None, fields):
        name, _, value = field.partition("=")
        if "%" in field:
            name, value = unquote(name), unquote(value)
        if name not in parameters:
            parameters[name] = value
        elif isinstance(seen := parameters[name], list):
            seen.append(value)
        else:
            parameters[name] = [seen, value]
    return PrefetchQuery(
        _first(parameters.get("session_id")),
        _first(parameters.get("agent_id")),
        _first(parameters.get("from")),
        _first(parameters.get("to")),
        parameters,
    )


def _first(value: str | list[str] | None) -> str | None:
    if value is None:
        return None
    # Not stripped here: a space at the start of a number is a plus sign that went through a query string.
    first = value if isinstance(value, str) else value[0]
    return first if first.strip() else None
