"""The configuration: YAML in, frozen dataclasses out, every mistake at once."""

from agent.config.loading import Loaded, load, load_with_origins
from agent.config.mistakes import Mistake, Mistakes
from agent.config.model import Config
from agent.config.secrets import Secret

__all__ = ["Config", "Loaded", "Mistake", "Mistakes", "Secret", "load", "load_with_origins"]
