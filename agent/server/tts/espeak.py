"""Speech engine espeak-ng: many languages, first audio within milliseconds."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import threading
from collections.abc import Iterator
from typing import IO

from agent.errors import AudioError
from agent.server.tts.engine import SynthesizedAudio, TtsEngine, VoiceOptions

_CHUNK_BYTES = 8192
_MAX_HEADER_BYTES = 4096
_TIMEOUT_SECONDS = 60.0
VOICE_PATTERN = re.compile(r"[A-Za-z]{2,3}([-+][A-Za-z0-9]{1,12}){0,3}")
_WORDS_PER_MINUTE = 175
_RATE = 22050
_COMMAND = ("espeak-ng", "--stdin", "--stdout", "-b", "1")  # -b 1: the text is UTF-8


class EspeakEngine:
    """Runs the program espeak-ng, one process per sentence. Thread-safe.

    The voice is that of the requested language, or ``espeak:VOICE`` (``espeak:de``, ``espeak:en-us+f3``). English
    replaces a language or voice that espeak-ng does not have.
    """

    def speak(self, text: str, options: VoiceOptions) -> SynthesizedAudio:
        if not re.search(r"\w", text):
            # espeak-ng writes no WAV header for a text without a word.
            return SynthesizedAudio(_RATE, iter(()))
        text = text.replace("\0", " ")  # espeak-ng stops reading at a NUL
        requested = options.voice.removeprefix("espeak:") if options.voice.startswith("espeak:") else options.code
        voice = requested if VOICE_PATTERN.fullmatch(requested) else "en"
        words_per_minute = round(_WORDS_PER_MINUTE * min(max(options.speed, 0.5), 2.5))
        last: AudioError | None = None
        for name in dict.fromkeys((voice, "en")):
            try:
                process = _EspeakProcess([*_COMMAND, "-v", name, "-s", str(words_per_minute)], text)
            except AudioError as error:
                last = error
                continue
            chunks = process.chunks()
            next(chunks)  # starts the generator, so that close() runs its finally block from now on
            return SynthesizedAudio(process.rate, chunks)
        raise last or AudioError("espeak-ng produced no audio")


def create() -> TtsEngine:
    """Create the engine; the entry point of the registry."""
    return EspeakEngine()


class _EspeakProcess:
    """A running espeak-ng; its output is read during the synthesis. Not thread-safe; owned by the thread that reads.

    The text goes to standard input, so that no text can be parsed as an option. Closing ``chunks`` early kills the
    process, and so does a read that gets no output for 60 s. The total time has no limit: espeak-ng blocks in writing
    its output while the client pauses or reads at playback speed.

    Raises:
        AudioError: espeak-ng cannot be started or produces no audio, for example for an unknown voice.
    """

    def __init__(self, argv: list[str], text: str) -> None:
        try:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            raise AudioError(f"espeak-ng cannot be started: {error.strerror}. Install the package espeak-ng") from error
        # A separate thread writes the text: espeak-ng may fill its output pipe before it has read all of its input.
        self._writer = threading.Thread(target=self._write, args=(text.encode("utf-8", "replace"),), name="espeak-text")
        self._writer.start()
        try:
            self.rate = self._read_header()
        except AudioError:
            self.close()
            raise

    def chunks(self) -> Iterator[bytes]:
        try:
            yield b""
            while chunk := self._read(_CHUNK_BYTES):
                yield chunk
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_TIMEOUT_SECONDS)
            if self._process.returncode != 0:
                raise AudioError(f"espeak-ng failed during synthesis: exit status {self._process.returncode}")
        finally:
            self.close()

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._output.close()
        self._process.wait()
        self._writer.join()

    @property
    def _output(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _write(self, text: bytes) -> None:
        assert self._process.stdin is not None
        try:
            with self._process.stdin as stdin:
                stdin.write(text)
        except OSError:
            return  # the process ended before it read all text; its exit status reports the failure

    def _read(self, max_bytes: int) -> bytes:
        """Wait for output and return it; return an empty value at the end of the output."""
        poll = select.poll()
        poll.register(self._output, select.POLLIN)
        if not poll.poll(_TIMEOUT_SECONDS * 1000):
            raise AudioError(f"espeak-ng failed during synthesis: no audio for {_TIMEOUT_SECONDS:g} s")
        return os.read(self._output.fileno(), max_bytes)  # not a buffered read, which would hide output from poll()

    def _read_header(self) -> int:
        """Read the WAV header, up to the first sample, and return the sample rate in Hz.

        The size fields are ignored: espeak-ng writes the header before it knows the length.
        """
        head = b""
        while len(head) < _MAX_HEADER_BYTES and (more := self._read(4)):
            head += more
            at = head.find(b"data")
            if at >= 0 and len(head) >= at + 8:
                return int.from_bytes(head[24:28], "little")
        raise AudioError(
            "espeak-ng produced no audio: the voice or its data may be missing. "
            "Check the voice's name and the package espeak-ng-data"
        )
