"""Applies a new configuration to the running daemon (SIGHUP), as far as that is possible."""

from __future__ import annotations

from collections.abc import Callable

from agent.config.fields import changes
from agent.config.secrets import hide_keys
from agent.daemon.builder import require_keys
from agent.daemon.capture_builder import make_transcription, pause_chooser
from agent.daemon.local_server import LocalServer
from agent.daemon.reply_builder import make_responder, reply_options
from agent.daemon.speech_builder import make_phrases, make_services
from agent.daemon.stages import Pipeline
from agent.daemon.volume import CONFIGURATION
from agent.errors import ConfigError
from agent.pipeline.capture.endpointer import VadEndpointer
from agent.pipeline.events import Event, Volume
from agent.settings.model import Config, all_secrets
from agent.system.log import set_level
from agent.system.named_tuple import NamedTuple

RELOADABLE_KEYS = (
    "logging.",
    "responder.",
    "synthesis.",
    "transcription.",
    "speaker.volume",
    "conversation.silence_seconds",
    "conversation.turn_seconds",
    "shutdown_seconds",
)
"""Keys and prefixes of keys that a reload applies.

In captions mode the keys under ``transcription.`` need a restart, because the connection lasts as long as the daemon.
"""


class Reloaded(NamedTuple):
    """The configuration in effect, the changed keys, and the changed keys that need a restart. Immutable."""

    config: Config
    changed: tuple[str, ...]
    pending: tuple[str, ...]


def apply(
    old: Config,
    new: Config,
    pipeline: Pipeline,
    report: Callable[[Event], None],
    local: Callable[[Config], LocalServer | None],
    generation: int = 0,
) -> Reloaded:
    """Apply all reloadable keys of a configuration, or none if ``ConfigError`` is raised.

    Services and responders are replaced even if no key differs. A key that refers to a variable or file may now give
    another credential, and a service that rejected the old credential is tried again immediately.

    Args:
        old: The configuration in effect.
        new: The configuration that was read.
        pipeline: The stages.
        report: Receives the events.
        local: Returns the local server that a configuration needs.
        generation: Number of the configuration, for the events of the new connections (see ``ServiceDown``).

    Raises:
        ConfigError: The new configuration cannot be used.
    """
    different = changes(old, new)
    pending = tuple(key for key in different if not _is_reloadable(key, old))
    config = effective_config(old, new)
    require_keys(config)
    try:
        responder = make_responder(config, pipeline) if pipeline.responder is not None else None
    except ConfigError as error:  # a wake word in effect may name a responder that the new configuration no longer has
        if not any(key.startswith("wake.") for key in pending):
            raise
        raise ConfigError(f"{error}, or restart the daemon, because a reload keeps the present wake words") from error
    hide_keys(all_secrets(config))  # before a log line can contain one
    server = local(config)
    if pipeline.responder is not None and responder is not None:
        pipeline.responder.replace(responder, reply_options(config))
    if pipeline.synthesizer is not None:
        services = make_services(config, report, server, generation=generation)
        synthesis = config.synthesis
        pipeline.synthesizer.replace_services(
            services, synthesis.first_audio_seconds, synthesis.text.language, make_phrases(config)
        )
    if pipeline.recognizer is not None and config.conversation.mode != "captions":
        service = make_transcription(config, report, server, generation=generation)
        pipeline.recognizer.replace_service(service, answer_seconds=config.transcription.answer_seconds)
    if isinstance(pipeline.endpointer, VadEndpointer):
        timing = config.conversation
        pipeline.endpointer.set_timing(timing.silence_seconds.unsure, timing.turn_seconds, pause_chooser(config))
    if pipeline.speaker is not None and config.speaker.volume != old.speaker.volume:
        report(Volume(config.speaker.volume, CONFIGURATION))  # an unchanged key keeps the volume set at run time
    set_level(config.logging.level)
    return Reloaded(config, tuple(key for key in different if key not in pending), pending)


def effective_config(old: Config, new: Config) -> Config:
    """Return ``old`` with the reloadable values of ``new``."""
    timing = new.conversation
    is_captions = old.conversation.mode == "captions"
    return old._replace(
        logging=new.logging,
        responder=new.responder,
        synthesis=new.synthesis,
        transcription=old.transcription if is_captions else new.transcription,
        speaker=old.speaker._replace(volume=new.speaker.volume),
        conversation=old.conversation._replace(
            silence_seconds=timing.silence_seconds, turn_seconds=timing.turn_seconds
        ),
        shutdown_seconds=new.shutdown_seconds,
    )


def _is_reloadable(key: str, old: Config) -> bool:
    if key.startswith("transcription.") and old.conversation.mode == "captions":
        return False
    return key.startswith(RELOADABLE_KEYS)
