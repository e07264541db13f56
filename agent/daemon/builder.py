"""The composition root: builds the stages, services and frontends of the daemon from the configuration."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.audio.format import SPEECH, Format
from agent.daemon.shutdown import (
    CONNECTION_CLOSE_SECONDS,
    DIAL_GIVE_UP_SECONDS,
    STAGE_ABORT_SECONDS,
    STAGE_CLOSE_SECONDS,
    STOP_ANSWER_SHARE,
)
from agent.daemon.supervisor import Supervisor
from agent.errors import ConfigError
from agent.pipeline.events import Delivery, Event
from agent.pipeline.playback.ring_buffer import RingBuffer
from agent.pipeline.service_stage import CloseTiming
from agent.pipeline.settings import CHIMES, NO_CHIME, WakeSettings
from agent.pipeline.stage import make_standby
from agent.pipeline.tts.synthesizer import Synthesizer
from agent.services.connection.standby import Sound, Standby, Timing
from agent.services.service import LocalUrl, SpeechService, TranscriptionService, missing_key
from agent.services.settings import SynthesisSettings
from agent.settings.model import Config, ServerSettings
from agent.system.hosts import connect_host, websocket_url
from agent.system.paths import Paths
from agent.system.text import escape
from agent.system.threads import Worker

# The stages that capture and reply are imported where they are built: a daemon that only announces starts faster.
if TYPE_CHECKING:
    from agent.audio.devices.device import Sink, WaitPolicy
    from agent.audio.echo.reference import EchoReference
    from agent.daemon.local_server import LocalServer
    from agent.pipeline.capture.echo_guard import EchoGuard
    from agent.pipeline.capture.endpointer import Endpointer
    from agent.pipeline.capture.frame_queue import FrameQueue, FrameSource
    from agent.pipeline.capture.microphone import Microphone
    from agent.pipeline.capture.spotter import Spotter
    from agent.pipeline.capture.wake_gate import WakeGate
    from agent.pipeline.device_control import DeviceControl
    from agent.pipeline.playback.speaker import Speaker
    from agent.pipeline.responders.responder import Responder
    from agent.pipeline.responders.worker import ReplyOptions, ResponderWorker
    from agent.pipeline.stt.recognizer import Recognizer
    from agent.pipeline.tts.phrase_cache import PhraseCache
    from agent.pipeline.tts.phrases import Phrases

RING_BYTES = 16 * 1024 * 1024
"""Three minutes at the highest rate of a service. Services send faster than real time and close a socket that is not
read. Only the received audio occupies memory."""

FRAME_QUEUE_SECONDS = 2.0
"""Between the microphone and the recognizer, which takes every frame immediately unless the machine is overloaded."""

CLOSE_TIMING = CloseTiming(STAGE_CLOSE_SECONDS, STAGE_ABORT_SECONDS, CONNECTION_CLOSE_SECONDS)
STANDBY_TIMING = Timing(give_up_seconds=DIAL_GIVE_UP_SECONDS, close_seconds=CONNECTION_CLOSE_SECONDS)


class Pipeline:
    """The stages of one daemon; ``None`` where the mode does not need one.

    Not thread-safe; owned by the main thread. The stages have thread-safe methods of their own.
    """

    def __init__(self, ring: RingBuffer) -> None:
        self.supervisor = Supervisor([])
        self.ring = ring
        self.microphone: Microphone | None = None
        self.endpointer: Endpointer | None = None
        self.recognizer: Recognizer | None = None
        self.responder: ResponderWorker | None = None
        self.synthesizer: Synthesizer | None = None
        self.control: DeviceControl | None = None
        self.speaker: Speaker | None = None
        self.wake_word = ""  # the last one, empty after a request to listen


def build_pipeline(
    config: Config,
    report: Callable[[Event], None],
    local: LocalServer | None,
    permit_start: Callable[[str], Callable[[], None] | None] = lambda utterance: None,
    control: DeviceControl | None = None,
) -> Pipeline:
    """Build the stages for ``config.conversation.mode``; none of them runs yet.

    Args:
        config: The configuration.
        report: Receives the events of the stages.
        local: The local server that this process runs; ``None`` if there is none. The same in all functions below.
        permit_start: As for ``Speaker``.
        control: The device, for spoken requests about itself; ``None`` if ``responder.intents`` is off.

    Raises:
        ConfigError: The configuration cannot be used.
    """
    mode = config.conversation.mode
    pipeline = Pipeline(RingBuffer(RING_BYTES))
    reference: EchoReference | None = None
    if mode == "assistant" and config.echo.canceller != "none":
        from agent.audio.echo.reference import EchoReference

        reference = EchoReference()
    pipeline.control = control
    if mode != "announce":
        from agent.pipeline.capture.frame_queue import FrameQueue

        frames = FrameQueue(config.microphone.outage_seconds if mode == "captions" else FRAME_QUEUE_SECONDS)
        pipeline.microphone = make_microphone(config, frames, report, reference=reference)
        guard = None if reference is None else make_echo_guard(config, reference, report)
        pipeline.endpointer = make_endpointer(config, guard)
        clean = None if guard is None else guard.clean
        pipeline.recognizer = make_recognizer(config, frames, pipeline.endpointer, report, local, clean=clean)
    if mode == "assistant":
        from agent.pipeline.responders.worker import ResponderWorker

        timeout = config.conversation.answer_timeout_seconds
        pipeline.responder = ResponderWorker(
            make_responder(config, pipeline), report, first_word_seconds=timeout, options=reply_options(config)
        )
    if mode != "captions":
        pipeline.synthesizer = make_synthesizer(config, pipeline.ring, report, local, can_suspend=True)
        pipeline.speaker = make_speaker(config, pipeline.ring, report, permit_start=permit_start, reference=reference)
    stages: list[Worker | None] = [
        pipeline.microphone,
        pipeline.recognizer,
        pipeline.responder,
        pipeline.synthesizer,
        pipeline.speaker,
    ]
    pipeline.supervisor = Supervisor([stage for stage in stages if stage is not None])
    return pipeline


def make_responder(config: Config, pipeline: Pipeline) -> Responder:
    """Build the source of the replies, which knows the wake word and the timers of the pipeline.

    Raises:
        ConfigError: A setting that it needs is missing.
    """
    from agent.pipeline.responders import registry

    responder = registry.make_responder(config.responder)
    if by_word := config.word_responders():
        from agent.pipeline.responders.by_word import WordResponder

        targets = {word: registry.make_responder(each) for word, each in by_word.items()}
        responder = WordResponder(responder, targets, lambda: pipeline.wake_word)
    if pipeline.control is not None:
        from agent.pipeline.responders.intents.responder import IntentsResponder

        responder = IntentsResponder(responder, pipeline.control, intent_language(config))
    return responder


def reply_options(config: Config) -> ReplyOptions:
    """Return how the replies of the responder are spoken."""
    from agent.pipeline.responders.worker import ReplyOptions

    responder = config.responder
    return ReplyOptions(config.synthesis.text, responder.empty_reply, responder.failure_reply, may_prepare(config))


def may_prepare(config: Config) -> Callable[[str], bool]:
    """Return whether the reply to a text may be started before the question has ended, as a function."""
    from agent.pipeline.responders.registry import starts_early

    if not starts_early(config.responder) or config.word_responders():
        return lambda text: False
    matches_intent = intent_matcher(config)

    def is_no_fragment(text: str) -> bool:
        from agent.pipeline.capture.turn_end import Completeness, judge  # not before the first question

        return judge(text) is not Completeness.INCOMPLETE and not matches_intent(text)

    return is_no_fragment


def intent_matcher(config: Config) -> Callable[[str], bool]:
    """Return whether a text is a request about the device itself, as a thread-safe function."""
    if not config.responder.intents.is_on:
        return lambda text: False
    from agent.pipeline.responders.intents.recognizer import recognizer_for

    return recognizer_for(intent_language(config)).matches


def intent_language(config: Config) -> str:
    """Return the language of requests about the device itself."""
    language = config.responder.intents.language
    return config.synthesis.language if language == "auto" else language


def make_microphone(
    config: Config,
    frames: FrameQueue,
    report: Callable[[Event], None],
    *,
    wait_policy: WaitPolicy | None = None,
    reference: EchoReference | None = None,
) -> Microphone:
    from agent.audio.devices.device import open_source, wait_for_device
    from agent.pipeline.capture.microphone import Microphone

    settings = config.microphone
    frame = settings.frame_seconds
    return Microphone(
        frames,
        lambda: open_source(settings.device, frame, settings.channel, settings.gain_db),
        report,
        frame_seconds=frame,
        wait_policy=wait_policy or wait_for_device,
        captured=None if reference is None else reference.captured,
    )


def make_echo_guard(config: Config, reference: EchoReference, report: Callable[[Event], None]) -> EchoGuard:
    """Build the echo canceller with the detector behind it."""
    from agent.audio.echo.canceller import EchoCanceller
    from agent.pipeline.capture.echo_guard import EchoGuard
    from agent.pipeline.capture.vad import create_detector

    echo, talk = config.echo, config.conversation
    delay = echo.delay_seconds if isinstance(echo.delay_seconds, float) else None
    canceller = EchoCanceller(reference, echo.tail_seconds, delay)
    return EchoGuard(canceller, create_detector(talk.vad), talk.interrupt, report)


def make_endpointer(config: Config, guard: EchoGuard | None = None) -> Endpointer:
    """Build the endpointer: by voice activity, or without endpoints for captions.

    Args:
        config: The configuration.
        guard: Detects the voice activity behind an echo canceller; ``None`` without one.
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
        gate=make_wake_gate(config),
        has_wake_sound=config.wake.sound,
    )


