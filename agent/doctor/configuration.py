"""Whether the configuration can be used."""

from __future__ import annotations

import os
from collections.abc import Mapping

from agent.config import Config, Loaded, Mistakes, load_with_origins
from agent.doctor.finding import BROKEN, DOUBTFUL, FINE, Finding

SUBJECT = "configuration"


def check_configuration(
    path: str | os.PathLike[str] | None, environ: Mapping[str, str]
) -> tuple[Loaded, list[Finding]]:
    """What was read, and a finding for each mistake. Where there is a mistake the defaults are what was read."""
    try:
        loaded = load_with_origins(path, environ)
    except Mistakes as mistakes:
        return Loaded(Config()), [_mistaken(mistake.where, str(mistake)) for mistake in mistakes.mistakes]
    name = str(loaded.path) if loaded.path is not None else "no file: the defaults are used"
    keys = f"{len(loaded.origins)} keys are set" if loaded.origins else "every key has its default"
    found = [Finding(SUBJECT, FINE, f"{name}, {keys}")]
    found += [Finding(SUBJECT, DOUBTFUL, warning, own=True) for warning in loaded.warnings]
    return loaded, found


def _mistaken(where: str, sentence: str) -> Finding:
    file, colon, line = where.rpartition(":")
    if colon and line.isdigit():
        cure = f"change line {line} of {file}, then type: voice-agent config check --config {file}"
    else:
        cure = f"mend {where}, then type: voice-agent config check"
    return Finding(SUBJECT, BROKEN, sentence, cure, own=True)


def line_of(loaded: Loaded, key: str) -> str:
    """The key with where its value stands, for a cure: ``synthesis.fish.url (config.yaml:7)``."""
    origin = loaded.origins.get(key)
    return f"{key} ({origin})" if origin else f"{key} (not set, so the default)"
