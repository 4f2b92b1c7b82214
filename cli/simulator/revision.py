"""A call told twice: the first body, and a later one that corrects it.

Each function is given the story of the first body and changes it to that of the second. What the books say afterwards
follows from the design: the later body counts, but what it does not know takes nothing away.
"""

from collections.abc import Callable

from cli.simulator.conversation import sent_turns
from cli.simulator.credit import draw_micros
from cli.simulator.story import Story

Revision = Callable[[Story], None]


def cost_changed(story: Story) -> None:
    """One item dearer, and one more."""
    costs = {service: micros + draw_micros(story.dice) for service, micros in (story.books.costs or {}).items()}
    story.bill(costs | {("analysis", "millis"): draw_micros(story.dice)})


def cost_item_gone(story: Story) -> None:
    """An item is taken back, another one comes: the ledger needs a difference below zero."""
    story.bill(dict(list((story.books.costs or {}).items())[1:]) | {("refund-free", "millis"): draw_micros(story.dice)})


def chat_changed(story: Story) -> None:
    story.books.turns = [*story.books.turns, ("user", "And one thing more."), ("agent", "Of course.")]
    story.body["chat"] = sent_turns(story.books.turns)


def cost_known_later(story: Story) -> None:
    """The first body's cost is null: see `FIRST`."""
    story.bill({("stt", "millis"): draw_micros(story.dice), ("llm", "openai"): draw_micros(story.dice)})


def cost_unknown_later(story: Story) -> None:
    """Known, then null: what was known stays."""
    story.body["cost_breakdown"] = None


def recording_known_later(story: Story) -> None:
    """The first body has no recording yet: see `FIRST`."""
    story.record("")


def _without_cost(story: Story) -> None:
    story.body["cost_breakdown"] = story.books.costs = None


def _without_recording(story: Story) -> None:
    story.body["recording"], story.books.recording = {}, None


# What the first body must be like for the second to be the revision that it is.
FIRST: dict[Revision, Revision] = {cost_known_later: _without_cost, recording_known_later: _without_recording}

REVISIONS: tuple[Revision, ...] = (
    cost_changed,
    cost_known_later,
    chat_changed,
    cost_unknown_later,
    cost_item_gone,
    recording_known_later,
)
