"""What kind of sound some bytes are, by the bytes alone: what a server says of them is a guest's word."""

import msgspec

HEAD_BYTES = 64  # all that is looked at


class Kind(msgspec.Struct, frozen=True):
    """`content_type` is what the object is stored and served as, whatever the server called it."""

    extension: str
    content_type: str


WAV = Kind("wav", "audio/wav")
MP3 = Kind("mp3", "audio/mpeg")
AAC = Kind("aac", "audio/aac")
OGG = Kind("ogg", "audio/ogg")
FLAC = Kind("flac", "audio/flac")
M4A = Kind("m4a", "audio/mp4")
MP4 = Kind("mp4", "video/mp4")
WEBM = Kind("webm", "audio/webm")
UNKNOWN = Kind("bin", "application/octet-stream")  # kept: sound that we don't know yet is still the customer's

KINDS = (WAV, MP3, AAC, OGG, FLAC, M4A, MP4, WEBM, UNKNOWN)

_PAGE_TYPES = (
    "text/html",
    "application/xhtml",
    "application/json",
    "application/problem",
    "application/xml",
    "text/xml",
)


def kind_of(head: bytes) -> Kind:
    """By the first `HEAD_BYTES` of a file."""
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return WAV
    if head[4:8] == b"ftyp":
        return M4A if head[8:11] in (b"M4A", b"M4B") else MP4
    for magic, kind in ((b"OggS", OGG), (b"fLaC", FLAC), (b"\x1a\x45\xdf\xa3", WEBM), (b"ID3", MP3)):
        if head.startswith(magic):
            return kind
    return _mpeg(head)


def _mpeg(head: bytes) -> Kind:
    """A bare MPEG frame: eleven set bits, then version, layer and bitrate, some values of which don't exist."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return UNKNOWN
    version, layer, bitrate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4
    if layer == 0:  # no MPEG layer: AAC's frames begin with the same bits
        return AAC if head[1] & 0xF6 == 0xF0 else UNKNOWN
    # Layer I (3) is extinct, and is what UTF-16's mark looks like.
    return MP3 if layer != 3 and version != 1 and bitrate != 15 else UNKNOWN


def is_a_page(head: bytes, said_type: str) -> bool:
    """Whether this is a page or a message with which a server says, under a 200, that it has no sound."""
    if kind_of(head) is not UNKNOWN:
        return False
    return said_type.lower().startswith(_PAGE_TYPES) or head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"<", b"{")
