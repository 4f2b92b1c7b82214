"""Reading a body, within limits of size and time."""

import asyncio
import hashlib
from collections.abc import Iterable
from typing import Any

import pytest
from starlette.types import Receive

from service import body
from service.body import BodyIncomplete, BodyTooLarge, read_body


def sent(parts: Iterable[bytes], *, whole: bool = True) -> Receive:
    """What a client sends, and then it goes away."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if whole:
        messages[-1]["more_body"] = False
    messages.append({"type": "http.disconnect"})
    left = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(left)

    return receive


async def test_a_body_comes_in_one_or_in_many_parts() -> None:
    assert await read_body(sent([b"abc"]), 3) == b"abc"
    assert await read_body(sent([b"a", b"", b"bc"]), 3) == b"abc"
    assert await read_body(sent([b""]), 3) == b""


async def test_a_body_over_the_limit_is_read_on_for_its_size_and_hash() -> None:
    parts = [b"x" * 50_000, b"y" * 50_000, b"z" * 50_000]
    with pytest.raises(BodyTooLarge) as refused:
        await read_body(sent(parts), 10)
    assert refused.value.head == (parts[0] + parts[1])[: len(refused.value.head)]
    assert refused.value.size == 150_000
    assert refused.value.sha256 == hashlib.sha256(b"".join(parts)).hexdigest()


async def test_the_head_of_a_large_body_survives_a_client_that_goes_away() -> None:
    with pytest.raises(BodyTooLarge) as refused:
        await read_body(sent([b"abcdef", b"gh"], whole=False), 3)
    assert (refused.value.head, refused.value.size) == (b"abcdef", 8)
    assert refused.value.sha256 == hashlib.sha256(b"abcdefgh").hexdigest()


async def test_an_endless_body_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "READ_ON_BYTES", 1000)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * 100, "more_body": True}

    with pytest.raises(BodyTooLarge) as refused:
        await read_body(receive, 10)
    assert 1000 < refused.value.size <= 1100


async def test_a_client_that_goes_away_or_is_too_slow_leaves_what_came(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BodyIncomplete) as left:
        await read_body(sent([b"ab", b"c"], whole=False), 10)
    assert left.value.received == b"abc"

    monkeypatch.setattr(body, "BODY_DEADLINE_S", 0.05)
    began = iter([{"type": "http.request", "body": b"ab", "more_body": True}])

    async def slowly() -> dict[str, Any]:
        for message in began:
            return message
        await asyncio.sleep(60)
        raise AssertionError

    with pytest.raises(BodyIncomplete) as late:
        await read_body(slowly, 10)
    assert late.value.received == b"ab"
