"""Recognition engine moonshine: English with punctuation; the package contains its model."""

from __future__ import annotations

import logging
import threading
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.audio.convert import measure_level
from agent.audio.format import SPEECH
from agent.errors import AudioError
from agent.server.stt.engine import SttEngine, SttOptions, estimate_word_times
from agent.server.work_slots import WorkSlots
from agent.services.protocols.codec import Transcript
from agent.system.optional_parts import install_command

log = logging.getLogger(__name__)

_UPDATE_SECONDS = 0.5  # minimum of new audio between two updates
_PAUSE_SECONDS = 0.6  # silence that is added twice to complete the last line
_QUIET_SECONDS = 0.1  # audio before an early final that gives the level of silence
_MIN_QUIET_PEAK = 64  # s16; audio up to this peak is always silence
_MAX_LINES = 16  # complete lines after which a new stream starts
_LOAD_SECONDS = 60.0
_FORCE_UPDATE = 1  # MOONSHINE_FLAG_FORCE_UPDATE


class MoonshineEngine:
    """Recognizes English speech. Thread-safe.

    ``prepare`` starts a separate thread, which loads the model (42 MB) once. All streams share the model and use it one
    at a time, in the order of their requests. Requests for an early or a last final come before those for partials.
    """

    name = "moonshine"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loader: threading.Thread | None = None
        self._model: Any = None
        self._error_type: type[Exception] = AudioError  # MoonshineError after the import
        self._failure: str | None = None
        self._model_slot = WorkSlots(1)

    def prepare(self) -> None:
        with self._lock:
            if self._loader is None:
                # If a thread with this suffix is alive at shutdown, main.py ends the process with os._exit().
                self._loader = threading.Thread(target=self._load, name="moonshine-model", daemon=True)
                self._loader.start()

    def open(self) -> MoonshineStream:
        self.prepare()
        assert self._loader is not None
        self._loader.join(_LOAD_SECONDS)
        if self._model is None:
            raise AudioError(self._failure or "the moonshine model is still loading: retry in a moment")
        return MoonshineStream(self._model, self._model_slot, self._error_type)

    def _load(self) -> None:
        try:
            from moonshine_voice.errors import MoonshineError
            from moonshine_voice.transcriber import ModelArch, Transcriber
            from moonshine_voice.utils import get_assets_path
        except (ImportError, OSError) as error:
            self._failure = f"moonshine cannot be imported ({error}): {_install_hint()}"
            return
        try:
            model = Path(get_assets_path()) / "tiny-en"
            self._error_type = MoonshineError
            self._model = Transcriber(str(model), ModelArch.TINY, options={"return_audio_data": "false"})
        except (MoonshineError, OSError) as error:
            self._failure = f"the moonshine model cannot be loaded ({error}): {_install_hint()}"


def _install_hint() -> str:
    command = install_command("recognition")
    return f"install moonshine-voice 0.0.73 (for x86-64 and arm64): {command}; or use vosk with a model"


def create(options: SttOptions) -> SttEngine:
    """Create the engine; the entry point of the registry."""
    return MoonshineEngine()


