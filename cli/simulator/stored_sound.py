"""The recordings that were stored, read back: what a row says of its object is not yet what lies there."""

import asyncio
import hashlib
from collections.abc import Mapping

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from cli.simulator.comparison import Difference, sound_text
from cli.simulator.sound import Sound

# Objects read at a time: a folder needs one, a bucket answers each after a while.
_AT_ONCE = 16


class StoredSounds:
    """Objects below a recordings URL. Raises `ValueError` for one that names no storage."""

    def __init__(self, url: str) -> None:
        try:
            self._store: ObjectStore = LocalStore.from_url(url) if url.startswith("file:") else from_url(url)
        except (BaseError, OSError) as error:
            raise ValueError(f"the recordings' storage can't be opened: {str(error).partition(chr(10))[0]}") from None

    async def differences(self, expected: Mapping[str, tuple[str, Sound]]) -> list[Difference]:
        """`expected` is (object, sound) by session."""
        free = asyncio.Semaphore(_AT_ONCE)

        async def one(session_id: str, name: str, sound: Sound) -> Difference | None:
            async with free:
                said = await self._read(name)
            wanted = sound_text(sound.bytes, sound.sha256)
            return None if said == wanted else Difference(session_id, f"object {name}", wanted, said)

        found = await asyncio.gather(*(one(session_id, *it) for session_id, it in expected.items()))
        return [difference for difference in found if difference is not None]

    async def _read(self, name: str) -> str:
        try:
            content = bytes(await (await obstore.get_async(self._store, name)).bytes_async())
        except (BaseError, OSError) as error:
            return f"unreadable: {str(error).partition(chr(10))[0]}"
        return sound_text(len(content), hashlib.sha256(content).hexdigest())
