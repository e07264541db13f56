"""WAV files: written whole or not at all, read in every layout that holds 16-bit PCM."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from agent.audio.format import SAMPLE_BYTES, Format
from agent.errors import AudioError

HEADER_BYTES = 44
PLACEHOLDER = 0xFFFFFFFF
"""The size of a stream whose length nobody knows yet."""

LARGEST_READ_BYTES = 512 * 1024 * 1024
_LARGEST_FMT_BYTES = 1024
_MOST_CHUNKS = 1000
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
# The rest of a WAVE_FORMAT_EXTENSIBLE's GUID after its two bytes of tag.
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
_KINDS = {_FLOAT: "floating-point", 2: "ADPCM", 6: "A-law", 7: "mu-law", 0x11: "ADPCM", 0x55: "MP3"}


def wav_header(format: Format, nbytes: int | None) -> bytes:
    """The 44 bytes before ``nbytes`` of sound; ``None`` where nobody knows how many will come (a stream)."""
    known = nbytes is not None and nbytes <= PLACEHOLDER - HEADER_BYTES
    size = nbytes if known and nbytes is not None else PLACEHOLDER
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        size + HEADER_BYTES - 8 if known else PLACEHOLDER,
        b"WAVE",
        b"fmt ",
        16,
        _PCM,
        format.channels,
        format.rate,
        format.rate * format.frame_bytes,
        format.frame_bytes,
        8 * SAMPLE_BYTES,
        b"data",
        size,
    )


def format_of(fmt: bytes) -> Format:
    """What the content of a ``fmt`` chunk says; an ``AudioError`` (a clause without a subject) if not 16-bit PCM."""
    if len(fmt) < 16:
        raise AudioError("has a fmt chunk that is too short, so it is damaged: make it anew")
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", fmt)
    if tag == _EXTENSIBLE and len(fmt) >= 40 and fmt[26:40] == _GUID_TAIL:
        (tag,) = struct.unpack_from("<H", fmt, 24)
    if tag != _PCM or bits != 8 * SAMPLE_BYTES:
        kind = f"{bits}-bit" if tag == _PCM else _KINDS.get(tag, f"unknown (format {tag:#06x})")
        raise AudioError(
            f"has {kind} samples, but only 16-bit PCM is understood: convert it, "
            "for example with `ffmpeg -i IN.wav -c:a pcm_s16le OUT.wav`"
        )
    try:
        return Format(rate, channels)
    except AudioError as error:
        raise AudioError(f"is damaged or not for this: {error}") from error


class WavReader:
    """A WAV file, read piece by piece, so that an hour of it need not fit into memory.

    ``format`` is known at once; ``read(nbytes)`` gives the sound. Understood are 16-bit PCM with any chunks around it,
    WAVE_FORMAT_EXTENSIBLE, chunks of odd length, a file cut short, and the placeholder sizes of streams (then the sound
    reaches to the end of the file). All else is an ``AudioError`` that says what, where, and what to do.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self._file: BinaryIO = self.path.open("rb")
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from error
        try:
            self.format, self._left = self._find_sound()
        except BaseException:
            self._file.close()
            raise

    def read(self, nbytes: int = -1) -> bytes:
        """Up to ``nbytes`` of sound (all that is left, if negative); empty at the end.

        Always whole samples of every channel, and at least one of these before the end.
        """
        step = self.format.frame_bytes
        wanted = max(nbytes, step) if nbytes >= 0 else LARGEST_READ_BYTES
        if self._left is not None:
            wanted = min(wanted, self._left)
        sound = self._take(wanted - wanted % step)
        if self._left is not None:
            self._left -= len(sound)
        # A file that was cut in the middle of a sample ends with the sample before.
        return sound[: len(sound) - len(sound) % step]

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> WavReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _find_sound(self) -> tuple[Format, int | None]:
        """The format, and how many bytes of sound follow; ``None``: to the end of the file."""
        riff = self._take(12)
        if not riff:
            raise AudioError(f"{self.path} is empty: name a WAV file with sound in it")
        if len(riff) < 12 or riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
            raise AudioError(
                f"{self.path} is not a WAV file (it does not begin with RIFF and WAVE): name one, or convert it, "
                "for example with `ffmpeg -i IN -c:a pcm_s16le OUT.wav`"
            )
        (riff_size,) = struct.unpack_from("<I", riff, 4)
        format: Format | None = None
        for _ in range(_MOST_CHUNKS):
            head = self._take(8)
            if len(head) < 8:
                break
            name, size = struct.unpack("<4sI", head)
            if name == b"data":
                if format is None:
                    raise AudioError(f"{self.path} has its sound before its format, so it is damaged: make it anew")
                return format, self._sound_bytes(size, riff_size)
            if name == b"fmt " and format is None:
                format = self._read_format(size)
            else:
                self._skip(size)
            self._skip(size & 1)
        raise AudioError(f"{self.path} has no sound in it (no data chunk), so it is damaged: make it anew")

    def _read_format(self, size: int) -> Format:
        if size > _LARGEST_FMT_BYTES:
            raise AudioError(f"{self.path} has a fmt chunk of {size} bytes, so it is damaged: make it anew")
        try:
            return format_of(self._take(size))
        except AudioError as error:
            raise AudioError(f"{self.path} {error}") from error

    def _sound_bytes(self, size: int, riff_size: int) -> int | None:
        """A size that cannot be true is a placeholder: whoever streamed the file did not know how long it would be."""
        status = os.fstat(self._file.fileno())
        if not stat.S_ISREG(status.st_mode):
            return size if 0 < size < 0x7FFFFFFF else None
        if size == 0 and riff_size + 8 == status.st_size:
            return 0  # truly empty
        left = status.st_size - self._file.tell()
        return size if 0 < size <= left else None

    def _take(self, nbytes: int) -> bytes:
        try:
            return self._file.read(nbytes)
        except OSError as error:
            raise self._unreadable(error) from error

    def _skip(self, nbytes: int) -> None:
        while nbytes > 0 and (piece := self._take(min(nbytes, 1 << 16))):
            nbytes -= len(piece)

    def _unreadable(self, error: Exception) -> AudioError:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return AudioError(f"{self.path} cannot be read ({why}): name a WAV file that can be")


