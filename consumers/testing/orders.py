"""Many trials of the same events: in other orders, in other batches, killed elsewhere."""

from collections.abc import Iterator
from random import Random

from consumers.contract import Record
from consumers.testing.trial import Trial

# An event that is delivered twice is not rare: every fifth is here.
_REPEATED = 0.2


def any_order(*events: Record, tries: int = 20, seed: int = 0, arriving: bool = True) -> Iterator[Trial]:
    """Trials, each with other batches and partitions, interleaved in another way.

    With `arriving`, the events also arrive in another order, and some of them twice, as webhooks do: what a consumer
    makes of a set of events should be the same each time. Without, each partition has its events in the order given.
    """
    for number in range(tries):
        chance = Random(f"{seed}/{number}")  # noqa: S311 - repeatable, and guards nothing
        arrived = list(events)
        if arriving:
            arrived += [event for event in events if chance.random() < _REPEATED]
            chance.shuffle(arrived)
        with Trial(*arrived, partitions=chance.randint(1, 4), chance=chance) as trial:
            yield trial


def killed_everywhere(*events: Record, partitions: int = 2, most: int = 100, seed: int = 0) -> Iterator[Trial]:
    """First a trial that nothing disturbs; then, for each step of it, one that is killed there and started again.

    A step is a line of the consumer's own file, or the moment before or after a commit. Of more than `most` steps so
    many are chosen by chance. Batches are small, and after the kill others than before.
    """
    with Trial(*events, partitions=partitions, chance=Random(seed)) as undisturbed:  # noqa: S311 - as above
        yield undisturbed
        steps = range(1, undisturbed.steps + 1)
    if len(steps) > most:
        steps = sorted(Random(seed).sample(steps, most))  # type: ignore[assignment]  # noqa: S311 - as above
    for at in steps:
        with Trial(*events, partitions=partitions, chance=Random(seed), killed_at=at) as trial:  # noqa: S311 - as above
            yield trial
