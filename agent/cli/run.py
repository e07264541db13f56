"""``voice-agent run``: the daemon in the foreground."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from agent.audio.format import Format
from agent.daemon.builder import require_keys
from agent.daemon.daemon import Daemon
from agent.daemon.frontends import make_frontends
from agent.daemon.outage_notice import OutageNotice
from agent.daemon.shutdown import EXPORT_SECONDS
from agent.daemon.speech_builder import delivery_problem
from agent.daemon.utterance_store import UtteranceStore
from agent.daemon.volume import VolumeStore
from agent.settings.model import Config
from agent.system.paths import Paths
from agent.system.systemd import SystemdNotifier
from agent.system.threads import Deadline


def run(config: Config, reread: Callable[[], Config] | None = None, path: str | None = None) -> int:
    """Run the daemon until it ends, for example by a signal, and return its exit code.

    Args:
        config: The configuration.
        reread: Loads the configuration again, for SIGHUP.
        path: The configuration file that the web page shows; ``None`` for the default.

    Raises:
        ConfigError: No speech service has its key, or a key refers to a variable that is not set.
    """
    require_keys(config)
    state = Paths.from_environment(os.environ).state
    exporter = None
    if config.conversation.mode != "announce":  # announce transcribes nothing
        from agent.pipeline.stt.export import Exporter

        exporter = Exporter(lambda: daemon.config.transcription, state)
    store = None
    if config.conversation.mode != "captions":  # captions speaks nothing
        store = UtteranceStore(state / "queue.db", transcripts=lambda: daemon.config.logging.transcripts)
    volume = VolumeStore(state / "levels.json", config.speaker.volume)
    web_sources = None
    if config.web.listen != "none":
        from agent.cli.web_sources import make_sources

        web_sources = make_sources(path, os.environ, lambda: daemon.levels(), lambda: daemon.card_underruns())
    warming = None
    if config.synthesis.phrases.enabled and config.conversation.mode != "captions":
        from agent.daemon.phrase_warming import PhraseWarming

        warming = PhraseWarming(lambda: daemon.config, lambda: daemon.local_server)

    def speak_notice(text: str) -> tuple[Format, bytes]:
        from agent.cli.notice_speech import render  # needed only to prepare the sentence

        return render(daemon.config, text)

    daemon = Daemon(
        config,
        SystemdNotifier(os.environ),
        watch=exporter.handle_event if exporter is not None else lambda event: None,
        frontends=lambda report: make_frontends(
            config,
            os.environ,
            report,
            volume.storage_problem,
            lambda: daemon.config.logging.transcripts,
            web_sources,
            store,
            None if warming is None else warming.warm,
            lambda delivery: delivery_problem(daemon.config, delivery),
            lambda: daemon.device_control,
            lambda: daemon.config,
        ),
        captions=sys.stdout,
        reread=reread,
        volume=volume,
        store=store,
        timers=state / "timers.db",
        notice=OutageNotice(lambda: daemon.config, state, speak_notice),
    )
    code = daemon.run()
    if warming is not None:
        warming.close()
    if exporter is not None:
        exporter.close(Deadline(EXPORT_SECONDS))
    return code
