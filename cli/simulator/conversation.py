"""What is said in a simulated call, and which functions the agent calls."""

from random import Random
from typing import Any

from cli.simulator.call import FunctionCall

_CALLER = (
    "Hi, I'd like to move my appointment.",
    "Is anyone there?",
    "Thursday would be fine, but not before ten.",
    "¿Puede repetirlo, por favor?",
    "我想取消预约。",
    'They told me "wait for the letter", and no letter came.',
    "It's about order 6689 \u2013 the one with the broken lid 🙈",
    "Thanks, that was all.",
)
_AGENT = (
    "Good morning, what can I do for you?",
    "One moment, I'm looking it up.",
    "I have Thursday at half past ten.\nShall I book it?",
    "Claro, con mucho gusto.",
    "Your order left our warehouse yesterday: C:\\orders\\6689.",
    "You're welcome. Goodbye!",
)
_FUNCTIONS = ("check_status", "find_slot", "book_slot", "transfer_call")

# The provider's words for the two who speak. Source: its webhook page.
SENT_ROLES = {"user": "user", "agent": "assistant"}


def draw_turns(dice: Random) -> list[tuple[str, str]]:
    """(role, text), as the books name the roles: agent and caller take turns, the agent begins."""
    return [
        ("user", dice.choice(_CALLER)) if position % 2 else ("agent", dice.choice(_AGENT))
        for position in range(dice.randint(1, 9))
    ]


def draw_function_calls(dice: Random, session_id: str) -> list[FunctionCall]:
    return [
        FunctionCall(
            name,
            {"check": "true", "order_id": dice.randint(1, 9999), "session_id": session_id},
            dice.choice((None, {"found": True, "slots": [10.5, 14]}, "done")),
        )
        for name in dice.sample(_FUNCTIONS, dice.choice((0, 0, 1, 2)))
    ]


def sent_turns(turns: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """As the provider's page shows them."""
    return [{"role": SENT_ROLES[role], "content": text} for role, text in turns]


def sent_function_calls(calls: list[FunctionCall]) -> list[dict[str, Any]]:
    """Without a result when there is none."""
    return [
        {"name": call.name, "params": call.params} | ({} if call.result is None else {"result": call.result})
        for call in calls
    ]
