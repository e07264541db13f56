"""SIGHUP: the configuration is read again, and what can be changed while the daemon runs is changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.config.fields import changes, iter_secrets
from agent.config.secrets import hide_keys
from agent.daemon.builder import Parts, hears_at_home, make_services, make_transcription, require_keys
from agent.daemon.local_server import LocalServer
from agent.daemon.volume import CONFIGURATION
from agent.pipeline.capture.endpointer import VadEndpointer
from agent.pipeline.events import Event, Volume
from agent.pipeline.responders.registry import make_responder
from agent.settings.model import Config
from agent.system.log import set_level

IN_PLACE = (
    "logging.",
    "responder.",
    "synthesis.",
    "transcription.",
    "speaker.volume",
    "conversation.silence_seconds",
    "conversation.turn_seconds",
    "shutdown_seconds",
)
"""The keys that are changed while the daemon runs. In captions mode, which is one stretch without an end, those of the
transcription are not among them."""


@dataclass(frozen=True)
class Reloaded:
    """``config`` is in force now; ``changed`` keys have been changed, ``waiting`` ones wait for a restart."""

    config: Config
    changed: tuple[str, ...]
    waiting: tuple[str, ...]


def apply(
    old: Config,
    new: Config,
    parts: Parts,
    report: Callable[[Event], None],
    local: Callable[[Config], LocalServer | None],
    generation: int = 0,
) -> Reloaded:
    """Changes over from ``old`` to what of ``new`` can be changed in place: all of it, or nothing and ``ConfigError``.

    Services and responders are made anew even where nothing differs: behind the same words there may be another key,
    and a service that has refused the old one is asked again at once. ``local`` gives the local server that a
    configuration needs.
    """
    different = changes(old, new)
    waiting = tuple(key for key in different if not _in_place(key, old))
    config = in_force(old, new)
    require_keys(config)
    answers = make_responder(config.responder) if parts.responder is not None else None
    hide_keys(secret for _, secret in iter_secrets(config))  # before anything can speak of them
    server = local(config)
    if parts.responder is not None and answers is not None:
        parts.responder.use(answers)
    if parts.synthesizer is not None:
        services = make_services(config, report, server, generation=generation)
        parts.synthesizer.replace_services(services, config.synthesis.first_audio_seconds)
    if parts.recognizer is not None and config.conversation.mode != "captions":
        may_lose_tail = not hears_at_home(config, server)
        service = make_transcription(config, report, server, generation=generation)
        parts.recognizer.replace_service(service, may_lose_tail=may_lose_tail)
    if isinstance(parts.endpointer, VadEndpointer):
        parts.endpointer.set_timing(config.conversation.silence_seconds, config.conversation.turn_seconds)
    if parts.speaker is not None and config.speaker.volume != old.speaker.volume:
        report(Volume(config.speaker.volume, CONFIGURATION))  # else what was set at the control socket stays
    set_level(config.logging.level)
    return Reloaded(config, tuple(key for key in different if key not in waiting), waiting)


def in_force(old: Config, new: Config) -> Config:
    """``old`` with those values of ``new`` that can be changed while the daemon runs."""
    timing = new.conversation
    listens = old.conversation.mode != "captions"
    return replace(
        old,
        logging=new.logging,
        responder=new.responder,
        synthesis=new.synthesis,
        transcription=new.transcription if listens else old.transcription,
        speaker=replace(old.speaker, volume=new.speaker.volume),
        conversation=replace(
            old.conversation, silence_seconds=timing.silence_seconds, turn_seconds=timing.turn_seconds
        ),
        shutdown_seconds=new.shutdown_seconds,
    )


def _in_place(key: str, old: Config) -> bool:
    if key.startswith("transcription.") and old.conversation.mode == "captions":
        return False
    return key.startswith(IN_PLACE)