def read_wav(path: str | os.PathLike[str]) -> tuple[Format, bytes]:
    """The format and the whole sound of a WAV file; the errors are those of ``WavReader``, and one of its own for a
    file with more sound than memory should hold."""
    with WavReader(path) as reader:
        sound = reader.read()
        if len(sound) > LARGEST_READ_BYTES - reader.format.frame_bytes:
            raise AudioError(f"{path} has more than {LARGEST_READ_BYTES >> 20} MiB of sound: cut it into parts")
        return reader.format, sound


class WavWriter:
    """A WAV file in the making: beside its place under another name, and put there only when it is whole.

    ``write`` as the sound comes, then ``close()`` puts the file in its place, or ``abandon()`` leaves nothing (and a
    file that was there before as it was). As a context manager it closes, or abandons where an exception passes. A disk
    that is full or a folder that is missing is an ``AudioError``; after it nothing is left either.
    """

    def __init__(self, path: str | os.PathLike[str], format: Format) -> None:
        self.path = Path(path)
        self.format = format
        self.nbytes = 0
        try:
            # Through a link to what it names; a file put in the place of a device or a pipe would destroy that.
            self._place = self.path.resolve()
            if self._place.exists() and not self._place.is_file():
                raise ValueError("it is not an ordinary file")
            import tempfile  # with what it loads, 4 ms that only a recording costs

            handle, name = tempfile.mkstemp(".part", f".{self._place.name}.", self._place.parent)
        except (OSError, ValueError, RuntimeError) as error:
            raise self._unwritable(error) from error
        self._part: Path | None = Path(name)
        self._file = os.fdopen(handle, "wb")
        self.write(b"")

    def write(self, pcm: bytes) -> None:
        """More sound, in whole samples of every channel."""
        try:
            if not self.nbytes and self._file.tell() == 0:
                self._file.write(wav_header(self.format, None))
            self._file.write(pcm)
        except OSError as error:
            self.abandon()
            raise self._unwritable(error) from error
        self.nbytes += len(pcm)

    def close(self) -> None:
        """Makes the sizes right and puts the file in its place. Safe twice, and after ``abandon()``."""
        part = self._part
        if part is None:
            return
        try:
            self._file.seek(0)
            self._file.write(wav_header(self.format, self.nbytes))
            self._file.flush()
            # As any file the user makes, not with the tightness of a temporary one.
            os.fchmod(self._file.fileno(), self._usual_mode())
            self._file.close()
            os.replace(part, self._place)
        except OSError as error:
            self.abandon()
            raise self._unwritable(error) from error
        self._part = None

    def abandon(self) -> None:
        """Leaves nothing behind. Safe twice, and after ``close()`` without effect."""
        part, self._part = self._part, None
        if part is None:
            return
        part.unlink(missing_ok=True)
        try:
            self._file.close()
        except OSError:
            return  # what could not be flushed (a full disk) was to be thrown away

    def __enter__(self) -> WavWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abandon()

    def _usual_mode(self) -> int:
        try:
            return stat.S_IMODE(self._place.stat().st_mode)  # a file that is replaced keeps its mode
        except FileNotFoundError:
            return 0o644

    def _unwritable(self, error: Exception) -> AudioError:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return AudioError(f"{self.path} cannot be written ({why}): name a file in a folder with room and permission")
