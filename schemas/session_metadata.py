"""The metadata of a session: what the provider carries from our answer to its end of call, and so back to us."""

from collections.abc import Mapping
from typing import Any

# Keys that we compute begin with this. They describe the moment of the answer, and are worth nothing afterwards.
COMPUTED_PREFIX = "ringlog_"

CALLS = "ringlog_calls"
LAST_CALL_AT = "ringlog_last_call_at"
LAST_STATUS = "ringlog_last_status"
LAST_AGENT = "ringlog_last_agent"

# The names of the facts in an answer. Without it a fact that our user has deleted would live on: it went out with an
# answer, came back as the session's metadata, and would be remembered as if the call had said so.
FACT_NAMES = "ringlog_facts"


def remembered(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What of a session's final metadata is the session's own: without what our answer had put into it."""
    names = metadata.get(FACT_NAMES)
    facts = {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()
    return {
        name: value for name, value in metadata.items() if not name.startswith(COMPUTED_PREFIX) and name not in facts
    }
