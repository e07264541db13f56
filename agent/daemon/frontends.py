"""Builds the frontends of the daemon from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.daemon.shutdown import CONTROL_FLUSH_SECONDS
from agent.frontends.frontend import Frontends
from agent.pipeline.events import Event
from agent.pipeline.utterance import Delivery
from agent.settings.model import Config
from agent.system.paths import Paths

if TYPE_CHECKING:
    from agent.daemon.web import WebSources
    from agent.frontends.frontend import Frontend, Notification
    from agent.pipeline.device_control import DeviceControl
    from agent.pipeline.history import History


def make_frontends(
    config: Config,
    environ: Mapping[str, str],
    report: Callable[[Event], None],
    storage_problem: Callable[[], str | None] = lambda: None,
    transcripts: Callable[[], bool] = lambda: False,
    web_sources: WebSources | None = None,
    history: History | None = None,
    warm: Callable[[Sequence[str], str | None], dict[str, object]] | None = None,
    delivery_problem: Callable[[Delivery], str | None] = lambda delivery: None,
    device_control: Callable[[], DeviceControl | None] = lambda: None,
    current: Callable[[], Config] | None = None,
) -> Frontends:
    """Build the configured frontends; none of them is open yet.

    Args:
        config: The configuration at the start.
        environ: The environment of the process.
        report: Receives the events.
        storage_problem: Returns why the volume and the mutes cannot be stored, or ``None``.
        transcripts: Returns whether ``logging.transcripts`` is on.
        web_sources: The contents of the web page; with ``None`` there is no web frontend.
        history: Stores the utterances.
        warm: As for ``PhraseAccess``; with ``None`` there are no requests about phrases.
        delivery_problem: As ``speech_builder.delivery_problem``, for the configuration in effect.
        device_control: As ``Daemon.device_control``.
        current: Returns the configuration in effect, for requests about phrases; by default ``config``.
    """
    setting = config.control.socket
    has_hooks = any(config.hooks.commands())
    has_panel = config.button.is_used or config.led.is_used or config.other_audio.is_used
    is_alone = setting == "none" and web_sources is None and not has_hooks
    if is_alone and not has_panel and not config.mqtt.is_on and not config.satellite.is_on:
        return Frontends()
    from agent.frontends.api.api import Api

    api = Api(
        report,
        storage_problem=storage_problem,
        transcripts=transcripts,
        history=history,
        delivery_problem=delivery_problem,
        device_control=device_control,
    )
    if warm is not None:
        from agent.daemon.speech_builder import phrase_cache
        from agent.frontends.api.phrase_access import PhraseAccess

        api.phrases = PhraseAccess(lambda: phrase_cache(config if current is None else current()), warm)
    workers: list[Frontend] = []
    receivers: list[Callable[[Notification], None]] = [api.notify]
    if setting != "none":
        from agent.frontends.control.server import ControlServer

        # If the default path cannot be used, the daemon runs without a socket. A configured path must work.
        is_default = setting == "auto"
        path = Paths.from_environment(environ).control_socket if is_default else Path(setting)
        workers.append(ControlServer(path, report, api, required=not is_default, flush_seconds=CONTROL_FLUSH_SECONDS))
    if web_sources is not None:
        from agent.daemon.web import make_web

        web, receive = make_web(config.web, api, web_sources, report)
        workers.append(web)
        receivers.append(receive)
    if config.mqtt.is_on:
        from agent.daemon.mqtt import make_mqtt

        mqtt = make_mqtt(config, api, report)
        workers.append(mqtt)
        receivers.append(mqtt.notify)
    if config.satellite.is_on:
        from agent.daemon.satellite import make_satellite

        satellite = make_satellite(config, api, report)
        workers.append(satellite)
        receivers.append(satellite.notify)
    if has_hooks:
        from agent.frontends.hooks.hooks import Hooks

        hooks = Hooks(config.hooks, environ, report)
        workers.append(hooks)
        receivers.append(hooks.notify)
    if has_panel:
        from agent.daemon.panel import make_panel

        for worker in make_panel(config, environ, report):
            workers.append(worker)
            receivers.append(worker.notify)

    def notify(notification: Notification) -> None:
        for receive in receivers:
            receive(notification)

    return Frontends(tuple(workers), notify, api.stop_accepting, api.close)
