"""``voice-agent run``: the daemon, in the foreground."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from agent.assembly import make_frontends, require_keys
from agent.config.model import Config
from agent.daemon import Daemon
from agent.levels import Levels
from agent.service import Paths, Service


def run(config: Config, reread: Callable[[], Config] | None = None) -> int:
    """``reread`` reads the configuration again, for SIGHUP."""
    require_keys(config)
    return Daemon(
        config,
        Service(os.environ),
        frontends=lambda report: make_frontends(config, os.environ, report),
        captions=sys.stdout,
        reread=reread,
        levels=Levels(Paths.of(os.environ).state / "levels.json", config.speaker.volume),
    ).run()
