"""Outputs that replace the speaker (a sound file, standard output or memory), and the checks before their use."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agent.audio.format import SPEECH, Format
from agent.audio.wav_writer import WavWriter, check_suffix, wav_header
from agent.errors import AudioError, DeviceError, DeviceProblem
from agent.pipeline.settings import SpeakerSettings

if TYPE_CHECKING:
    from agent.cli.encoded_file import EncodedFile


STDOUT = 1
_ENCODED = {".mp3": "mp3", ".opus": "opus"}


class FileOutput:
    """The file or stream of ``say --output``.

    The suffix of the file selects the format: mp3, Ogg Opus (``.opus``), or WAV for all others. The file appears only
    when it is complete. A stream (``-``) is a WAV whose header leaves the length open.

    ``is_empty``: no audio has arrived.

    Not thread-safe: the writer thread calls ``open``; ``end`` is called after that thread has ended.

    Args:
        output: A path, or ``-`` for standard output.

    Raises:
        AudioError: The file cannot be written, its suffix belongs to another format, or the library of the format is
            missing. The constructor checks this, before any text is spoken.
    """

    def __init__(self, output: str) -> None:
        self.is_empty = True
        self._output = output
        self._writer: WavWriter | EncodedFile | None = None
        self._stdout: ReadyWriter | None = None
        if output != "-":
            self._create_writer(SPEECH).discard()

    def open(self, format: Format) -> Callable[[bytes], object]:
        self.is_empty = False
        if self._output == "-":
            _write_stdout(wav_header(format, None))
            self._stdout = ReadyWriter(STDOUT)
            return _write_stdout
        self._writer = self._create_writer(format)
        return self._writer.write

    def take(self, pcm: memoryview) -> int:
        """Write as much as a stream accepts almost without blocking; return the number of bytes, 0 for a file.

        Called by the thread that produces the audio (see ``AudioWriter``).
        """
        if self._stdout is None:
            return 0
        return self._stdout.write(pcm)  # the writer thread gets and reports the error when it writes the rest

    def end(self, *, complete: bool) -> None:
        """Commit the file if the audio is complete, else discard it."""
        if self._stdout is not None:
            self._stdout.close()
        if self._writer is None:
            return
        if complete:
            self._writer.close()
        else:
            self._writer.discard()

    def _create_writer(self, format: Format) -> WavWriter | EncodedFile:
        check_suffix(self._output, _ENCODED)
        container = _ENCODED.get(Path(self._output).suffix.lower())
        if container is None:
            return WavWriter(self._output, format)
        from agent.cli.encoded_file import EncodedFile  # needed only for a compressed file

        return EncodedFile(self._output, container, format)


class WavMemory:
    """A WAV file in memory.

    ``wav`` contains the bytes of the file; it is empty unless the audio is complete.
    ``is_empty``: no audio has arrived.

    Not thread-safe: the writer thread calls ``open``; ``end`` is called after that thread has ended.
    """

    def __init__(self) -> None:
        self.is_empty = True
        self.wav = b""
        self._format = SPEECH
        self._pcm = bytearray()

    def open(self, format: Format) -> Callable[[bytes], object]:
        self.is_empty = False
        self._format = format
        return self._pcm.extend

    def take(self, pcm: memoryview) -> int:
        """Append the samples; return the number of bytes. Called by the thread that produces the audio."""
        self._pcm += pcm
        return len(pcm)

    def end(self, *, complete: bool) -> None:
        if complete:
            self.wav = wav_header(self._format, len(self._pcm)) + self._pcm


def speaker_problem(settings: SpeakerSettings) -> str:
    """Open and close the speaker; return in a few words why it cannot be used, or an empty string if it can."""
    from agent.audio.devices.device import is_card, open_sink

    if not is_card(settings.device):
        return ""
    try:
        open_sink(settings.device, Format(22050), settings.period_seconds, settings.buffer_seconds).close()
    except (DeviceError, AudioError) as error:
        if not isinstance(error, DeviceError) or not (error.unknown or error.problem is DeviceProblem.ABSENT):
            return "the speaker cannot be opened (doctor shows the reason)"
        return "no sound card" if settings.device == "default" else f"no sound card {settings.device!r}"
    return ""


def check_writable(path: str) -> None:
    """Raise ``AudioError`` if no WAV file can be written to ``path``. An existing file is not changed."""
    check_suffix(path)
    WavWriter(path, SPEECH).discard()


FULL_PIPE_MILLISECONDS = 20
"""Longest wait for the reader of a full pipe."""


class ReadyWriter:
    """Writes as much as a pipe or a file accepts almost without blocking. Not thread-safe.

    Args:
        descriptor: The output. It stays in blocking mode, because other processes share the mode; a pipe is opened
            again in non-blocking mode. An output of another type accepts nothing.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = self._opened = -1
        self._room = select.poll()
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            self._descriptor = descriptor
        elif stat.S_ISFIFO(mode):
            with contextlib.suppress(OSError):  # a pipe of another user, or no /proc: accept nothing
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
                self._descriptor = self._opened = os.open(f"/proc/self/fd/{descriptor}", flags)
                self._room.register(self._opened, select.POLLOUT)

    def write(self, data: memoryview) -> int:
        """Write as much of ``data`` as is accepted; return the number of bytes. An error is not reported.

        If a pipe is full, wait once, up to ``FULL_PIPE_MILLISECONDS``: its reader may be only a little slower than the
        service, and passing the rest to another thread would cost more CPU time.
        """
        written, has_waited = 0, False
        with contextlib.suppress(OSError):
            while written < len(data):
                try:
                    written += os.write(self._descriptor, data[written:])
                except BlockingIOError:
                    if has_waited or not self._room.poll(FULL_PIPE_MILLISECONDS):
                        break
                    has_waited = True
        return written

    def close(self) -> None:
        """Close the second descriptor of a pipe. While it is open, the reader sees no end of the stream. Idempotent."""
        opened, self._opened = self._opened, -1
        if opened >= 0:
            os.close(opened)
            self._descriptor = -1


def _write_stdout(data: bytes) -> None:
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise  # the reader closed the pipe: the command ends without an error
    except OSError as error:
        raise AudioError(f"the audio cannot be written to standard output: {error.strerror}") from error
