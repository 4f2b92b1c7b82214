"""The sound of a call, made from its name: no simulator needs to remember what another one served."""

import hashlib
import struct

import msgspec

CONTENT_TYPE = "audio/wav"

# Of 8-bit mono at 8 kHz: from a tenth of a second to two and a half. Small, because thousands are fetched in a test.
MIN_BYTES = 1_000
MAX_BYTES = 20_000
_RATE_HZ = 8000

# Noise, but a quiet one: samples of 8 bits rest at 128.
_QUIET = bytes(120 + value % 16 for value in range(256))


class Sound(msgspec.Struct, frozen=True):
    """What must be in storage."""

    bytes: int
    sha256: str


def wav(name: str) -> bytes:
    """A valid WAV file of 1 to 20 kB. The same for the same name, another one for another."""
    seed = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=16).digest()
    length = (MIN_BYTES + int.from_bytes(seed[:4], "big") % (MAX_BYTES - MIN_BYTES)) // 2 * 2
    samples = hashlib.shake_256(seed).digest(length).translate(_QUIET)
    return _header(length) + samples


def sound_of(name: str) -> Sound:
    content = wav(name)
    return Sound(len(content), hashlib.sha256(content).hexdigest())


def _header(length: int) -> bytes:
    """RIFF, PCM, one channel, one byte a sample. Source: the RIFF WAVE format, fixed since 1991."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, _RATE_HZ, _RATE_HZ, 1, 8)
    data = struct.pack("<4sI", b"data", length)
    return struct.pack("<4sI4s", b"RIFF", 4 + len(form) + len(data) + length, b"WAVE") + form + data
