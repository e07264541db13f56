"""Recognition engine vosk: any language that has a model."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from agent.audio.format import SPEECH
from agent.errors import AudioError, UsageError
from agent.server.stt.engine import SttEngine, SttOptions, is_installed
from agent.services.protocols.codec import Transcript
from agent.services.protocols.transcription import read_words
from agent.system.optional_parts import install_command

_LOAD_SECONDS = 120.0


class VoskEngine:
    """Recognizes speech with the model in ``model_path``. Thread-safe.

    ``prepare`` starts a separate thread, which loads the model once.
    """

    name = "vosk"

    def __init__(self, model_path: str) -> None:
        self._path = model_path
        self._lock = threading.Lock()
        self._loader: threading.Thread | None = None
        self._create_recognizer: Any = None
        self._failure: str | None = None

    def prepare(self) -> None:
        with self._lock:
            if self._loader is None:
                # If a thread with this suffix is alive at shutdown, main.py ends the process with os._exit().
                self._loader = threading.Thread(target=self._load, name="vosk-model", daemon=True)
                self._loader.start()

    def open(self) -> VoskStream:
        self.prepare()
        assert self._loader is not None
        self._loader.join(_LOAD_SECONDS)
        if self._create_recognizer is None:
            raise AudioError(self._failure or "the vosk model is still loading: retry in a moment")
        return VoskStream(self._create_recognizer())

    def _load(self) -> None:
        try:
            import vosk
        except (ImportError, OSError) as error:
            self._failure = f"vosk cannot be imported ({error}). Install it: {install_command('vosk')}"
            return
        vosk.SetLogLevel(-1)
        try:
            model = vosk.Model(self._path)
        except Exception as error:  # noqa: BLE001 - the package raises bare Exception
            self._failure = f"the vosk model in {self._path} cannot be loaded ({error}): name the directory of one"
            return

        def create_recognizer() -> Any:
            recognizer = vosk.KaldiRecognizer(model, SPEECH.rate)
            recognizer.SetWords(True)
            return recognizer

        self._create_recognizer = create_recognizer


def create(options: SttOptions) -> SttEngine:
    """Create the engine; the entry point of the registry.

    Raises:
        UsageError: The package or the directory of the model is missing.
    """
    if not options.model_path or not Path(options.model_path).is_dir():
        raise UsageError(
            f"the engine vosk needs a model, and {options.model_path!r} is not a directory: "
            "name one with --model-path or server.model_path"
        )
    if not is_installed("vosk"):
        command = install_command("vosk")
        raise UsageError(f"the engine vosk is not installed. Install it: {command}; or choose another engine")
    return VoskEngine(options.model_path)


class VoskStream:
    """One recognition stream; vosk detects the segments. Not thread-safe; owned by the connection's thread."""

    def __init__(self, recognizer: Any) -> None:
        self._recognizer = recognizer
        self._partial = ""

    def feed(self, pcm: bytes) -> list[Transcript]:
        if self._recognizer.AcceptWaveform(pcm):
            self._partial = ""
            return _final(self._recognizer.Result())
        text = str(json.loads(self._recognizer.PartialResult()).get("partial", "")).strip()
        if not text or text == self._partial:
            return []
        self._partial = text
        return [Transcript(text, is_final=False)]

    def early_final(self) -> list[Transcript]:
        text = str(json.loads(self._recognizer.PartialResult()).get("partial", "")).strip()
        return [Transcript(text, is_final=True, is_early=True)]

    def finish(self) -> list[Transcript]:
        return _final(self._recognizer.FinalResult())

    def close(self) -> None:
        return


def _final(message: str) -> list[Transcript]:
    result = json.loads(message)
    text = str(result.get("text", "")).strip()
    words, _ = read_words(result.get("result"))
    return [Transcript(text, is_final=True, words=words)] if text else []
