"""Keys are kept out of the log, whatever is written into it."""

from __future__ import annotations

from agent.config.keychain import keychain
from agent.config.model import Config
from agent.errors import ConfigError
from agent.service import hide


def hide_keys(config: Config) -> None:
    """From now on the log shows ``***`` for every key that the configuration leads to."""
    for _, secret in keychain(config):
        try:
            hide(secret.reveal())
        except ConfigError:
            continue  # whoever needs it will say that it cannot be read
