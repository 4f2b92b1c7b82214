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
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm", "webm", "audio/webm"),
        (b"\x1a\x45\xdf\xa3\xa3\x42\x86\x81\x01\x42\x82\x88matroska", "mka", "audio/x-matroska"),
        (b"#!AMR\n\x3c", "amr", "audio/amr"),
        (b"#!AMR-WB\n\x24", "awb", "audio/amr-wb"),
        (b"\0\0\0\x1cftyp3gp4", "3gp", "audio/3gpp"),
        (b"FORM\0\0\x10\0AIFFCOMM", "aiff", "audio/aiff"),
        (b"FORM\0\0\x10\0AIFCFVER", "aiff", "audio/aiff"),
        (b"FORM\0\0\x10\0ILBMBMHD", "bin", "application/octet-stream"),
        (b".snd\0\0\0\x18", "au", "audio/basic"),
        (b"caff\0\x01\0\0desc", "caf", "audio/x-caf"),
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
        (b"The recording is being processed.", "audio/wav"),
        (b"[1, 2]", "audio/wav"),
        (b"\xef\xbb\xbferror,404\r\n", "audio/mpeg"),
        ("Die Aufnahme gibt es noch nicht, bitte später: in einer Min".encode() + "ü".encode()[:1], "audio/wav"),
        ("<html>".encode("utf-16"), "audio/wav"),
    ],
)
def test_a_page_is_no_recording(head: bytes, said: str) -> None:
    assert is_a_page(head, said)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"OggS\0\x02", "text/html"),
        (b"\x01\x02\x03", "application/octet-stream"),
        (b"#!AMR\n", "text/plain"),
        (b"\x7f" * 64, "text/plain"),  # silence in mu-law
        (b"\xff" * 64, "text/plain"),
        (b"\0" * 64, "text/plain"),
        (b"\xff\xfe\0\0\x01\0\x02\0", "text/plain"),  # 16-bit samples, the first of them UTF-16's mark
        (b"\x80" * 64, "text/plain"),
        (b"\xd5" * 64, "text/plain"),  # silence in A-law
    ],
)
def test_sound_is_no_page_whatever_it_is_called(head: bytes, said: str) -> None:
    assert not is_a_page(head, said)
