"""``voice-agent run``: the daemon, in the foreground."""

from __future__ import annotations

import os
import sys

from agent.assembly import make_frontends
from agent.config.model import Config
from agent.daemon import Daemon
from agent.errors import ConfigError
from agent.service import Service
from agent.services import missing_key


def run(config: Config) -> int:
    require_keys(config)
    return Daemon(
        config,
        Service(os.environ),
        frontends=lambda report: make_frontends(config, os.environ, report),
        captions=sys.stdout,
    ).run()


def require_keys(config: Config) -> None:
    """A configuration none of whose speech services has its key can never speak. Raises ``ConfigError``."""
    if config.conversation.mode == "captions":
        return
    reasons = [missing_key(name, config.synthesis) for name in config.synthesis.services]
    if all(reasons):
        raise ConfigError("; ".join(reason for reason in reasons if reason))
