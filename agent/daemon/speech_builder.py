"""Builds the stages that speak: connections, phrases, synthesizer, speaker."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.audio.format import SPEECH, Format
from agent.daemon.connection_builder import CLOSE_TIMING, local_server_url, standby_for
from agent.daemon.device_files import device_files
from agent.errors import ConfigError
from agent.frontends.satellite.settings import VOICE_SERVICE
from agent.pipeline.events import Event
from agent.pipeline.playback.ring_buffer import RingBuffer
from agent.pipeline.settings import CHIMES, NO_CHIME
from agent.pipeline.tts.synthesizer import Synthesizer
from agent.pipeline.utterance import Delivery
from agent.services.connection.standby import Standby
from agent.services.service import SpeechService
from agent.services.settings import SynthesisSettings
from agent.settings.model import Config
from agent.system.paths import Paths
from agent.system.text import escape

if TYPE_CHECKING:
    from agent.audio.devices.device import Sink, WaitPolicy
    from agent.audio.echo.reference import EchoReference
    from agent.daemon.local_server import LocalServer
    from agent.pipeline.playback.speaker import Speaker
    from agent.pipeline.tts.phrase_cache import PhraseCache
    from agent.pipeline.tts.phrases import Phrases

RING_BYTES = 16 * 1024 * 1024
"""Capacity of the ring buffer: three minutes at the highest sample rate of a service.

Services send faster than real time, and close a connection that is not read. Only the received audio occupies memory.
"""


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
        can_suspend: As for ``Synthesizer``. If it is false, there is no chime.
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
    """Return the phrases in the cache directory; ``None`` if phrases are not enabled."""
    settings = config.synthesis.phrases
    if not settings.enabled:
        return None
    from agent.pipeline.tts.phrases import Phrases

    return Phrases(phrase_cache(config), settings.services, keeps_replies=settings.replies)


def phrase_cache(config: Config) -> PhraseCache:
    """Return the cache of the phrases, in the cache directory."""
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
        standby = standby_for(service, report, eager, generation, sound=service.sound(config.server.speech))
        # This service refuses each text that does not come from Home Assistant, so other announcements skip it.
        standby.is_reserved = config.satellite.is_on and name == VOICE_SERVICE
        # The events of this connection are dropped: a voice that does not work is not a failure of the service.
        standby.with_voice = lambda voice: make(name, synthesis.with_voice(name, voice), lambda event: None)
        return standby

    return [make(name, config.synthesis, report, eager=eager) for name in config.synthesis.services]


def delivery_problem(config: Config, delivery: Delivery) -> str | None:
    """Return why an utterance cannot be delivered with these options; ``None`` if it can."""
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
    record_start: Callable[[str], Callable[[], None] | None] = lambda utterance: None,
    reference: EchoReference | None = None,
) -> Speaker:
    """Build the speaker.

    Args:
        config: The configuration.
        ring: The audio to play.
        report: Receives the events.
        wait_policy: Decides whether to wait for a device that was never open; by default ``wait_for_device``.
        record_start: As for ``Speaker``.
        reference: Receives the played audio, for the echo canceller; ``None`` without one.
    """
    from agent.audio.devices.device import is_card, open_sink, wait_for_device
    from agent.audio.devices.period import playback_period
    from agent.pipeline.playback.jitter_buffer import JitterBuffer
    from agent.pipeline.playback.speaker import Speaker

    settings = config.speaker
    period_seconds = playback_period(settings.period_seconds, settings.buffer_seconds)

    def open(format: Format) -> Sink:
        with device_files("speaker.device"):
            return open_sink(settings.device, format, settings.period_seconds, settings.buffer_seconds)

    def probe() -> None:
        open(SPEECH).close()

    return Speaker(
        ring,
        open,
        report,
        period_seconds=settings.period_seconds,
        card_period_seconds=period_seconds if is_card(settings.device) else 0.0,
        jitter_buffer=JitterBuffer(settings.prebuffer_seconds, settings.prebuffer_most_seconds),
        wake_seconds=settings.wake_seconds,
        volume=settings.volume,
        gap_seconds=config.conversation.gap_seconds,
        record_start=record_start,
        wait_policy=wait_policy or wait_for_device,
        probe=probe if is_card(settings.device) else None,
        reference=reference,
    )
