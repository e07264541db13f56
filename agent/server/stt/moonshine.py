"""The engine moonshine: English, with punctuation, its model inside its package."""

from __future__ import annotations

import logging
import threading
import time
from array import array
from pathlib import Path
from typing import Any

from agent.audio.format import SPEECH
from agent.errors import AudioError
from agent.server.stt.engine import spread
from agent.services.protocols.codec import Transcript

log = logging.getLogger(__name__)

_UPDATE_SECONDS = 0.5
_TAIL_SECONDS = 0.6
_LINES_A_STREAM = 16
_LOAD_SECONDS = 60.0
_INSTALL = 'install the extra "recognition" (moonshine-voice 0.0.73, for x86-64 and arm64), or use vosk with a model'


class Moonshine:
    """Recognises English. The model (42 MB) is loaded once, in a thread of its own from ``prepare`` on; all sessions
    share it and take turns."""

    name = "moonshine"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loader: threading.Thread | None = None
        self._model: Any = None
        self._refusal: type[Exception] = AudioError  # the package's own, once it is loaded
        self._failure: str | None = None
        self._turn = threading.Lock()

    def prepare(self) -> None:
        with self._lock:
            if self._loader is None:
                self._loader = threading.Thread(target=self._load, name="moonshine-model", daemon=True)
                self._loader.start()

    def open(self) -> Listening:
        self.prepare()
        assert self._loader is not None
        self._loader.join(_LOAD_SECONDS)
        if self._model is None:
            raise AudioError(self._failure or "the model of moonshine is not loaded yet: try again in a moment")
        return Listening(self._model, self._turn, self._refusal)

    def _load(self) -> None:
        try:
            from moonshine_voice.errors import MoonshineError
            from moonshine_voice.transcriber import ModelArch, Transcriber
            from moonshine_voice.utils import get_assets_path
        except (ImportError, OSError) as error:
            self._failure = f"moonshine cannot be used ({error}): {_INSTALL}"
            return
        try:
            model = Path(get_assets_path()) / "tiny-en"
            self._refusal = MoonshineError
            self._model = Transcriber(str(model), ModelArch.TINY, options={"return_audio_data": "false"})
        except (MoonshineError, OSError) as error:
            self._failure = f"the model of moonshine cannot be loaded ({error}): {_INSTALL}"


class Listening:
    """One session with moonshine: partials every 0.5 s or, on a slow machine, every so often that it keeps up; finals
    where the speaker pauses. The engine tells no times of words, so they are spread over the time of their line."""

    def __init__(self, model: Any, turn: threading.Lock, refusal: type[Exception]) -> None:
        self._model, self._turn, self._refusal = model, turn, refusal
        self._stream: Any = None
        self._begin(0.0)

    def feed(self, pcm: bytes) -> list[Transcript]:
        self._add(pcm)
        if self._heard_seconds - self._updated_seconds < self._patience_seconds:
            return []
        return self._update()

    def finish(self) -> list[Transcript]:
        if self._stream is None:
            return []
        given: list[Transcript] = []
        for _ in range(2):
            # The engine finishes a line only in an update that comes after the pause behind it. Stopped without one, it
            # loses the last words, and at times the whole line.
            self._add(bytes(SPEECH.bytes_of(_TAIL_SECONDS)))
            given += self._update()
        if self._stream is not None:
            with self._turn:
                transcript = self._stream.stop()
            given += self._read(transcript.lines if transcript else [], all_final=True)
        self.close()
        return [said for said in given if said.final]

    def close(self) -> None:
        if self._stream is not None:
            with self._turn:
                self._stream.close()
            self._stream = None

    def _begin(self, offset_seconds: float) -> None:
        with self._turn:
            if self._stream is not None:
                self._stream.stop()
                self._stream.close()
            self._stream = self._model.create_stream(update_interval=float("inf"))
            self._stream.start()
        self._offset_seconds = offset_seconds
        self._heard_seconds = self._updated_seconds = 0.0
        self._patience_seconds = _UPDATE_SECONDS
        self._took_seconds = 0.0
        self._given: set[int] = set()
        self._partial = ""

    def _add(self, pcm: bytes) -> None:
        if self._stream is None or not pcm:
            return
        sound = [sample / 32768 for sample in array("h", pcm[: len(pcm) & ~1])]
        with self._turn:
            self._stream.add_audio(sound, SPEECH.rate)
        self._heard_seconds += SPEECH.seconds_of(len(pcm))

    def _update(self) -> list[Transcript]:
        began = time.monotonic()
        try:
            with self._turn:
                lines = self._stream.update_transcription().lines
        except self._refusal as error:
            log.warning("moonshine passed over a moment: %s", error)  # the next update sees the same sound again
            lines = []
        took = time.monotonic() - began
        # A third of the time at most goes into looking again at what is not complete yet, so that several sessions,
        # or one on a slow machine, do not fall behind the sound. One slow moment is no slow machine.
        self._patience_seconds = max(_UPDATE_SECONDS, 3 * min(took, self._took_seconds))
        self._took_seconds = took
        self._updated_seconds = self._heard_seconds
        given = self._read(lines)
        if len(lines) >= _LINES_A_STREAM and all(line.is_complete for line in lines):
            # The engine hands back all lines of a stream each time; a new one keeps a long session as quick as a short.
            self._begin(self._offset_seconds + self._heard_seconds)
        return given

    def _read(self, lines: list[Any], all_final: bool = False) -> list[Transcript]:
        given: list[Transcript] = []
        for line in lines:
            text = line.text.strip()
            if line.line_id in self._given or not text:
                continue
            if line.is_complete or all_final:
                self._given.add(line.line_id)
                self._partial = ""
                start = self._offset_seconds + line.start_time
                given.append(Transcript(text, final=True, words=spread(text, start, start + line.duration)))
            elif text != self._partial:
                self._partial = text
                given.append(Transcript(text, final=False))
        return given