def make_wake_gate(config: Config) -> WakeGate | None:
    """Build the gate that opens after a wake word; ``None`` if every speech is a question."""
    settings = config.wake
    if settings.engine == "none":
        return None
    from agent.pipeline.capture.wake_gate import WakeGate
    from agent.pipeline.state import LISTEN_SECONDS

    return WakeGate(lambda: make_spotter(settings), LISTEN_SECONDS, stop_spotter_maker(config))


def make_spotter(settings: WakeSettings, near_share: float | None = None) -> Spotter:
    """Load the engine of the wake words.

    Args:
        settings: The wake words.
        near_share: As for ``MicroSpotter``; by default its default.

    Raises:
        AudioError: A model or its library cannot be loaded.
    """
    if settings.engine == "vosk":
        from agent.pipeline.capture.vosk_words import VoskSpotter

        return VoskSpotter(settings.model_path, settings.spoken_words, settings.sensitivity)
    from agent.pipeline.capture.wake_word import NEAR_SHARE, MicroSpotter, find_models

    models = find_models(settings.spoken_words, settings.own)[0]
    return MicroSpotter(models, settings.sensitivity, NEAR_SHARE if near_share is None else near_share)


def hears_while_speaking(config: Config) -> bool:
    """Return whether the microphone may be open while the device speaks: only then a stop word can be heard."""
    return config.conversation.listen_while_speaking or config.conversation.interrupt != "never"


