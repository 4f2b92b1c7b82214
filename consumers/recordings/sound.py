"""What kind of sound some bytes are, by the bytes alone: what a server says of them is a guest's word."""

import codecs

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
MATROSKA = Kind("mka", "audio/x-matroska")
AMR = Kind("amr", "audio/amr")
AMR_WB = Kind("awb", "audio/amr-wb")
THREE_GPP = Kind("3gp", "audio/3gpp")
AIFF = Kind("aiff", "audio/aiff")
AU = Kind("au", "audio/basic")
CAF = Kind("caf", "audio/x-caf")
UNKNOWN = Kind("bin", "application/octet-stream")  # kept: sound that we don't know yet is still the customer's

KINDS = (WAV, MP3, AAC, OGG, FLAC, M4A, MP4, WEBM, MATROSKA, AMR, AMR_WB, THREE_GPP, AIFF, AU, CAF, UNKNOWN)

# Sources: the formats' own specifications; RFC 3267 for AMR, RFC 8794 for Matroska's head, RFC 3533 for Ogg.
_MAGIC = (
    (b"OggS", OGG),
    (b"fLaC", FLAC),
    (b"ID3", MP3),
    (b"#!AMR-WB", AMR_WB),
    (b"#!AMR", AMR),
    (b".snd", AU),
    (b"caff", CAF),
)

_utf8 = codecs.getincrementaldecoder("utf-8")
_utf16 = codecs.getincrementaldecoder("utf-16")

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
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return AIFF
    if head[4:8] == b"ftyp":
        return {b"M4A": M4A, b"M4B": M4A, b"3gp": THREE_GPP}.get(head[8:11], MP4)
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return MATROSKA if b"matroska" in head else WEBM
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), None) or _mpeg(head)


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
    return said_type.lower().startswith(_PAGE_TYPES) or _is_text(head)


def _is_text(head: bytes) -> bool:
    """Whatever it says, in whatever notation. No sound begins with so many letters and no control character."""
    decoder = _utf16 if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else _utf8
    try:
        text = decoder().decode(head)  # without a last character that `HEAD_BYTES` has cut
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\ufeff\t\r\n\f" for letter in text)
