"""What a recording is stored as follows from its bytes, never from what the server calls it."""

import pytest

from consumers.recordings.sound import is_a_page, kind_of


@pytest.mark.parametrize(
    ("head", "extension", "content_type"),
    [
        (b"RIFF\x24\0\0\0WAVEfmt ", "wav", "audio/wav"),
        (b"RF64\xff\xff\xff\xffWAVEds64", "wav", "audio/wav"),
        (b"RIFF\x24\0\0\0AVI LIST", "bin", "application/octet-stream"),
        (b"ID3\x04\0\0\0\0\0\0", "mp3", "audio/mpeg"),
        (b"\xff\xfb\x90\x64", "mp3", "audio/mpeg"),
        (b"\xff\xf3\x40\xc0", "mp3", "audio/mpeg"),
        (b"\xff\xf1\x50\x80", "aac", "audio/aac"),
        (b"\xff\xfe<\0h\0", "bin", "application/octet-stream"),  # UTF-16, not sound
        (b"OggS\0\x02", "ogg", "audio/ogg"),
        (b"fLaC\0\0\0\x22", "flac", "audio/flac"),
        (b"\0\0\0\x20ftypM4A ", "m4a", "audio/mp4"),
        (b"\0\0\0\x20ftypisom", "mp4", "video/mp4"),
        (b"\x1a\x45\xdf\xa3", "webm", "audio/webm"),
        (b"something else", "bin", "application/octet-stream"),
        (b"\xff", "bin", "application/octet-stream"),
    ],
)
def test_a_kind_is_known_by_its_first_bytes(head: bytes, extension: str, content_type: str) -> None:
    assert (kind_of(head).extension, kind_of(head).content_type) == (extension, content_type)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"<html>", "audio/wav"),
        (b"\n <?xml version='1.0'?><Error>", "application/octet-stream"),
        (b'{"error": "not ready"}', "audio/mpeg"),
        (b"Not ready", "text/html; charset=utf-8"),
    ],
)
def test_a_page_is_no_recording(head: bytes, said: str) -> None:
    assert is_a_page(head, said)


@pytest.mark.parametrize(
    ("head", "said"), [(b"OggS\0\x02", "text/html"), (b"\x01\x02\x03", "application/octet-stream")]
)
def test_sound_is_no_page_whatever_it_is_called(head: bytes, said: str) -> None:
    assert not is_a_page(head, said)
