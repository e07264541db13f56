"""The engine espeak-ng: any language, on any machine, within milliseconds."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from typing import IO

from agent.errors import AudioError
from agent.server.tts.engine import Speech, VoiceOptions

_CHUNK_BYTES = 8192
_HEADER_BYTES = 4096
_PATIENCE_SECONDS = 60.0
_VOICE = re.compile(r"[A-Za-z]{2,3}([-+][A-Za-z0-9]{1,12}){0,3}")
_WORDS_A_MINUTE = 175
_RATE = 22050
_COMMAND = ("espeak-ng", "--stdin", "--stdout", "-b", "1")  # -b 1: the text is UTF-8


class Espeak:
    """Speaks through the program espeak-ng, in the language asked for or as ``espeak:VOICE`` (``espeak:de``,
    ``espeak:en-us+f3``). A language it does not have is read in English."""

    def speak(self, text: str, manner: VoiceOptions) -> Speech:
        if not re.search(r"\w", text):
            return Speech(_RATE, iter(()))  # nothing that could be pronounced, for which there would be no header
        text = text.replace("\0", " ")  # at which it would stop reading
        wanted = manner.voice.removeprefix("espeak:") if manner.voice.startswith("espeak:") else manner.code
        voice = wanted if _VOICE.fullmatch(wanted) else "en"
        words_a_minute = round(_WORDS_A_MINUTE * min(max(manner.speed, 0.5), 2.5))
        last: AudioError | None = None
        for name in dict.fromkeys((voice, "en")):
            try:
                program = _Program([*_COMMAND, "-v", name, "-s", str(words_a_minute)], text)
            except AudioError as error:
                last = error
                continue
            chunks = program.chunks()
            next(chunks)  # begins it, so that closing it from now on ends the program
            return Speech(program.rate, chunks)
        raise last or AudioError("espeak-ng gave no sound")


class _Program:
    """espeak-ng at work, read while it speaks. The text goes to its standard input, so that no text is ever taken for
    an option. Leaving ``chunks`` early ends it; running for more than a minute ends it too."""

    def __init__(self, argv: list[str], text: str) -> None:
        try:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            raise AudioError(
                f"espeak-ng cannot be started ({error.strerror}): install the package espeak-ng"
            ) from error
        self._limit = threading.Timer(_PATIENCE_SECONDS, self._process.kill)
        self._limit.daemon = True
        self._limit.start()
        # A thread of its own: the program may fill its output before it has read all of its input.
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
            while chunk := self._output.read(_CHUNK_BYTES):
                yield chunk
            if self._process.wait() != 0:
                raise AudioError(f"espeak-ng ended with status {self._process.returncode} while it spoke")
        finally:
            self.close()

    def close(self) -> None:
        self._limit.cancel()
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
            return  # the program ended before it had read all; its status tells how

    def _read_header(self) -> int:
        """Reads up to the first sample. The sizes in the header of a stream are not true and not looked at."""
        head = b""
        while len(head) < _HEADER_BYTES and (more := self._output.read(4)):
            head += more
            at = head.find(b"data")
            if at >= 0 and len(head) >= at + 8:
                return int.from_bytes(head[24:28], "little")
        raise AudioError(
            "espeak-ng gave no sound: does it have this voice, and is the package espeak-ng-data complete?"
        )
