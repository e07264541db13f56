"""Sources and sinks without a sound card, in real time: ``file:PATH`` and ``none``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from agent.audio.convert import FormatConverter, MonoMixer, Resampler, gain_percent, pick_channel, scale
from agent.audio.format import SPEECH, Format
from agent.audio.wav_file import WavFile, WavPipe
from agent.audio.wav_recording import WavRecording
from agent.errors import AudioError

MAX_LATE_SECONDS = 10.0
"""A reader that is later than this was probably suspended, not busy: the audio of that time is dropped."""


class SilentSource:
    """A microphone that records silence in real time. ``close`` is thread-safe; one thread owns the rest.

    A reader that is late by at most ``max_late_seconds`` gets the missed frames immediately. If it is later, all missed
    frames are lost and counted in ``lost_samples``, as on a card.

    Args:
        frame_seconds: Duration of a frame.
        max_late_seconds: Limit of the delay of a reader.
    """

    def __init__(self, frame_seconds: float, max_late_seconds: float = MAX_LATE_SECONDS) -> None:
        self.read_bytes = SPEECH.bytes_of(frame_seconds)
        self.lost_samples = 0
        self._max_late_seconds = max_late_seconds
        self._started_at: float | None = None
        self._frames = 0
        self._closed = threading.Event()

    @property
    def captured_at(self) -> float:
        """The current monotonic time: a reader that is not late gets each frame at its end."""
        return time.monotonic()

    def read(self) -> bytes:
        """Return the next frame when its last sample is due. After ``close``, return it immediately."""
        if self._started_at is None:
            self._started_at = time.monotonic()
        self._frames += 1
        frame_seconds = SPEECH.seconds_of(self.read_bytes)
        due = self._started_at + self._frames * frame_seconds
        self._closed.wait(max(0.0, due - time.monotonic()))
        if (late := time.monotonic() - due) > self._max_late_seconds:
            self._skip(int(late / frame_seconds))
        return self.next_frame().ljust(self.read_bytes, b"\0")

    def close(self) -> None:
        """End a blocked ``read``."""
        self._closed.set()

    def _skip(self, frames: int) -> None:
        for _ in range(frames):
            self.next_frame()
        self._frames += frames
        self.lost_samples += frames * self.read_bytes // SPEECH.frame_bytes

    def next_frame(self) -> bytes:
        """Return the audio of the next frame, up to ``read_bytes``; silence fills the rest. Subclasses override it."""
        return b""


class FileSource(SilentSource):
    """Plays a WAV file once as the microphone, then silence. ``close`` is thread-safe; one thread owns the rest.

    ``has_ended``: the last frame was beyond the end of the file.

    Args:
        path: The WAV file, of any rate and channels; it is converted to 16 kHz mono.
        frame_seconds: Duration of a frame.
        max_late_seconds: Limit of the delay of a reader.
        channel: The channel of the file, from 1; the others are ignored.
        gain_db: Amplification in decibels, with clipping.

    Raises:
        AudioError: If the file is no WAV, holds no sound, cannot be read, or lacks the channel.
    """

    def __init__(
        self,
        path: Path,
        frame_seconds: float,
        max_late_seconds: float = MAX_LATE_SECONDS,
        *,
        channel: int = 1,
        gain_db: float = 0.0,
    ) -> None:
        super().__init__(frame_seconds, max_late_seconds)
        self.has_ended = False
        self._buffer = bytearray()
        self._percent = gain_percent(gain_db)
        self._pieces = read_speech(path, channel)
        while not self._buffer:
            piece = next(self._pieces, None)
            if piece is None:
                raise AudioError(f"the file {path} holds no sound. Record it again")
            self._buffer += piece

    def next_frame(self) -> bytes:
        """Return the next frame of the file; shorter or empty after its end."""
        while len(self._buffer) < self.read_bytes:
            piece = next(self._pieces, None)
            if piece is None:
                self.has_ended = not self._buffer
                break
            self._buffer += piece
        frame = bytes(self._buffer[: self.read_bytes])
        del self._buffer[: self.read_bytes]
        return scale(frame, self._percent)


def read_speech(path: Path, channel: int | None = None, opened: BinaryIO | None = None) -> Iterator[bytes]:
    """Yield the audio of a WAV file as 16 kHz mono s16le in pieces, without loading the whole file.

    Args:
        path: The WAV file, of any rate and channels.
        channel: One channel, from 1; ``None`` mixes all.
        opened: The file, if it is already open; it is closed at the end.

    Raises:
        AudioError: If the file is no WAV, cannot be read, or lacks the channel.
    """
    try:
        with opened or path.open("rb") as file:
            wav: WavFile | WavPipe = WavFile(file) if file.seekable() else WavPipe(file)
            resampler, mixer = Resampler(wav.format.rate, SPEECH.rate), MonoMixer()
            channels = wav.format.channels
            if channel is not None and channel > channels:
                raise AudioError(f"it has no channel {channel}, only {channels}. Choose a lower microphone.channel.")
            for pcm in wav.read():
                mono = mixer.feed(pcm, channels) if channel is None else pick_channel(pcm, channels, channel)
                yield resampler.feed(mono)
            yield resampler.finish()
    except OSError as error:
        raise read_error(path, error) from error
    except AudioError as error:
        raise AudioError(f"the file {path} cannot be read: {error}") from error


def read_error(path: Path, error: OSError) -> AudioError:
    """Return the error of a file that cannot be opened or read."""
    return AudioError(f"the file {path} cannot be read: {error.strerror}. Check name and permissions.")


class PacedSink:
    """A speaker without a card, in real time; optionally records the played audio. One thread owns it.

    It buffers ``buffer_seconds`` as a card does: ``write`` blocks while the buffer is full, ``drain`` blocks until the
    time of all audio has passed, ``drop`` discards the unplayed audio. Pauses between utterances are not recorded. The
    recording grows with the played audio and keeps its first format: audio in another format is converted. An older
    file is kept under another name.

    Args:
        format: Format of the audio.
        buffer_seconds: Size of the buffer.
        path: WAV file of the recording.
        on_played: Receives the played audio, in the owner's thread.

    Raises:
        AudioError: From all methods except ``change_format``, if the recording cannot be written.
    """

    def __init__(
        self,
        format: Format,
        buffer_seconds: float,
        path: Path | None = None,
        on_played: Callable[[bytes], None] | None = None,
    ) -> None:
        self.format = format
        self.underruns = 0
        self.accepted_frames = 0
        self._buffer_seconds = buffer_seconds
        self._recorder = None if path is None else _Recorder(path, format)
        self._on_played = on_played
        self._buffer = bytearray()  # accepted, not yet played
        self._played_until = 0.0  # monotonic time up to which the buffer was played
        self._closed = threading.Event()

    def write(self, pcm: bytes) -> None:
        """Accept whole frames; return when at most ``buffer_seconds`` of audio are unplayed."""
        if not self._buffer:
            self._played_until = time.monotonic()
        self._buffer += pcm
        self.accepted_frames += len(pcm) // self.format.frame_bytes
        self._wait_for(self._buffer_seconds)

    @property
    def queued_seconds(self) -> float:
        """Duration of the unplayed audio."""
        self._play()
        return self.format.seconds_of(len(self._buffer))

    @property
    def empty_at(self) -> float:
        """The monotonic time at which everything will have been played."""
        return time.monotonic() + self.queued_seconds

    @property
    def ready_in_seconds(self) -> float:
        """Time that ``write`` would wait for room."""
        return max(0.0, self.queued_seconds - self._buffer_seconds)

    def drain_nowait(self) -> float:
        """Return the seconds until everything is played; 0.0 when everything was played."""
        rest = self.queued_seconds
        if not rest:
            self.drop()
        return rest

    def drain(self) -> None:
        """Return when everything was played."""
        self._wait_for(0.0)
        self.drop()

    def drop(self) -> None:
        """Discard the unplayed audio."""
        self._play()
        self.accepted_frames = 0
        self._buffer.clear()
        if self._recorder is not None:
            self._recorder.flush()

    def change_format(self, format: Format) -> bool:
        """Accept audio in another format from now on; return ``False`` if the recording cannot be converted."""
        try:
            if self._recorder is not None:
                self._recorder.change_format(format)
        except AudioError:
            return False
        self.format = format
        return True

    def close(self) -> None:
        """Complete the recording with the played audio. Idempotent."""
        self._closed.set()
        try:
            self.drop()
        finally:
            recorder, self._recorder = self._recorder, None
            if recorder is not None:
                recorder.close()

    def _wait_for(self, rest_seconds: float) -> None:
        self._play()
        while (ahead := self.format.seconds_of(len(self._buffer)) - rest_seconds) > 0 and not self._closed.is_set():
            self._closed.wait(ahead)
            self._play()

    def _play(self) -> None:
        elapsed = time.monotonic() - self._played_until
        size = min(len(self._buffer), self.format.bytes_of(elapsed))
        self._played_until += self.format.seconds_of(size)
        if not size:
            return
        pcm = bytes(self._buffer[:size])
        if self._recorder is not None:
            self._recorder.write(pcm)
        if self._on_played is not None:
            self._on_played(pcm)
        del self._buffer[:size]


class _Recorder:
    """Writes audio of any mono or stereo format to a WAV file of one format. Not thread-safe; one thread owns it.

    A write error is raised once. The owner closes the file after it; a second error would then replace the first.
    """

    def __init__(self, path: Path, format: Format) -> None:
        self._writer = WavRecording(path, format)
        self._has_failed = False
        self.change_format(format)

    def change_format(self, format: Format) -> None:
        self._converter = FormatConverter(format, self._writer.format)

    def write(self, pcm: bytes) -> None:
        self._write(self._converter.feed(pcm))

    def flush(self) -> None:
        self._write(self._converter.finish(), is_flushed=True)

    def close(self) -> None:
        try:
            self._writer.close()
        except AudioError:
            if not self._has_failed:
                raise

    def _write(self, pcm: bytes, *, is_flushed: bool = False) -> None:
        if self._has_failed:
            return
        try:
            self._writer.write(pcm)
            if is_flushed:
                self._writer.flush()
        except AudioError:
            self._has_failed = True
            raise
