"""Loads the configuration of voice-agent."""

from __future__ import annotations

import os
from collections.abc import Mapping

from agent.config import loader
from agent.config.tree_cache import TreeCache
from agent.settings.checks import findings, warnings
from agent.settings.model import Config

Loaded = loader.Loaded[Config]


def load(path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Config:
    """Return the configuration. Arguments and exceptions as for ``load_with_origins``."""
    return load_with_origins(path, environ).config


def load_with_origins(
    path: str | os.PathLike[str] | None, environ: Mapping[str, str], cache: TreeCache | None = None
) -> Loaded:
    """Return the configuration, the origin of each value, and the warnings.

    Args:
        path: The file; ``None`` means ``/etc/voice-agent/config.yaml`` if it exists, otherwise no file.
        environ: The environment, whose variables ``VOICE_AGENT_SECTION__KEY`` override the file.
        cache: Keeps the tree of the file for the next start.

    Raises:
        ConfigIssues: The configuration has errors. The text lists all of them, one per line, and contains no secret.
    """
    return loader.load(Config, path, environ, findings, warnings, cache)
