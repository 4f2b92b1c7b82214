"""What a prefetch answers: what we know of the caller, for the agent that is about to speak."""

from typing import Any

import msgspec

from schemas import session_metadata as keys
from schemas.event import rfc3339
from service.prompts import Prompt
from state.profile import Profile

# What an unknown caller gets, and everyone when something is wrong: nothing changes for the agent.
EMPTY = b'{"metadata":{},"extra_prompt":""}'


def metadata_of(profile: Profile) -> dict[str, Any]:
    """Remembered metadata, over it the facts (our user's word), and a few computed keys with a prefix of their own."""
    metadata: dict[str, Any] = {**profile.metadata, **profile.facts}
    if profile.facts:
        metadata[keys.FACT_NAMES] = sorted(profile.facts)
    if profile.calls:
        metadata[keys.CALLS] = profile.calls
        if profile.last_call_at is not None:
            metadata[keys.LAST_CALL_AT] = rfc3339(profile.last_call_at)
        if profile.last_status is not None:
            metadata[keys.LAST_STATUS] = profile.last_status
        if profile.last_agent is not None:
            metadata[keys.LAST_AGENT] = profile.last_agent
    return metadata


def answer(profile: Profile, prompt: Prompt, agent_id: str | None) -> bytes:
    metadata = metadata_of(profile)
    extra_prompt = prompt.render(
        {
            **profile.facts,
            "agent_id": agent_id,
            "calls": profile.calls,
            "last_call_at": metadata.get(keys.LAST_CALL_AT),
            "last_status": profile.last_status,
            "last_agent": profile.last_agent,
            "facts": profile.facts,
            "metadata": metadata,
        },
    )
    return msgspec.json.encode({"metadata": metadata, "extra_prompt": extra_prompt})
