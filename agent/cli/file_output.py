"""Outputs in place of the speaker: a sound file, standard output or memory, and the check whether one is needed."""

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
    """The file or stream of ``say --output``. Not thread-safe; opened by the writer thread, ended after it.

    The suffix decides the format: mp3, Ogg Opus (``.opus``), and WAV for all others. A file exists completely or not at
    all. A stream (``-``) is a WAV whose header has an open length.

    Args:
        output: A path, or ``-`` for standard output.

    Raises:
        AudioError: The file cannot be written, its suffix belongs to another format, or the library of the format is
            missing. It is raised immediately and not at the end of the speech.
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
        """Write what a stream accepts without blocking, in any thread; return the number of bytes. 0 for a file."""
        if self._stdout is None:
            return 0
        return self._stdout.write(pcm)  # the thread that writes the rest also gets and reports the error

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
        from agent.cli.encoded_file import EncodedFile  # most outputs are WAV

        return EncodedFile(self._output, container, format)


class WavMemory:
    """A WAV file in memory. Not thread-safe; opened by the writer thread, ended after it.

    ``wav`` holds the bytes of the file, and is empty unless the audio is complete.
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
        """Keep the samples, in any thread; return the number of bytes."""
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


class ReadyWriter:
    """Writes to a pipe or file what it accepts almost without blocking. Not thread-safe.

    Args:
        descriptor: The descriptor; it stays in blocking mode, which other processes share. A pipe is opened once more.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = self._opened = -1
        self._room = select.poll()
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            self._descriptor = descriptor
        elif stat.S_ISFIFO(mode):
            with contextlib.suppress(OSError):  # a pipe of another user, or no /proc: the other thread writes
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
                self._descriptor = self._opened = os.open(f"/proc/self/fd/{descriptor}", flags)
                self._room.register(self._opened, select.POLLOUT)

    def write(self, data: memoryview) -> int:
        """Write the beginning of ``data``; return its size. An error ends the write and is not reported.

        A full pipe gets a moment. Its reader may be a little slower than the service, and another thread
        for the rest would cost more CPU time.
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
        """Close the pipe that was opened; without it, its reader waits for the end. Idempotent."""
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
