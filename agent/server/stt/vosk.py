"""The engine vosk: any language for which there is a model, on any machine."""

from __future__ import annotations

import json
import threading
from typing import Any

from agent.audio.format import SPEECH
from agent.errors import AudioError
from agent.services.protocols.codec import Transcript
from agent.services.protocols.transcription import read_words

_LOAD_SECONDS = 120.0
_INSTALL = 'install the extra "vosk"'


class Vosk:
    """Recognises with the model in ``model_path``, which is loaded once, in a thread of its own from ``prepare`` on."""

    name = "vosk"

    def __init__(self, model_path: str) -> None:
        self._path = model_path
        self._lock = threading.Lock()
        self._loader: threading.Thread | None = None
        self._make: Any = None
        self._failure: str | None = None

    def prepare(self) -> None:
        with self._lock:
            if self._loader is None:
                self._loader = threading.Thread(target=self._load, name="vosk-model", daemon=True)
                self._loader.start()

    def open(self) -> Listening:
        self.prepare()
        assert self._loader is not None
        self._loader.join(_LOAD_SECONDS)
        if self._make is None:
            raise AudioError(self._failure or "the model of vosk is not loaded yet: try again in a moment")
        return Listening(self._make())

    def _load(self) -> None:
        try:
            import vosk
        except (ImportError, OSError) as error:
            self._failure = f"vosk cannot be used ({error}): {_INSTALL}"
            return
        vosk.SetLogLevel(-1)
        try:
            model = vosk.Model(self._path)
        except Exception as error:  # noqa: BLE001 - the package raises nothing more precise
            self._failure = f"the model in {self._path} cannot be loaded ({error}): name a directory made for vosk"
            return

        def make() -> Any:
            recogniser = vosk.KaldiRecognizer(model, SPEECH.rate)
            recogniser.SetWords(True)
            return recogniser

        self._make = make


class Listening:
    """One session with vosk; its endpoints make the finals."""

    def __init__(self, recogniser: Any) -> None:
        self._recogniser = recogniser
        self._partial = ""

    def feed(self, pcm: bytes) -> list[Transcript]:
        if self._recogniser.AcceptWaveform(pcm):
            self._partial = ""
            return _final(self._recogniser.Result())
        text = str(json.loads(self._recogniser.PartialResult()).get("partial", "")).strip()
        if not text or text == self._partial:
            return []
        self._partial = text
        return [Transcript(text, final=False)]

    def finish(self) -> list[Transcript]:
        return _final(self._recogniser.FinalResult())

    def close(self) -> None:
        return


def _final(answer: str) -> list[Transcript]:
    found = json.loads(answer)
    text = str(found.get("text", "")).strip()
    words, _ = read_words(found.get("result"))
    return [Transcript(text, final=True, words=words)] if text else []