class MoonshineStream:
    """One recognition stream. Not thread-safe; owned by the connection's thread.

    A partial follows every 0.5 s of audio; on a slow machine the interval is longer, so that recognition keeps up with
    the audio. A final follows each pause. moonshine reports no word times, so the words are distributed over the
    duration of their line (moonshine's unit of text between two pauses).

    Args:
        model: The package's transcriber.
        model_slot: Slot that serializes the use of ``model``.
        error_type: Exception that the package raises for a failed call.
        clock: Monotonic clock in seconds.

    Raises:
        AudioError: The package cannot start a stream; also from ``feed``, ``early_final`` and ``finish``.
    """

    def __init__(
        self,
        model: Any,
        model_slot: WorkSlots,
        error_type: type[Exception],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model, self._model_slot, self._error_type, self._clock = model, model_slot, error_type, clock
        self._stream: Any = None
        self._start(0.0)

    def feed(self, pcm: bytes) -> list[Transcript]:
        self._add(pcm)
        if self._received_seconds - self._updated_seconds < self._interval_seconds:
            return []
        return self._update()

    def early_final(self) -> list[Transcript]:
        if self._stream is None:
            return [Transcript("", is_final=True, is_early=True)]
        silence = bytes(self._pending[-SPEECH.bytes_of(_QUIET_SECONDS) :])
        finals = [transcript for transcript in self._update(is_last=True, is_forced=True) if transcript.is_final]
        if not self._has_failed:
            self._quiet_peak = max(_MIN_QUIET_PEAK, 2 * measure_level(silence)[1])
        start = self._offset_seconds + self._partial_seconds
        words = estimate_word_times(self._partial, start, self._offset_seconds + self._received_seconds)
        self._early = Transcript(self._partial, is_final=True, words=words)
        return [*finals, self._early._replace(is_early=True)]

    def finish(self) -> list[Transcript]:
        if self._stream is None:
            return []
        if self._is_early_complete():
            self.close()
            return [self._early] if self._early.text else []
        transcripts: list[Transcript] = []
        for _ in range(2):
            # moonshine completes a line only in an update after the pause that follows the line (measured, 0.0.73).
            # Without this added silence, the last words are missing, sometimes the whole line.
            self._add(bytes(SPEECH.bytes_of(_PAUSE_SECONDS)))
            transcripts += self._update(is_last=True)
        if self._stream is not None:
            try:
                with self._model_slot.urgent():
                    transcript = self._stream.stop()
                transcripts += self._read(transcript.lines if transcript else [], all_final=True)
            except self._error_type as error:
                log.warning("moonshine: stop failed, last words lost, error=%s", error)
        self.close()
        return [transcript for transcript in transcripts if transcript.is_final]

    def _is_early_complete(self) -> bool:
        """Return whether only silence has followed the early final, so that it is also the last final.

        This saves another update, which would delay the reply on the same machine.
        """
        rest = bytes(self._pending)
        is_short = len(rest) <= SPEECH.bytes_of(_UPDATE_SECONDS)
        return self._quiet_peak > 0 and is_short and measure_level(rest)[1] <= self._quiet_peak

    def close(self) -> None:
        with self._model_slot:
            self._close_stream()

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _start(self, offset_seconds: float) -> None:
        with self._model_slot:
            try:
                if self._stream is not None:
                    self._stream.stop()
                    self._close_stream()
                self._stream = self._model.create_stream(update_interval=float("inf"))
                self._stream.start()
            except self._error_type as error:
                self._close_stream()
                raise AudioError(
                    f"moonshine cannot start another stream: {error}. Reduce the number of clients"
                ) from error
        self._offset_seconds = offset_seconds
        self._pending = bytearray()  # audio received since the last update
        self._received_seconds = self._updated_seconds = 0.0
        self._interval_seconds = _UPDATE_SECONDS
        self._last_duration = 0.0
        self._finished_lines: set[int] = set()
        self._partial = ""
        self._partial_seconds = 0.0  # start of the line of the partial, in this stream
        self._early = Transcript("", is_final=True)
        self._quiet_peak = 0  # audio after a valid early final is silence up to this peak; 0 if there is none
        self._has_failed: bool = False  # whether the last update failed

    def _add(self, pcm: bytes) -> None:
        # The next update passes the audio to moonshine. Passing each piece would wait for the updates of other streams.
        self._pending += pcm[: len(pcm) & ~1]
        self._received_seconds += SPEECH.seconds_of(len(pcm))

    def _update(self, *, is_last: bool = False, is_forced: bool = False) -> list[Transcript]:
        if self._stream is None:
            return []
        start = self._clock()
        self._quiet_peak = 0
        self._has_failed = False
        samples = [sample / 32768 for sample in array("h", bytes(self._pending))]
        try:
            with self._model_slot.urgent() if is_last else self._model_slot:
                if samples:
                    self._stream.add_audio(samples, SPEECH.rate)
                    self._pending.clear()
                # Without the flag, the last 0.5 s of audio keep the text of the previous update (measured, 0.0.73).
                lines = self._stream.update_transcription(_FORCE_UPDATE if is_forced else 0).lines
        except self._error_type as error:
            # The stream or the buffer keeps the audio of a failed update, so the next update processes it again.
            log.warning("moonshine: update failed, retrying with the next audio, error=%s", error)
            lines = []
            self._has_failed = True
        duration = self._clock() - start
        # Every update processes the incomplete line again. Updates take at most a third of the time, so that several
        # streams, or one on a slow machine, keep up with the audio. The minimum of two durations ignores a single slow
        # update.
        self._interval_seconds = max(_UPDATE_SECONDS, 3 * min(duration, self._last_duration))
        self._last_duration = duration
        self._updated_seconds = self._received_seconds
        transcripts = self._read(lines)
        if len(lines) >= _MAX_LINES and all(line.is_complete for line in lines):
            # An update returns all lines of its stream. A new stream keeps the updates of a long session fast.
            self._start(self._offset_seconds + self._received_seconds)
        return transcripts

    def _read(self, lines: list[Any], all_final: bool = False) -> list[Transcript]:
        transcripts: list[Transcript] = []
        for line in lines:
            text = line.text.strip()
            if line.line_id in self._finished_lines or not text:
                continue
            if line.is_complete or all_final:
                self._finished_lines.add(line.line_id)
                self._partial = ""
                start = self._offset_seconds + line.start_time
                words = estimate_word_times(text, start, start + line.duration)
                transcripts.append(Transcript(text, is_final=True, words=words))
            elif text != self._partial:
                self._partial, self._partial_seconds = text, line.start_time
                transcripts.append(Transcript(text, is_final=False))
        return transcripts
