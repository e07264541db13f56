"""Detection of compressed audio by its first bytes, so that it is refused with an error and never played as noise."""

from __future__ import annotations

from agent.errors import AudioError

_MAGIC = {b"ID3": "mp3", b"OggS": "Ogg", b"fLaC": "FLAC", b"\x1aE\xdf\xa3": "WebM"}
_MPEG1_KILOBITS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2_KILOBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATE_SHIFT = {3: 0, 2: 1, 0: 2}  # MPEG 1, 2 and 2.5, by the version bits


def is_uncompressed(start: bytes | bytearray) -> bool:
    """Return ``True`` if ``start`` is not compressed, ``False`` if it is too short to decide.

    Raises:
        AudioError: If ``start`` is the beginning of a compressed stream.
    """
    if (container := compressed_container(start)) is not None:
        raise AudioError(
            f"cannot decode audio: uncompressed audio was expected, but {container} was received. "
            "Configure the format that the service sends."
        )
    if any(magic.startswith(bytes(start)) for magic in _MAGIC):
        return False
    return _starts_like_mp3(start) is not None


def compressed_container(start: bytes | bytearray) -> str | None:
    """Return the name of the compressed format that begins with ``start``; ``None``: none, or too short to decide."""
    for magic, container in _MAGIC.items():
        if start.startswith(magic):
            return container
    return "mp3" if _starts_like_mp3(start) else None


def _starts_like_mp3(start: bytes | bytearray) -> bool | None:
    """Return whether ``start`` holds two consecutive mp3 frames; ``None`` if it is too short to decide.

    One frame header alone is no evidence: samples close to zero contain the same eleven set bits.
    """
    length = _mp3_frame_bytes(start)
    if length is None:
        return False
    if not length or len(start) < length + 4:
        return None
    return bool(_mp3_frame_bytes(start[length:])) and start[1] & 0xFE == start[length + 1] & 0xFE


def _mp3_frame_bytes(data: bytes | bytearray) -> int | None:
    """Return the bytes of the MPEG layer III frame at the start of ``data``; 0: too short; ``None``: no frame."""
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