def stop_spotter_maker(config: Config) -> Callable[[], Spotter] | None:
    """Return the function that loads the engine of the stop words; ``None`` where it cannot hear or has no model."""
    settings = config.wake
    if not hears_while_speaking(config) or not settings.model_path or not settings.stop:
        return None

    def load() -> Spotter:
        from agent.pipeline.capture.vosk_words import VoskSpotter, missing_words
        from agent.pipeline.text.stopping import AUTO, DEFAULT_WORDS, stop_words

        folder = Path(settings.model_path)
        language = config.synthesis.text.language
        if language == AUTO:  # that of the model, whose vocabulary has all of its stop words
            # A missing word ends the test of its language: the search for one reads the whole vocabulary.
            known = (each for each, words in DEFAULT_WORDS.items() if next(missing_words(folder, words), None) is None)
            language = next(known, AUTO)
        words = stop_words(settings.stop, language)
        missing = frozenset(missing_words(folder, words))
        spoken = [word for word in words if missing.isdisjoint(word.casefold().split())]
        return VoskSpotter(settings.model_path, spoken, settings.sensitivity)

    return load


def pause_chooser(config: Config) -> Callable[[str], float]:
    """Return the function that chooses the silence that ends a turn by its text."""
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
        endpointer: Divides it into segments.
        report: Receives the events.
        local: As for ``build_pipeline``.
        report_seconds: As for ``Timing``.
        clean: As for ``Recognizer``.
    """
    from agent.pipeline.stt.recognizer import Recognizer

    find_stop_word = None
    if hears_while_speaking(config):
        from agent.pipeline.text.stopping import StopWords, stop_words

        find_stop_word = StopWords(stop_words(config.wake.stop, config.synthesis.text.language)).find
    return Recognizer(
        frames,
        endpointer,
        make_transcription(config, report, local, report_seconds=report_seconds),
        report,
        captions=endpointer.continuous,
        find_stop_word=find_stop_word,
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
    """Build the connection to the transcription service; it dials when the recognizer needs it."""
    # The local server may have chosen a free port, so the address comes from the server and not from the configuration.
    is_local = uses_local_recognition(config, local)
    service = TranscriptionService(config.transcription, local_server_url(config, local) if is_local else None)
    # Some servers accept one client at a time, so the next connection is dialed after the last one has ended.
    return _standby(service, report, eager=False, generation=generation, report_seconds=report_seconds)


def make_synthesizer(
    config: Config,
    ring: RingBuffer,
    report: Callable[[Event], None],
    local: LocalServer | None,
    *,
    eager: bool = True,
    can_suspend: bool = False,
) -> Synthesizer:
    """Build the synthesizer with its connections.

    Args:
        config: The configuration.
        ring: Receives the audio.
        report: Receives the events.
        local: As for ``build_pipeline``.
        eager: Whether to dial the next connection as soon as one is used.
        can_suspend: As for ``Synthesizer``; without it there is no chime either.
    """
    return Synthesizer(
        ring,
        make_services(config, report, local, eager=eager),
        report,
        first_audio_seconds=config.synthesis.first_audio_seconds,
        language=config.synthesis.text.language,
        phrases=lambda: make_phrases(config),
        close_timing=CLOSE_TIMING,
        can_suspend=can_suspend,
        chime=config.conversation.chime if can_suspend else NO_CHIME,
    )


def make_phrases(config: Config) -> Phrases | None:
    """Return the phrases of the cache directory; ``None`` if they are not enabled."""
    settings = config.synthesis.phrases
    if not settings.enabled:
        return None
    from agent.pipeline.tts.phrases import Phrases

    return Phrases(phrase_cache(config), settings.services, keeps_replies=settings.replies)


def phrase_cache(config: Config) -> PhraseCache:
    """Return the directory of the phrases."""
    from agent.pipeline.tts.phrase_cache import DIRECTORY_NAME, PhraseCache

    directory = Paths.from_environment(os.environ).cache / DIRECTORY_NAME
    return PhraseCache(directory, config.synthesis.phrases.megabytes * 1_000_000)


def make_services(
    config: Config,
    report: Callable[[Event], None],
    local: LocalServer | None,
    *,
    eager: bool = True,
    generation: int = 0,
) -> list[Standby]:
    """Build the connections to the speech services, in the order in which they are tried."""
    url = local_server_url(config, local)

    def make(
        name: str, synthesis: SynthesisSettings, report: Callable[[Event], None], *, eager: bool = False
    ) -> Standby:
        service = SpeechService(name, synthesis, url)
        standby = _standby(service, report, eager, generation, sound=service.sound(config.server.speech))
        # A voice that does not work is no failure of the service.
        standby.with_voice = lambda voice: make(name, synthesis.with_voice(name, voice), lambda event: None)
        return standby

    return [make(name, config.synthesis, report, eager=eager) for name in config.synthesis.services]


def delivery_problem(config: Config, delivery: Delivery) -> str | None:
    """Return why an utterance cannot be delivered as requested; ``None`` if it can."""
    synthesis = config.synthesis
    if delivery.chime not in (None, NO_CHIME, *CHIMES):
        return f"chime is one of {', '.join((NO_CHIME, *CHIMES))}, not {escape(str(delivery.chime), 40)!r}"
    if delivery.service is not None and delivery.service not in synthesis.services:
        return f"service is one of {', '.join(synthesis.services)}, not {escape(delivery.service, 40)!r}"
    if delivery.voice is None or not synthesis.services:
        return None
    name = delivery.service or synthesis.services[0]
    try:
        service = SpeechService(name, synthesis.with_voice(name, delivery.voice), lambda deadline: "ws://127.0.0.1")
        service.check()
    except ConfigError as error:
        return f"voice: {error}"
    return None


def make_speaker(
    config: Config,
    ring: RingBuffer,
    report: Callable[[Event], None],
    *,
    wait_policy: WaitPolicy | None = None,
    permit_start: Callable[[str], Callable[[], None] | None] = lambda utterance: None,
    reference: EchoReference | None = None,
) -> Speaker:
    from agent.audio.devices.device import is_card, open_sink, wait_for_device
    from agent.pipeline.playback.jitter_buffer import JitterBuffer
    from agent.pipeline.playback.speaker import Speaker

    settings = config.speaker

    def open(format: Format) -> Sink:
        return open_sink(settings.device, format, settings.period_seconds, settings.buffer_seconds)

    def probe() -> None:
        open(SPEECH).close()

    return Speaker(
        ring,
        open,
        report,
        period_seconds=settings.period_seconds,
        # A card has two periods, so half of the buffer is one. 0.45 leaves room for the resampler, which returns a few
        # frames more or less.
        write_seconds=0.45 * settings.buffer_seconds if is_card(settings.device) else 0.0,
        jitter_buffer=JitterBuffer(settings.prebuffer_seconds, settings.prebuffer_most_seconds),
        wake_seconds=settings.wake_seconds,
        volume=settings.volume,
        gap_seconds=config.conversation.gap_seconds,
        permit_start=permit_start,
        wait_policy=wait_policy or wait_for_device,
        probe=probe if is_card(settings.device) else None,
        reference=reference,
    )


def _standby(
    service: SpeechService | TranscriptionService,
    report: Callable[[Event], None],
    eager: bool = True,
    generation: int = 0,
    report_seconds: float = 0.0,
    sound: Sound | None = None,
) -> Standby:
    timing = STANDBY_TIMING._replace(report_seconds=report_seconds)
    return make_standby(
        service.name, service.open, report, config_generation=generation, eager=eager, timing=timing, sound=sound
    )


def local_server_url(config: Config, local: LocalServer | None) -> LocalUrl:
    """Return a function for the dialing threads that returns the URL of the local server."""
    if local is not None:
        return local.url
    url = websocket_url(connect_host(config.server.host), config.server.port)
    return lambda deadline: url


def require_keys(config: Config) -> None:
    """Check that a speech service has its key, and that every referenced environment variable is set.

    Raises:
        ConfigError: No speech service has its key, or a key refers to a variable that is not set.
    """
    mode, synthesis, responder = config.conversation.mode, config.synthesis, config.responder
    used = [] if mode == "announce" else [config.transcription.api_key, config.transcription.export_key]
    if mode != "captions":
        used += synthesis.secrets()
    if mode == "assistant":
        used += responder.secrets()
        used += [secret for each in config.word_responders().values() for secret in each.secrets()]
    for secret in used:
        if secret.env is not None:
            secret.reveal()
    if mode == "captions":
        return
    reasons = [missing_key(name, config.synthesis) for name in config.synthesis.services]
    if all(reasons):
        raise ConfigError("; ".join(reason for reason in reasons if reason))


def local_server_settings(config: Config) -> ServerSettings | None:
    """Return the settings of the local server that the daemon runs; ``None`` if it needs none.

    The server loads a recognizer, which takes most of its memory, only if it is used or ``server.start`` is true.
    """
    if isinstance(config.server.start, bool):
        return config.server if config.server.start else None
    mode = config.conversation.mode
    speaks = mode != "captions" and config.synthesis.uses_own_server
    if mode != "announce" and is_local_server_url(config.transcription.url, config):
        return config.server
    if config.server.wyoming != "none":  # its clients use both
        return config.server
    return config.server._replace(recognition="none") if speaks else None


def uses_local_recognition(config: Config, local: LocalServer | None) -> bool:
    """Return whether the transcription service is the local server of this process."""
    return local is not None and is_local_server_url(config.transcription.url, config)


def is_local_server_url(url: str, config: Config) -> bool:
    """Return whether a URL is the address of the configured local server."""
    parts = urlsplit(url)
    hosts = ("127.0.0.1", "::1") if parts.hostname == "localhost" else (parts.hostname,)
    # "localhost" makes the server listen on one address.
    host = "127.0.0.1" if config.server.host == "localhost" else connect_host(config.server.host)
    return parts.scheme != "tcp" and host in hosts and parts.port == config.server.port
