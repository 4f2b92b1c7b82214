"""A replay that is killed, refused or in a hurry: the live tables are the old ones or the new ones, and never a mix."""

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import exc, func, select, update

from consumers.replay.building import Interrupted
from consumers.replay.lock import locked
from consumers.replay.replay import Wanted, replay
from consumers.replay.shadow import Shadow
from consumers.replay.swap import TooLong
from consumers.tables import billing_entries, outbox, plan_charges, positions, revisions
from runtime.settings import Settings
from schemas.event import Record
from tests.integration.replay_scene import HISTORY, Scene, call, doubling, open_scene, spread
from tests.posted import events_in
from tests.tallying import until

SESSIONS = 4_000
BOOKS = (billing_entries, plan_charges, revisions, positions)


@pytest.fixture
def scene(settings: Settings, database_url: str, tmp_path: Path) -> Iterator[Scene]:
    with open_scene(settings, database_url, tmp_path) as scene:
        yield scene


@pytest.fixture
def spoilt(scene: Scene) -> Scene:
    """Every bill is another than it should be."""
    scene.publish(spread([call(f"s{n}", n, n % 7 + 1) for n in range(SESSIONS)]))
    scene.consume(scene.billing(), SESSIONS)
    scene.change(update(billing_entries).values(amount_micros=billing_entries.c.amount_micros * 2))
    scene.change(update(plan_charges).values(amount_micros=1))
    return scene


def built(scene: Scene) -> int:
    """How many events the shadow has."""
    shadow = Shadow(scene.engine, "billing")
    if shadow.recipe() is None:
        return 0
    with shadow.engine.begin() as tx:
        return int(tx.execute(select(func.sum(positions.c.next_offset))).scalar() or 0)


def killed_when(process: subprocess.Popen[str], condition: Callable[[], bool], after_s: float = 0.0) -> bool:
    """False when it had ended before."""
    while not condition():
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def test_a_replay_that_was_killed_goes_on_from_there(spoilt: Scene) -> None:
    before = spoilt.rows(*BOOKS)
    assert killed_when(spoilt.process("billing"), lambda: built(spoilt) > 0)
    recipe = Shadow(spoilt.engine, "billing").recipe()
    assert recipe is not None and 0 < built(spoilt) <= SESSIONS
    assert spoilt.rows(*BOOKS) == before
    found = spoilt.replay("billing", code=4)
    assert (found["events"], found["differing"], found["anew"]) == (SESSIONS, SESSIONS, None)
    assert Shadow(spoilt.engine, "billing").recipe() == recipe
    assert spoilt.rows(*BOOKS) == before


def test_one_that_is_stopped_keeps_what_it_has_built(spoilt: Scene) -> None:
    stop = asyncio.Event()
    stop.set()
    with pytest.raises(Interrupted):
        asyncio.run(replay(spoilt.settings, spoilt.engine, Wanted(consumer="billing"), stop, lambda *_: None))
    assert 0 < built(spoilt) < SESSIONS
    assert spoilt.replay("billing", code=4)["events"] == SESSIONS


def is_locked(scene: Scene) -> bool:
    """Whether the live consumer would have to wait."""
    if scene.engine.dialect.name == "postgresql":
        with scene.engine.connect() as tx:
            try:
                tx.execute(select(positions).with_for_update(nowait=True)).all()
            except exc.OperationalError:
                return True
        return False
    with contextlib.closing(sqlite3.connect(str(scene.engine.url.database), timeout=0)) as file:
        try:
            file.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        file.rollback()
    return False


def test_a_swap_that_was_killed_has_changed_all_or_nothing(spoilt: Scene) -> None:
    spoilt.replay("billing", code=4)
    old = spoilt.rows(*BOOKS)
    outcomes = []
    for delay_s in (0.0, 0.2, 0.5):
        if not killed_when(spoilt.process("billing", "--swap"), lambda: is_locked(spoilt), delay_s):
            outcomes.append("ended")
            break
        asyncio.run(until(lambda: not is_locked(spoilt)))
        changed = spoilt.rows(*BOOKS) != old
        told = events_in(spoilt.engine)
        assert len(told) == (SESSIONS if changed else 0)
        outcomes.append("new" if changed else "old")
        if changed:
            break
    assert "old" in outcomes
    if set(outcomes) == {"old"}:
        assert spoilt.replay("billing", "--swap")["swapped"]["sessions"] == SESSIONS
    assert spoilt.replay("billing")["different"] is False
    told = events_in(spoilt.engine)
    assert len(told) == len({it.event_id for it in told}) == SESSIONS
    assert "The ledger agrees with the log." in spoilt.run("billing", "verify").stdout


