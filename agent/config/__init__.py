"""The configuration: YAML in, frozen dataclasses out, every mistake at once.

What only describes a configuration (``changes``, ``schemas``, ``showing``) is imported from its own module: the daemon
starts without it.
"""

from agent.config.addresses import is_private_host
from agent.config.loading import Loaded, load, load_with_origins
from agent.config.mistakes import Mistake, Mistakes
from agent.config.model import Config
from agent.config.secrets import Secret

__all__ = [
    "Config",
    "Loaded",
    "Mistake",
    "Mistakes",
    "Secret",
    "is_private_host",
    "load",
    "load_with_origins",
]
