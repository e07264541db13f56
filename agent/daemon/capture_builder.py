"""Builds the stages that listen: microphone, echo canceller, endpointer, wake word, recognizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agent.daemon.connection_builder import CLOSE_TIMING, local_server_url, standby_for, uses_local_recognition
from agent.daemon.device_files import device_files
from agent.daemon.reply_builder import intent_matcher
from agent.daemon.shutdown import STOP_ANSWER_SHARE
from agent.pipeline.events import Event
from agent.pipeline.settings import WakeSettings
from agent.services.connection.standby import Standby
from agent.services.service import TranscriptionService, WakeService
from agent.settings.model import Config

# The stages that capture are imported where they are built, so that a daemon that only announces starts faster.
if TYPE_CHECKING:
    from agent.audio.devices.device import Source, WaitPolicy
    from agent.audio.echo.reference import EchoReference
    from agent.daemon.local_server import LocalServer
    from agent.pipeline.capture.echo_guard import EchoGuard
    from agent.pipeline.capture.endpointer import Endpointer
    from agent.pipeline.capture.frame_queue import FrameQueue, FrameSource
    from agent.pipeline.capture.microphone import Microphone
    from agent.pipeline.capture.spotter import Spotter
    from agent.pipeline.capture.wake_gate import WakeGate
    from agent.pipeline.stt.recognizer import Recognizer

FRAME_QUEUE_SECONDS = 2.0
"""Length of the frame queue. Unless the machine is overloaded, the recognizer takes every frame immediately."""


def make_microphone(
    config: Config,
    frames: FrameQueue,
    report: Callable[[Event], None],
    *,
    wait_policy: WaitPolicy | None = None,
    reference: EchoReference | None = None,
) -> Microphone:
    """Build the microphone.

    Args:
        config: The configuration.
        frames: Receives the frames.
        report: Receives the events.
        wait_policy: Decides whether to wait for a device that was never open; by default ``wait_for_device``.
        reference: Receives the time of each captured frame, for the echo canceller; ``None`` without one.
    """
    from agent.audio.devices.device import wait_for_device
    from agent.pipeline.capture.microphone import Microphone

    frame = config.microphone.frame_seconds
    return Microphone(
        frames,
        lambda: open_microphone(config, frame),
        report,
        frame_seconds=frame,
        wait_policy=wait_policy or wait_for_device,
        captured=None if reference is None else reference.captured,
    )


def open_microphone(config: Config, frame_seconds: float) -> Source:
    """Open the configured microphone. Raises ``AgentError`` if it cannot be used."""
    from agent.audio.devices.device import open_source

    settings = config.microphone
    with device_files("microphone.device"):
        return open_source(settings.device, frame_seconds, settings.channel, settings.gain_db)


def make_echo_guard(config: Config, reference: EchoReference, report: Callable[[Event], None]) -> EchoGuard:
    """Build the echo canceller and the voice activity detector that gets its output."""
    from agent.audio.echo.canceller import EchoCanceller
    from agent.pipeline.capture.echo_guard import EchoGuard
    from agent.pipeline.capture.vad import create_detector

    echo, talk = config.echo, config.conversation
    delay = echo.delay_seconds if isinstance(echo.delay_seconds, float) else None
    canceller = EchoCanceller(reference, echo.tail_seconds, delay)
    return EchoGuard(canceller, create_detector(talk.vad), talk.interrupt, report)


def make_endpointer(config: Config, report: Callable[[Event], None], guard: EchoGuard | None = None) -> Endpointer:
    """Build the endpointer: by voice activity, or, in captions mode, without endpoints.

    Args:
        config: The configuration.
        report: Receives the events of a wake word service.
        guard: Detects voice activity in the output of the echo canceller; ``None`` without an echo canceller.
    """
    from agent.pipeline.capture.endpointer import NullEndpointer, VadEndpointer
    from agent.pipeline.capture.vad import create_detector

    settings = config.conversation
    if settings.mode == "captions":
        return NullEndpointer()
    return VadEndpointer(
        guard or create_detector(settings.vad),
        silence_seconds=settings.silence_seconds.unsure,
        turn_seconds=settings.turn_seconds,
        pre_roll_seconds=config.microphone.pre_roll_seconds,
        choose_pause=pause_chooser(config),
        gate=make_wake_gate(config, report),
        has_wake_sound=config.wake.sound,
    )


def make_wake_gate(config: Config, report: Callable[[Event], None]) -> WakeGate | None:
    """Build the gate that opens after a wake word; ``None`` if speech needs no wake word."""
    settings = config.wake
    if settings.engine == "none":
        return None
    from agent.pipeline.capture.wake_gate import WakeGate
    from agent.pipeline.state import LISTEN_SECONDS

    return WakeGate(lambda: make_spotter(settings, report=report), LISTEN_SECONDS, stop_spotter_maker(config))


def make_spotter(
    settings: WakeSettings,
    near_share: float | None = None,
    report: Callable[[Event], None] = lambda event: None,
) -> Spotter:
    """Load the engine that detects wake words.

    Args:
        settings: The wake words.
        near_share: As for ``MicroSpotter``; by default ``NEAR_SHARE``.
        report: Receives the events of a wake word service.

    Raises:
        AudioError: A model or its library cannot be loaded.
    """
    if settings.engine == "vosk":
        from agent.pipeline.capture.vosk_words import VoskSpotter

        return VoskSpotter(settings.model_path, settings.spoken_words, settings.sensitivity)
    if settings.engine == "wyoming":
        from agent.pipeline.capture.wyoming_words import WyomingSpotter

        service = WakeService(settings.url, settings.spoken_words, allow_plaintext=settings.allow_plaintext)
        return WyomingSpotter(standby_for(service, report, eager=False), settings.spoken_words[0])
    from agent.pipeline.capture.wake_word import NEAR_SHARE, MicroSpotter, find_models

    models = find_models(settings.spoken_words, settings.own)[0]
    return MicroSpotter(models, settings.sensitivity, NEAR_SHARE if near_share is None else near_share)


def hears_while_speaking(config: Config) -> bool:
    """Return whether the microphone may be open while the device speaks, so that stop words can be heard."""
    return config.conversation.listen_while_speaking or config.conversation.interrupt != "never"


def stop_spotter_maker(config: Config) -> Callable[[], Spotter] | None:
    """Return the function that loads the engine that detects stop words.

    ``None`` if the microphone is closed while the device speaks, or if there is no model or no stop word.
    """
    settings = config.wake
    if not hears_while_speaking(config) or not settings.model_path or not settings.stop:
        return None

    def load() -> Spotter:
        from agent.pipeline.capture.vosk_words import VoskSpotter, missing_words
        from agent.pipeline.text.stopping import AUTO, DEFAULT_WORDS, stop_words

        folder = Path(settings.model_path)
        language = config.synthesis.text.language
        if language == AUTO:  # use the language whose stop words are all in the vocabulary of the model
            # The first missing word ends the test of a language: each search for a word reads the whole vocabulary.
            known = (each for each, words in DEFAULT_WORDS.items() if next(missing_words(folder, words), None) is None)
            language = next(known, AUTO)
        words = stop_words(settings.stop, language)
        missing = frozenset(missing_words(folder, words))
        spoken = [word for word in words if missing.isdisjoint(word.casefold().split())]
        return VoskSpotter(settings.model_path, spoken, settings.sensitivity)

    return load


def pause_chooser(config: Config) -> Callable[[str], float]:
    """Return a function that maps the text of a turn to the silence, in seconds, that ends the turn."""
    from agent.pipeline.capture.pauses import PauseChooser
    from agent.pipeline.responders.registry import request_matcher

    pauses = config.conversation.silence_seconds
    knows, matches_intent = request_matcher(config.responder), intent_matcher(config)

    def matches(text: str) -> bool:
        return matches_intent(text) or knows(text)

    return PauseChooser(pauses.complete_seconds, pauses.unsure, pauses.incomplete_seconds, matches).choose


def make_recognizer(
    config: Config,
    frames: FrameSource,
    endpointer: Endpointer,
    report: Callable[[Event], None],
    local: LocalServer | None,
    *,
    report_seconds: float = 0.0,
    clean: Callable[[bytes, int], bytes] | None = None,
) -> Recognizer:
    """Build the recognizer with its connection to the transcription service.

    Args:
        config: The configuration.
        frames: The audio.
        endpointer: Divides the audio into segments.
        report: Receives the events.
        local: As for ``build_pipeline``.
        report_seconds: As for ``StandbyTiming``.
        clean: As for ``Recognizer``.
    """
    from agent.pipeline.stt.recognizer import Recognizer

    find_stop_word = None
    if hears_while_speaking(config):
        from agent.pipeline.text.stopping import StopWords, stop_words

        find_stop_word = StopWords(stop_words(config.wake.stop, config.synthesis.text.language)).find
    split_wake_word = None
    if config.wake.engine != "none":
        from agent.pipeline.text.wake_prefix import WakePrefix

        split_wake_word = WakePrefix(config.wake.spoken_words).split
    return Recognizer(
        frames,
        endpointer,
        make_transcription(config, report, local, report_seconds=report_seconds),
        report,
        captions=endpointer.continuous,
        find_stop_word=find_stop_word,
        split_wake_word=split_wake_word,
        clean=clean,
        answer_seconds=config.transcription.answer_seconds,
        stop_seconds=STOP_ANSWER_SHARE * config.shutdown_seconds,
        outage_seconds=config.microphone.outage_seconds,
        close_timing=CLOSE_TIMING,
    )


def make_transcription(
    config: Config,
    report: Callable[[Event], None],
    local: LocalServer | None,
    *,
    generation: int = 0,
    report_seconds: float = 0.0,
) -> Standby:
    """Build the connection to the transcription service. It is dialed when the recognizer needs it."""
    # The local server may have chosen a free port, so the server provides the address, not the configuration.
    is_local = uses_local_recognition(config, local)
    service = TranscriptionService(config.transcription, local_server_url(config, local) if is_local else None)
    # Some servers accept one client at a time, so the next connection is dialed after the previous one has ended.
    return standby_for(service, report, eager=False, generation=generation, report_seconds=report_seconds)
