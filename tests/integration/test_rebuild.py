"""A new generation beside the one that is served: no answer is missing, none goes back, and a kill costs nothing."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime.settings import Settings
from state.fold import FOLD_VERSION
from state.generations import Generations
from state.layout import DAMAGE_MARK, DATA_FILE
from state.reader import ProfileReader
from tests.building import (
    builder_process,
    building,
    dump_of,
    eventually,
    folded_afresh,
    forget,
    ringlog,
    seen,
    send,
    served,
    some_events,
)
from tests.unit.state.events import Event, ended
from tests.watching import watching

pytestmark = pytest.mark.usefixtures("topics")

EARLY_CALLS = 5

# As a later version might be: it has other rules, so its profiles are others.
NEXT_VERSION = "import state.fold, state.events; state.fold.FOLD_VERSION += 1; state.events.MAX_METADATA_BYTES = 1"


def calls_of_ann(first: int, number: int) -> list[Event]:
    return [ended(f"ann-{n}", "ann", n + 1, metadata={"from": "ann"}) for n in range(first, first + number)]


async def filled(settings: Settings, events: int) -> None:
    """Ann's calls first, so that half a store has some of them, and many others'."""
    await send(settings, *calls_of_ann(0, EARLY_CALLS))
    await send(settings, *some_events(events, 1))


@contextlib.asynccontextmanager
async def builder(settings: Settings, rules: str = "") -> AsyncIterator[asyncio.subprocess.Process]:
    process = await builder_process(settings, rules)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def rebuilt(settings: Settings, *options: str) -> tuple[int, str, str]:
    process = await ringlog(settings, "state", "rebuild", *options)
    said, complained = await process.communicate()
    return int(process.returncode or 0), said.decode(), complained.decode()


async def is_idle(reader: ProfileReader, sent: int) -> None:
    """Until what is served has read all of it."""

    def is_past() -> bool:
        reader.refresh()
        return sum(reader.positions().values()) >= sent

    await eventually(is_past)


async def test_no_answer_is_missing_and_none_goes_back(settings: Settings, tmp_path: Path) -> None:
    await filled(settings, 6000)
    sent = EARLY_CALLS
    async with builder(settings), watching(settings) as watch:
        rebuilding = asyncio.create_task(rebuilt(settings, "--json"))
        while not rebuilding.done():
            await send(settings, *calls_of_ann(sent, 10))  # the builder folds them into the old one meanwhile
            sent += 10
        await send(settings, *calls_of_ann(sent, 10))
        sent += 10
        await eventually(lambda: watch.calls[-1] == sent)
    code, said, complained = await rebuilding
    assert code == 0, complained
    result = json.loads(said)
    assert (result["generation"], result["resumed"]) == (f"g2-v{FOLD_VERSION}", False)
    assert result["events"] >= 6000
    assert watch.unavailable == 0
    assert watch.calls[0] >= EARLY_CALLS
    assert watch.calls == sorted(watch.calls)
    assert watch.generations == [f"g1-v{FOLD_VERSION}", f"g2-v{FOLD_VERSION}"]
    assert [path.name for path in settings.state_dir.iterdir() if path.is_dir()] == [f"g2-v{FOLD_VERSION}"]
    assert dump_of(settings) == await folded_afresh(settings, tmp_path / "afresh")


async def test_killed_rebuild_goes_on_where_it_was(settings: Settings, tmp_path: Path) -> None:
    await filled(settings, 6000)
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == 6000 + EARLY_CALLS)
    unfinished = settings.state_dir / f"g2-v{FOLD_VERSION}" / DATA_FILE
    async with watching(settings) as watch:
        for delay in (0.0, 0.02, 0.1, 0.3):
            process = await ringlog(settings, "state", "rebuild")
            await eventually(unfinished.exists)
            await asyncio.sleep(delay)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()
            assert served(settings).name in (f"g1-v{FOLD_VERSION}", f"g2-v{FOLD_VERSION}")
            if served(settings).name == f"g2-v{FOLD_VERSION}":
                break
        else:
            code, said, complained = await rebuilt(settings, "--json")
            assert (code, json.loads(said)["generation"], json.loads(said)["resumed"]) == (
                0,
                f"g2-v{FOLD_VERSION}",
                True,
            ), complained
        await eventually(lambda: watch.generations[-1] == f"g2-v{FOLD_VERSION}")
    assert watch.unavailable == 0
    assert set(watch.calls) == {EARLY_CALLS}
    assert dump_of(settings) == await folded_afresh(settings, tmp_path / "afresh")


async def test_builder_takes_over_what_a_killed_rebuild_had_finished(settings: Settings) -> None:
    await filled(settings, 200)
    async with builder(settings) as running, watching(settings) as watch:
        await is_idle(watch.reader, 200 + EARLY_CALLS)
        running.send_signal(signal.SIGSTOP)
        process = await ringlog(settings, "state", "rebuild")
        await eventually(lambda: Generations(settings.state_dir).offered() is not None)
        process.kill()
        await process.communicate()
        assert served(settings).name == f"g1-v{FOLD_VERSION}"
        await send(settings, *calls_of_ann(EARLY_CALLS, 1))
        running.send_signal(signal.SIGCONT)
        await eventually(lambda: watch.generations[-1] == f"g2-v{FOLD_VERSION}" and watch.calls[-1] == EARLY_CALLS + 1)
    assert watch.unavailable == 0
    assert watch.calls == sorted(watch.calls)


async def test_offer_that_is_of_no_use_is_given_up_and_the_old_one_folded_on(settings: Settings) -> None:
    await filled(settings, 100)
    async with building(settings) as running:
        await eventually(lambda: seen(running) == 100 + EARLY_CALLS)
        generations = Generations(settings.state_dir)
        path = generations.begin()
        (path / DATA_FILE).write_bytes(b"no database" * 10_000)
        generations.offer(path)
        await eventually(lambda: not path.exists())
        await send(settings, *calls_of_ann(EARLY_CALLS, 3))
        await eventually(lambda: seen(running) == 100 + EARLY_CALLS + 3)
    assert served(settings).name == f"g1-v{FOLD_VERSION}"


async def test_second_rebuild_is_told_of_the_first(settings: Settings) -> None:
    await filled(settings, 10)
    with Generations(settings.state_dir).rebuilding():
        code, said, complained = await rebuilt(settings)
    assert (code, said) == (1, "")
    assert "Nothing was done: another process" in complained
    assert "builds a new generation" in complained
    code, said, complained = await rebuilt(settings)
    assert code == 0, complained
    assert said.startswith(f"g1-v{FOLD_VERSION} is served: ")
    assert f"{10 + EARLY_CALLS:,} events were folded" in said


async def test_other_rules_make_a_generation_of_their_own_and_the_old_one_answers_until_then(
    settings: Settings,
) -> None:
    await filled(settings, 3000)
    async with building(settings) as first:
        await eventually(lambda: seen(first) == 3000 + EARLY_CALLS)
    async with watching(settings) as watch:
        nowhere = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
        async with builder(nowhere, NEXT_VERSION):
            await asyncio.sleep(2)
        assert watch.generations == [f"g1-v{FOLD_VERSION}"]
        async with builder(settings, NEXT_VERSION):
            await eventually(lambda: watch.generations == [f"g1-v{FOLD_VERSION}", f"g2-v{FOLD_VERSION + 1}"])
            await send(settings, *calls_of_ann(EARLY_CALLS, 1))
            await eventually(lambda: watch.calls[-1] == EARLY_CALLS + 1)
        assert watch.metadata == [{"from": "ann"}, {}]
        async with builder(settings):  # and back: an older version follows its own rules again
            await eventually(
                lambda: watch.generations == [f"g1-v{FOLD_VERSION}", f"g2-v{FOLD_VERSION + 1}", f"g3-v{FOLD_VERSION}"]
            )
    assert watch.unavailable == 0
    assert watch.calls == sorted(watch.calls)
    assert watch.metadata == [{"from": "ann"}, {}, {"from": "ann"}]


async def test_damaged_store_is_replaced_and_nothing_of_it_is_answered(settings: Settings, tmp_path: Path) -> None:
    await filled(settings, 500)
    async with builder(settings), watching(settings) as watch:
        await eventually(lambda: bool(watch.calls))
        file = served(settings) / DATA_FILE
        spoilt = file.read_bytes().replace(b"agent-1", b"agent-9")
        with file.open("r+b") as same:  # the file that is mapped, not another one of its name
            same.write(spoilt)
        await eventually(lambda: watch.generations[-1] == f"g2-v{FOLD_VERSION}" and watch.reader.available)
    assert set(watch.calls) == {EARLY_CALLS}
    assert watch.unavailable > 0
    assert not (served(settings) / DAMAGE_MARK).exists()
    assert dump_of(settings) == await folded_afresh(settings, tmp_path / "afresh")


async def test_rebuild_that_would_forget_is_refused_unless_told(settings: Settings, tmp_path: Path) -> None:
    await filled(settings, 300)
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == 300 + EARLY_CALLS)
    await forget(settings, keep=20)
    code, said, complained = await rebuilt(settings)
    assert (code, said) == (1, "")
    assert "A new generation would know less than the topics once said: calls.ended/0 begins at " in complained
    assert "With --forgetful it is built from what there is." in complained
    assert [path.name for path in settings.state_dir.iterdir() if path.is_dir()] == [f"g1-v{FOLD_VERSION}"]
    code, said, complained = await rebuilt(settings, "--forgetful")
    assert code == 0, complained
    assert said.startswith(f"g2-v{FOLD_VERSION} is served: ")
    assert dump_of(settings) == await folded_afresh(settings, tmp_path / "afresh")


async def test_what_only_an_old_generation_knows_is_served_on_until_somebody_decides(settings: Settings) -> None:
    await filled(settings, 300)
    async with building(settings) as first:
        await eventually(lambda: seen(first) == 300 + EARLY_CALLS)
    await forget(settings, keep=20)
    old = settings.state_dir / f"g1-v{FOLD_VERSION - 1}"  # as if other rules had made it
    served(settings).rename(old)
    Generations(settings.state_dir).swap(old)
    async with building(settings) as second:
        await eventually(lambda: "is not folded on" in second.health().reasons["store"])
        health = second.health()
        assert (health.ready, health.reasons["stale"]) == (True, True)
        assert f"g1-v{FOLD_VERSION - 1} follows the rules of fold version {FOLD_VERSION - 1}" in health.reasons["store"]
        assert "events before it are gone from the topic" in health.reasons["store"]
        assert served(settings) == old
        with contextlib.closing(ProfileReader(settings.state_dir)) as reader:
            ann = reader.get("ann")
            assert ann is not None
            assert (ann.calls, reader.is_old) == (EARLY_CALLS, True)
        code, said, complained = await rebuilt(settings, "--forgetful")
        assert code == 0, complained
        assert said.startswith(f"g2-v{FOLD_VERSION} is served: ")
        await eventually(lambda: second.health().reasons["store"] == "folding")
        assert not second.health().reasons["stale"]
    assert served(settings).name == f"g2-v{FOLD_VERSION}"


async def test_damaged_rebuild_is_begun_again(settings: Settings, tmp_path: Path) -> None:
    await filled(settings, 50)
    unfinished = Generations(settings.state_dir).begin()
    (unfinished / DATA_FILE).write_bytes(b"no database" * 10_000)
    async with building(settings) as builder:
        await eventually(lambda: seen(builder) == 50 + EARLY_CALLS)
    assert served(settings).name == f"g1-v{FOLD_VERSION}"
    assert dump_of(settings) == await folded_afresh(settings, tmp_path / "afresh")
