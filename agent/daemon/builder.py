"""From the configuration to the parts of the daemon, connected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.audio.devices.device import Sink, WaitPolicy, is_card, open_sink, open_source, wait_for_device
from agent.audio.format import SPEECH, Format
from agent.daemon.local_server import LocalServer
from agent.daemon.supervisor import Supervisor
from agent.errors import ConfigError
from agent.frontends.control.server import ControlServer
from agent.frontends.frontend import Frontend
from agent.pipeline.events import Event
from agent.pipeline.playback.ring_buffer import RingBuffer
from agent.pipeline.playback.speaker import Speaker
from agent.pipeline.stage import make_standby
from agent.pipeline.tts.synthesizer import Synthesizer
from agent.services.connection.standby import Standby
from agent.services.service import LocalUrl, SpeechService, TranscriptionService, missing_key
from agent.settings.model import Config, ServerSettings
from agent.system.hosts import connect_host, websocket_url
from agent.system.paths import Paths
from agent.system.threads import Worker

# What only listens or answers is imported where it is made: a daemon that announces starts without it.
if TYPE_CHECKING:
    from agent.pipeline.capture.endpointer import Endpointer
    from agent.pipeline.capture.frame_queue import FrameQueue, FrameSource
    from agent.pipeline.capture.microphone import Microphone
    from agent.pipeline.responders.worker import Responder
    from agent.pipeline.stt.recognizer import Recognizer

RING_BYTES = 16 * 1024 * 1024
"""Three minutes of the highest rate a service sends. A service sends faster than it is played, and a socket that is
not read looks dead to it; only what has come takes memory."""

FRAMES_SECONDS = 2.0
"""Between the microphone and ears that judge every frame; they only wait while the machine is overloaded."""


@dataclass
class Parts:
    """The stages of one daemon. What the mode does not need is not there."""

    supervisor: Supervisor
    ring: RingBuffer
    microphone: Microphone | None = None
    endpointer: Endpointer | None = None
    recognizer: Recognizer | None = None
    responder: Responder | None = None
    synthesizer: Synthesizer | None = None
    speaker: Speaker | None = None


def assemble(config: Config, report: Callable[[Event], None], local: LocalServer | None) -> Parts:
    """The parts for ``config.conversation.mode``. Nothing runs yet. Raises ``ConfigError``."""
    mode = config.conversation.mode
    parts = Parts(Supervisor([]), RingBuffer(RING_BYTES))
    if mode != "announce":
        from agent.pipeline.capture.frame_queue import FrameQueue

        frames = FrameQueue(config.microphone.outage_seconds if mode == "captions" else FRAMES_SECONDS)
        parts.microphone = make_microphone(config, frames, report)
        parts.endpointer = make_endpointer(config)
        parts.recognizer = make_recognizer(config, frames, parts.endpointer, report, local)
    if mode == "assistant":
        from agent.pipeline.responders.registry import make_responder
        from agent.pipeline.responders.worker import Responder

        patience = config.conversation.answer_timeout_seconds
        parts.responder = Responder(make_responder(config.responder), report, first_word_seconds=patience)
    if mode != "captions":
        parts.synthesizer = make_synthesizer(config, parts.ring, report, local)
        parts.speaker = make_speaker(config, parts.ring, report)
    stages: list[Worker | None] = [
        parts.microphone,
        parts.recognizer,
        parts.responder,
        parts.synthesizer,
        parts.speaker,
    ]
    parts.supervisor = Supervisor([stage for stage in stages if stage is not None])
    return parts


def make_frontends(config: Config, environ: Mapping[str, str], report: Callable[[Event], None]) -> list[Frontend]:
    """The doors for the outside that the configuration wants."""
    where = config.control.socket
    if where == "none":
        return []
    # A second daemon without a socket of its own is better than none; a path that somebody wrote down is an order.
    auto = where == "auto"
    return [
        ControlServer(
            Paths.from_environment(environ).control_socket if auto else Path(where), report, required=not auto
        )
    ]


def make_microphone(
    config: Config, frames: FrameQueue, report: Callable[[Event], None], *, patience: WaitPolicy = wait_for_device
) -> Microphone:
    """``patience`` as for ``Microphone``."""
    from agent.pipeline.capture.microphone import Microphone

    settings = config.microphone
    frame = settings.frame_seconds
    return Microphone(
        frames, lambda: open_source(settings.device, frame), report, frame_seconds=frame, patience=patience
    )


def make_endpointer(config: Config) -> Endpointer:
    """All of it for captions; else what the voice activity detector takes for speech."""
    from agent.pipeline.capture.endpointer import NullEndpointer, VadEndpointer
    from agent.pipeline.capture.vad import create_detector

    settings = config.conversation
    if settings.mode == "captions":
        return NullEndpointer()
    return VadEndpointer(
        create_detector(settings.vad).is_speech,
        silence_seconds=settings.silence_seconds,
        turn_seconds=settings.turn_seconds,
        pre_roll_seconds=config.microphone.pre_roll_seconds,
    )


def make_recognizer(
    config: Config,
    frames: FrameSource,
    endpointer: Endpointer,
    report: Callable[[Event], None],
    local: LocalServer | None,
) -> Recognizer:
    """``local`` is the local server of our own, ``None`` where there is none; so it is in all that follow."""
    from agent.pipeline.stt.recognizer import SETTLE_SECONDS, Recognizer

    return Recognizer(
        frames,
        endpointer,
        make_transcription(config, report, local),
        report,
        captions=endpointer.continuous,
        # Of a server of another make it is only known after the first session whether it forgets its last words.
        settle_seconds=None if hears_at_home(config, local) else SETTLE_SECONDS if endpointer.continuous else 0.0,
        outage_seconds=config.microphone.outage_seconds,
    )


def make_transcription(
    config: Config, report: Callable[[Event], None], local: LocalServer | None, *, generation: int = 0
) -> Standby:
    """A connection to the transcription service, dialled when it is wanted."""
    # Only an address of the local server's own is known better by the server itself: it may have taken any free port.
    at_home = hears_at_home(config, local)
    service = TranscriptionService(config.transcription, own_url(config, local) if at_home else None)
    # Some servers know one client at a time: the next connection is dialled when the last has ended, not before.
    return warm(service, report, eager=False, generation=generation)


def make_synthesizer(
    config: Config,
    ring: RingBuffer,
    report: Callable[[Event], None],
    local: LocalServer | None,
    *,
    eager: bool = True,
) -> Synthesizer:
    """``eager`` as for ``warm``."""
    return Synthesizer(
        ring,
        make_services(config, report, local, eager=eager),
        report,
        first_audio_seconds=config.synthesis.first_audio_seconds,
    )


def make_services(
    config: Config,
    report: Callable[[Event], None],
    local: LocalServer | None,
    *,
    eager: bool = True,
    generation: int = 0,
) -> list[Standby]:
    """The speech services in the order in which they are tried."""
    url = own_url(config, local)
    return [
        warm(SpeechService(name, config.synthesis, url), report, eager, generation)
        for name in config.synthesis.services
    ]


def make_speaker(
    config: Config, ring: RingBuffer, report: Callable[[Event], None], *, patience: WaitPolicy = wait_for_device
) -> Speaker:
    """``patience`` as for ``Speaker``."""
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
        prebuffer_seconds=settings.prebuffer_seconds,
        prebuffer_most_seconds=settings.prebuffer_most_seconds,
        wake_seconds=settings.wake_seconds,
        volume=settings.volume,
        patience=patience,
        probe=probe if is_card(settings.device) else None,
    )


def warm(
    service: SpeechService | TranscriptionService,
    report: Callable[[Event], None],
    eager: bool = True,
    generation: int = 0,
) -> Standby:
    """A connection to the service that is kept ready; with ``eager`` the next one as well, as soon as it is taken."""
    return make_standby(service.name, service.open, report, config_generation=generation, eager=eager)


def own_url(config: Config, local: LocalServer | None) -> LocalUrl:
    """Where the local server is, for whoever asks in a dialling thread."""
    if local is not None:
        return local.url
    url = websocket_url(connect_host(config.server.host), config.server.port)
    return lambda deadline: url


def require_keys(config: Config) -> None:
    """A configuration none of whose speech services has its key can never speak, and a key that is to come from a
    variable which is not set is a mistake, also where there are other services. Raises ``ConfigError``."""
    mode, synthesis, responder = config.conversation.mode, config.synthesis, config.responder
    used = [] if mode == "announce" else [config.transcription.api_key]
    if mode != "captions":
        used += synthesis.secrets()
    if mode == "assistant":
        used += responder.secrets()
    for secret in used:
        if secret.env is not None:
            secret.reveal()
    if mode == "captions":
        return
    reasons = [missing_key(name, config.synthesis) for name in config.synthesis.services]
    if all(reasons):
        raise ConfigError("; ".join(reason for reason in reasons if reason))


def own_server(config: Config) -> ServerSettings | None:
    """The local speech server that the daemon starts for itself; ``None`` where it needs none.

    Unless it is wanted whatever the rest says, it loads no recogniser that nobody asks for: that is most of its memory.
    """
    if isinstance(config.server.start, bool):
        return config.server if config.server.start else None
    mode = config.conversation.mode
    speaks = mode != "captions" and config.synthesis.uses_own_server
    if mode != "announce" and points_at(config.transcription.url, config):
        return config.server
    return replace(config.server, recognition="none") if speaks else None


def hears_at_home(config: Config, local: LocalServer | None) -> bool:
    """Whether the transcription service is the local server of our own."""
    return local is not None and points_at(config.transcription.url, config)


def points_at(url: str, config: Config) -> bool:
    """Whether an address is that of the local server that is configured."""
    parts = urlsplit(url)
    hosts = ("127.0.0.1", "::1") if parts.hostname == "localhost" else (parts.hostname,)
    # It listens on one address where it is given the name.
    home = "127.0.0.1" if config.server.host == "localhost" else connect_host(config.server.host)
    return home in hosts and parts.port == config.server.port
