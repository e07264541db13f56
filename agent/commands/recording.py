"""A WAV file or stream in the place of the speaker: as fast as the sound comes, and whole or not at all."""

from __future__ import annotations

import math
import sys
from typing import BinaryIO

from agent.audio.devices import Sink
from agent.audio.format import SPEECH, Format
from agent.audio.wav import WavWriter, wav_header
from agent.errors import AudioError


class Recording:
    """Where ``say --output`` puts the sound. A file is there whole or not at all; a stream (``-``) begins with a header
    that leaves the length open. ``empty``: no sound has come. Raises ``AudioError`` where nothing can be written there:
    at once, for nobody wants to learn that after minutes of speech."""

    def __init__(self, output: str) -> None:
        if output != "-":
            prove(output)
        self._output = output
        self._sink: _FileSink | _StreamSink | None = None

    def open(self, format: Format) -> Sink:
        if self._output == "-":
            self._sink = _StreamSink(format, sys.stdout.buffer)
        else:
            self._sink = _FileSink(format, self._output)
        return self._sink

    @property
    def empty(self) -> bool:
        return self._sink is None

    def end(self, *, whole: bool) -> None:
        """Completes the file, or takes it away where not all of it has come."""
        if isinstance(self._sink, _FileSink):
            self._sink.end(whole=whole)


class _FileSink:
    underruns = 0
    queued_seconds = math.inf  # it never runs dry
    ready_in_seconds = 0.0
    taken_frames = 0

    def __init__(self, format: Format, path: str) -> None:
        self.format = format
        self._writer = WavWriter(path, format)

    def write(self, pcm: bytes) -> None:
        self._writer.write(pcm)
        self.taken_frames += len(pcm) // self.format.frame_bytes

    def drain_on(self) -> float:
        self.drain()
        return 0.0

    def drain(self) -> None:
        """A file has everything at once."""
        self.taken_frames = 0

    def drop(self) -> None:
        """What is in the file has been said."""
        self.taken_frames = 0

    def retune(self, format: Format) -> bool:
        """A file has one utterance, and that one format."""
        return format == self.format

    def close(self) -> None:
        """The file is completed by ``end``, once it is known whether all of it has come."""

    def end(self, *, whole: bool) -> None:
        if whole:
            self._writer.close()
        else:
            self._writer.abandon()


class _StreamSink:
    underruns = 0
    queued_seconds = math.inf  # it never runs dry
    ready_in_seconds = 0.0
    taken_frames = 0

    def __init__(self, format: Format, stream: BinaryIO) -> None:
        self.format = format
        self._stream = stream
        self._put(wav_header(format, None))

    def write(self, pcm: bytes) -> None:
        self._put(pcm)
        self.taken_frames += len(pcm) // self.format.frame_bytes

    def drain_on(self) -> float:
        self.drain()
        return 0.0

    def drain(self) -> None:
        """Every piece leaves as it comes."""
        self.taken_frames = 0

    def drop(self) -> None:
        """What has been written cannot be taken back."""
        self.taken_frames = 0

    def retune(self, format: Format) -> bool:
        """A stream has one utterance, and that one format."""
        return format == self.format

    def close(self) -> None:
        """The stream is not ours to close."""

    def _put(self, data: bytes) -> None:
        try:
            self._stream.write(data)
            self._stream.flush()
        except BrokenPipeError:
            raise  # whoever reads it has had enough, which is no mistake
        except OSError as error:
            raise AudioError(f"the sound cannot be written to standard output: {error.strerror}") from error


def prove(path: str) -> None:
    """Raises ``AudioError`` where no WAV file can be written to ``path``; leaves what is there as it is."""
    WavWriter(path, SPEECH).abandon()
