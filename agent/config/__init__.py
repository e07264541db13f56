"""The configuration: YAML in, frozen dataclasses out, every mistake at once."""

from agent.config.addresses import is_private_host
from agent.config.changes import changes
from agent.config.keychain import keychain
from agent.config.loading import Loaded, load, load_with_origins
from agent.config.mistakes import Mistake, Mistakes
from agent.config.model import Config
from agent.config.schemas import schema
from agent.config.secrets import Secret
from agent.config.showing import describe

__all__ = [
    "Config",
    "Loaded",
    "Mistake",
    "Mistakes",
    "Secret",
    "changes",
    "describe",
    "is_private_host",
    "keychain",
    "load",
    "load_with_origins",
    "schema",
]
