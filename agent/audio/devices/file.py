"""Sources and sinks without a sound card, in real time all the same: ``file:PATH`` and ``none``."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

from agent.audio.convert import FormatConverter, Resampler, to_mono
from agent.audio.decoders.decoder import create_decoder
from agent.audio.format import SPEECH, Format
from agent.audio.wav_writer import WavWriter
from agent.errors import AudioError

_READ_BYTES = 1 << 16

MAX_LATE_SECONDS = 10.0
"""Nobody who is merely busy reads so late: the process stood still, and what was to be heard then has passed."""


class SilentSource:
    """A microphone that hears nothing, in real time: one frame of silence each time ``read()`` is called and due.

    A reader that comes late gets at once what it missed; what it is more than ``LATE_SECONDS`` late for is lost and
    counted (``lost_frames``, in samples), as on a card. ``close()`` may come from any thread and ends a ``read()`` that
    waits.
    """

    def __init__(self, frame_seconds: float) -> None:
        self.frame_bytes = SPEECH.bytes_of(frame_seconds)
        self.lost_frames = 0
        self._began: float | None = None
        self._frames = 0
        self._closed = threading.Event()

    def read(self) -> bytes:
        """The next frame, when its last sample is due."""
        if self._began is None:
            self._began = time.monotonic()
        self._frames += 1
        frame_seconds = SPEECH.seconds_of(self.frame_bytes)
        due = self._began + self._frames * frame_seconds
        self._closed.wait(max(0.0, due - time.monotonic()))
        if (late := time.monotonic() - due) > MAX_LATE_SECONDS:
            self._pass_over(int(late / frame_seconds))
        return self._sound().ljust(self.frame_bytes, b"\0")

    def close(self) -> None:
        self._closed.set()

    def _pass_over(self, frames: int) -> None:
        for _ in range(frames):
            self._sound()
        self._frames += frames
        self.lost_frames += frames * self.frame_bytes // SPEECH.frame_bytes

    def _sound(self) -> bytes:
        return b""


class FileSource(SilentSource):
    """A WAV file as the microphone: played once, in real time, converted to 16 kHz mono; then silence.

    ``ended`` tells that the last frame given was beyond the end of the file. A file that is no WAV is an ``AudioError``
    when it is opened.
    """

    def __init__(self, path: Path, frame_seconds: float) -> None:
        super().__init__(frame_seconds)
        self.ended = False
        self._waiting = bytearray()
        self._pieces = read_speech(path)
        self._waiting += next(self._pieces, b"")

    def _sound(self) -> bytes:
        while len(self._waiting) < self.frame_bytes:
            piece = next(self._pieces, None)
            if piece is None:
                self.ended = not self._waiting
                break
            self._waiting += piece
        frame = bytes(self._waiting[: self.frame_bytes])
        del self._waiting[: self.frame_bytes]
        return frame


def read_speech(path: Path) -> Iterator[bytes]:
    """The sound of a WAV file as 16 kHz mono, piece by piece: an hour of it need not fit into memory."""
    reader = create_decoder("wav", "s16le", SPEECH.rate, 1)
    resampler: Resampler | None = None
    try:
        with path.open("rb") as file:
            # A service may leave the header out; a file without one is something else.
            start = file.read(12)
            if start[:4] != b"RIFF" or start[8:] != b"WAVE":
                raise AudioError("because it is no WAV file")
            reader.feed(start)
            while chunk := file.read(_READ_BYTES):
                pcm = reader.feed(chunk)
                if reader.format is not None and pcm:
                    resampler = resampler or Resampler(reader.format.rate, SPEECH.rate)
                    yield resampler.feed(to_mono(pcm, reader.format.channels))
            pcm = reader.finish()
    except OSError as error:
        raise AudioError(f"the file {path} cannot be read: {error.strerror}") from error
    except AudioError as error:
        raise AudioError(f"the file {path} cannot be played, {error}: make it a WAV of 16-bit PCM") from error
    if resampler is not None and reader.format is not None:
        yield resampler.feed(to_mono(pcm, reader.format.channels)) + resampler.finish()


class PacedSink:
    """A speaker without a card: takes sound at the pace of real time, and records it where ``path`` names a file.

    It holds ``buffer_seconds`` as a card does: ``write()`` waits while it is full, ``drain()`` waits until all is
    "heard", ``drop()`` forgets what has not been heard, and the file has exactly what has been heard. Pauses between
    utterances are not recorded. ``close()`` makes the file complete. The file keeps the format it began with: sound of
    another is converted.
    """

    def __init__(self, format: Format, buffer_seconds: float, path: Path | None = None) -> None:
        self.format = format
        self.underruns = 0
        self.accepted_frames = 0
        self._buffer_seconds = buffer_seconds
        self._writer = None if path is None else _Recorder(path, format)
        self._held = bytearray()  # written, not heard yet
        self._heard_until = 0.0  # the moment up to which the held sound has been taken off
        self._closed = threading.Event()

    def write(self, pcm: bytes) -> None:
        """Takes whole frames; returns when no more than ``buffer_seconds`` of them are still to be heard."""
        if not self._held:
            self._heard_until = time.monotonic()
        self._held += pcm
        self.accepted_frames += len(pcm) // self.format.frame_bytes
        self._wait(self._buffer_seconds)

    @property
    def queued_seconds(self) -> float:
        """How much of what was written is still to be heard."""
        self._hear()
        return self.format.seconds_of(len(self._held))

    @property
    def ready_in_seconds(self) -> float:
        """How long ``write`` would wait before there is room for anything."""
        return max(0.0, self.queued_seconds - self._buffer_seconds)

    def drain_nowait(self) -> float:
        """How long it takes until everything written has been heard; 0.0: it has."""
        rest = self.queued_seconds
        if not rest:
            self.drop()
        return rest

    def drain(self) -> None:
        """Returns when everything written has been heard."""
        self._wait(0.0)
        self.drop()

    def drop(self) -> None:
        """Silent at once: what has not been heard is forgotten."""
        self._hear()
        self.accepted_frames = 0
        self._held.clear()
        if self._writer is not None:
            self._writer.flush()

    def change_format(self, format: Format) -> bool:
        """Takes sound of another format from now on, in the same recording; ``False`` where that cannot be. What is
        held must be drained or dropped."""
        try:
            if self._writer is not None:
                self._writer.take(format)
        except AudioError:
            return False
        self.format = format
        return True

    def close(self) -> None:
        """Ends the recording with what has been heard; twice is safe."""
        self._closed.set()
        self.drop()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _wait(self, rest_seconds: float) -> None:
        self._hear()
        while (ahead := self.format.seconds_of(len(self._held)) - rest_seconds) > 0 and not self._closed.is_set():
            self._closed.wait(ahead)
            self._hear()

    def _hear(self) -> None:
        now = time.monotonic()
        heard = min(len(self._held), self.format.bytes_of(now - self._heard_until))
        self._heard_until += self.format.seconds_of(heard)
        if self._writer is not None and heard:
            self._writer.write(bytes(self._held[:heard]))
        del self._held[:heard]


class _Recorder:
    """A WAV file of one format, made of sound of any mono or stereo format. That it cannot be written is told once, by
    an ``AudioError``: whoever closes it in the end has no second error from it, which would hide the first."""

    def __init__(self, path: Path, format: Format) -> None:
        self._writer = WavWriter(path, format)
        self._told = False
        self.take(format)

    def take(self, format: Format) -> None:
        self._refit = FormatConverter(format, self._writer.format)

    def write(self, pcm: bytes) -> None:
        self._put(self._refit.feed(pcm))

    def flush(self) -> None:
        self._put(self._refit.finish())

    def close(self) -> None:
        self._writer.close()

    def _put(self, pcm: bytes) -> None:
        if self._told:
            return
        try:
            self._writer.write(pcm)
        except AudioError:
            self._told = True
            raise
