"""The example, without a broker: the same counts, whatever happens."""

from calls_per_minute import CallsPerMinute, calls_per_minute

from consumers.testing import AGENT, BEGINNING, Trial, any_order, ended, killed_everywhere, odd_calls, revised

MINUTE_US = 60_000_000
FIRST = int(BEGINNING.timestamp()) * 1_000_000  # the beginning of a minute

# Five calls, of which one moves to another minute when it is revised, and one to another agent and back.
MOVED = ended("moved", at=10, ts=BEGINNING.timestamp() + 5)
BACK = ended("back", at=20, ts=BEGINNING.timestamp() + 6)
EVENTS = [
    ended("early", at=0, ts=BEGINNING.timestamp()),
    ended("late", at=86_400, ts=BEGINNING.timestamp() + 59.9),
    ended("without-a-start", at=61, ts=None),
    MOVED,
    revised(MOVED, ts=BEGINNING.timestamp() + 65),
    BACK,
    revised(BACK, after=1, agent_id="another", ts=1.5),
    revised(BACK, after=2, chars_used=0),
]
COUNTED = [(FIRST, AGENT, 3), (FIRST + MINUTE_US, AGENT, 2)]


def test_a_call_counts_where_it_began_and_a_revision_moves_it() -> None:
    with Trial(*EVENTS[:4]) as trial:
        trial.run(CallsPerMinute)
        assert trial.rows(calls_per_minute) == [(FIRST, AGENT, 3), (FIRST + MINUTE_US, AGENT, 1)]
        trial.publish(*EVENTS[4:], *EVENTS)
        trial.run(CallsPerMinute)
        assert trial.rows(calls_per_minute) == COUNTED


def test_the_counts_are_the_same_for_any_order() -> None:
    for trial in any_order(*EVENTS):
        trial.run(CallsPerMinute)
        assert trial.rows(calls_per_minute) == COUNTED


def test_the_counts_are_the_same_wherever_it_is_killed() -> None:
    for trial in killed_everywhere(*EVENTS, most=100):
        trial.run(CallsPerMinute)
        assert trial.rows(calls_per_minute) == COUNTED, trial


def test_every_odd_call_counts_once() -> None:
    with Trial(*odd_calls(), *odd_calls()) as trial:
        trial.run(CallsPerMinute)
        assert trial.dead_letters == []
        assert sum(calls for _, _, calls in trial.rows(calls_per_minute)) == len(odd_calls())
