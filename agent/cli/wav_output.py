"""A WAV file or stream in the place of the speaker: as fast as the sound comes, and whole or not at all."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

from agent.audio.devices.device import Sink
from agent.audio.format import SPEECH, Format
from agent.audio.wav_writer import WavWriter, wav_header
from agent.errors import AudioError


class Recording:
    """Where ``say --output`` puts the sound. A file is there whole or not at all; a stream (``-``) begins with a header
    that leaves the length open. ``empty``: no sound has come. Raises ``AudioError`` where nothing can be written there:
    at once, for nobody wants to learn that after minutes of speech."""

    def __init__(self, output: str) -> None:
        if output != "-":
            check_writable(output)
        self.empty = True
        self._output = output
        self._writer: WavWriter | None = None

    def open(self, format: Format) -> Sink:
        self.empty = False
        if self._output == "-":
            _to_stdout(wav_header(format, None))
            return _RecordingSink(format, _to_stdout)
        self._writer = WavWriter(self._output, format)
        return _RecordingSink(format, self._writer.write)

    def end(self, *, whole: bool) -> None:
        """Completes the file, or takes it away where not all of it has come."""
        if self._writer is None:
            return
        if whole:
            self._writer.close()
        else:
            self._writer.discard()


class Memory:
    """The same for the memory: ``wav`` is the file, and nothing where not all of it has come."""

    def __init__(self) -> None:
        self.empty = True
        self.wav = b""
        self._format = SPEECH
        self._pcm = bytearray()

    def open(self, format: Format) -> Sink:
        self.empty = False
        self._format = format
        return _RecordingSink(format, self._pcm.extend)

    def end(self, *, whole: bool) -> None:
        if whole:
            self.wav = wav_header(self._format, len(self._pcm)) + self._pcm


class _RecordingSink:
    """Has everything it was given at once, and cannot take it back."""

    underruns = 0
    queued_seconds = math.inf  # it never runs dry
    ready_in_seconds = 0.0

    def __init__(self, format: Format, put: Callable[[bytes], object]) -> None:
        self.format = format
        self.accepted_frames = 0
        self._put = put

    def write(self, pcm: bytes) -> None:
        self._put(pcm)
        self.accepted_frames += len(pcm) // self.format.frame_bytes

    def drain_nowait(self) -> float:
        self.drain()
        return 0.0

    def drain(self) -> None:
        self.accepted_frames = 0

    def drop(self) -> None:
        self.accepted_frames = 0

    def change_format(self, format: Format) -> bool:
        """One utterance, and that one format."""
        return format == self.format

    def close(self) -> None:
        """Only ``Recording.end`` knows whether all of it has come; standard output is not ours to close."""


def _to_stdout(data: bytes) -> None:
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise  # whoever reads it has had enough, which is no mistake
    except OSError as error:
        raise AudioError(f"the sound cannot be written to standard output: {error.strerror}") from error


def check_writable(path: str) -> None:
    """Raises ``AudioError`` where no WAV file can be written to ``path``; leaves what is there as it is."""
    WavWriter(path, SPEECH).discard()
