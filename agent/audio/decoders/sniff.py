"""Tells compressed sound by its first bytes, so that it is refused in words and never played as noise."""

from __future__ import annotations

from agent.errors import AudioError

_MAGIC = {b"ID3": "mp3", b"OggS": "Ogg", b"fLaC": "FLAC", b"\x1aE\xdf\xa3": "WebM"}
_MPEG1_KILOBITS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2_KILOBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATE_SHIFT = {3: 0, 2: 1, 0: 2}  # MPEG 1, 2 and 2.5, by the version bits


def is_uncompressed(start: bytes | bytearray) -> bool:
    """``True``: these are no compressed bytes; ``False``: too few to tell. ``AudioError`` where sound is compressed."""
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            raise _refusal(kind)
    if any(magic.startswith(bytes(start)) for magic in _MAGIC):
        return False
    mp3 = _begins_like_mp3(start)
    if mp3:
        raise _refusal("mp3")
    return mp3 is not None


def _refusal(kind: str) -> AudioError:
    return AudioError(f"uncompressed sound was expected, but {kind} came: configure the format that is really sent")


def _begins_like_mp3(start: bytes | bytearray) -> bool | None:
    """Whether two mp3 frames follow each other here; ``None`` while too little is there to tell.

    One frame header alone proves nothing: its eleven set bits are also a quiet sample.
    """
    length = _mp3_frame_bytes(start)
    if length is None:
        return False
    if not length or len(start) < length + 4:
        return None
    return bool(_mp3_frame_bytes(start[length:])) and start[1] & 0xFE == start[length + 1] & 0xFE


def _mp3_frame_bytes(data: bytes | bytearray) -> int | None:
    """Length of the MPEG layer III frame whose header is here; 0: too few bytes to tell; ``None``: there is none."""
    if not data or data[0] != 0xFF:
        return None
    if len(data) < 4:
        return 0 if len(data) < 2 or data[1] & 0xE6 == 0xE2 else None
    version, kilobits, rate = data[1] >> 3 & 3, data[2] >> 4, data[2] >> 2 & 3
    if data[1] & 0xE6 != 0xE2 or version == 1 or kilobits in (0, 15) or rate == 3:
        return None
    hertz = (44100, 48000, 32000)[rate] >> _RATE_SHIFT[version]
    bits = (144 * _MPEG1_KILOBITS[kilobits] if version == 3 else 72 * _MPEG2_KILOBITS[kilobits]) * 1000
    return bits // hertz + (data[2] >> 1 & 1)