def test_of_two_replays_at_once_the_second_is_refused(scene: Scene) -> None:
    file = Shadow(scene.engine, "billing").lock_file
    with locked(scene.engine, "billing", file):
        said = scene.run("replay", "billing", code=1)
        assert "Another replay of billing is running" in said.stderr
        assert "Another replay of billing is running" in scene.run("replay", "billing", "--discard", code=1).stderr
        with locked(scene.engine, "calls", Shadow(scene.engine, "calls").lock_file):
            pass


def test_a_swap_that_would_hold_the_consumer_up_for_too_long_changes_nothing(spoilt: Scene) -> None:
    before = spoilt.rows(*BOOKS, outbox)
    wanted = Wanted(consumer="billing", swap=True, longest_lock_s=0.01)
    with pytest.raises(TooLong, match="Nothing was changed: the swap would have held up billing"):
        asyncio.run(replay(spoilt.settings, spoilt.engine, wanted, asyncio.Event(), lambda *_: None))
    assert spoilt.rows(*BOOKS, outbox) == before
    assert not is_locked(spoilt)


def test_what_billing_reads_between_the_comparison_and_the_lock_is_neither_lost_nor_left(scene: Scene) -> None:
    scene.publish(HISTORY)
    with doubling():
        scene.consume(scene.billing(), len(HISTORY))
    arrives = {"Comparing": [call("cx", 20, 6)], "Swapping": [call("bx", 21, 7), call("a", 22, 8)]}
    events, locked_while_read = len(HISTORY), []

    def tell(what: str, _done: int, _total: int) -> None:
        nonlocal events
        if what in arrives and (records := spread(arrives.pop(what))):
            events += len(records)
            elsewhere(lambda: (scene.publish(records), scene.consume(scene.billing(), events)))
        elif not arrives:  # the tail is read, and nothing comes after it any more
            locked_while_read.append(is_locked(scene))

    wanted = Wanted(consumer="billing", swap=True)
    report = asyncio.run(replay(scene.settings, scene.engine, wanted, asyncio.Event(), tell))
    assert report.swapped is not None
    assert (report.moved, report.differing, report.swapped.sessions) == (1, 1, 2)
    assert locked_while_read and all(locked_while_read)
    assert scene.bills() == {"a": 8_000_000, "bx": 7_000_000, "cx": 6_000_000}
    assert "The ledger agrees with the log." in scene.run("billing", "verify").stdout


def test_a_swap_compares_what_could_not_be_compared_before_even_if_nothing_else_differs(scene: Scene) -> None:
    scene.publish(spread([call("cx", 5, 5)]))
    with doubling():
        scene.consume(scene.billing(), 1)
    later = spread([call("cx", 20, None)])  # a cost that is not known changes nothing: the old entries stay

    def tell(what: str, _done: int, _total: int) -> None:
        if what == "Comparing":
            elsewhere(lambda: (scene.publish(later), scene.consume(scene.billing(), 2)))

    wanted = Wanted(consumer="billing", swap=True)
    report = asyncio.run(replay(scene.settings, scene.engine, wanted, asyncio.Event(), tell))
    assert report.swapped is not None
    assert (report.moved, report.differing, report.swapped.sessions, report.swapped.told) == (1, 0, 1, 1)
    assert scene.bills() == {"cx": 5_000_000}


def elsewhere(call_: Callable[[], object]) -> None:
    """What needs a loop of its own, while this thread's waits."""
    thread = threading.Thread(target=call_)
    thread.start()
    thread.join()


def test_calls_keep_coming_while_it_is_swapped(spoilt: Scene) -> None:
    """What arrives before, during and after the swap is billed once, by whoever reads it."""
    late = [call(f"s{n}", 10_000 + n, 9) for n in range(0, SESSIONS, 4)]
    new = [call(f"new{n}", 20_000 + n, 1) for n in range(500)]
    with spoilt.consuming(spoilt.billing()):
        feeding = threading.Thread(target=lambda: [spoilt.publish(spread(it)) for it in portions([*late, *new])])
        feeding.start()
        swapped = spoilt.replay("billing", "--swap")["swapped"]
        feeding.join()
        events = SESSIONS + len(late) + len(new)
        spoilt.consumed("billing", events)
    assert swapped["sessions"] > SESSIONS // 2
    said = spoilt.run("billing", "verify").stdout
    assert f"{events} events" in said and "The ledger agrees with the log." in said


def portions(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    return (records[start : start + 50] for start in range(0, len(records), 50))
