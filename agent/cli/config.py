"""The command ``voice-agent config``: check, show or describe the configuration."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping

from agent.config.display import describe, entries
from agent.config.errors import ConfigIssue, ConfigIssues, suggestion
from agent.config.fields import iter_secrets
from agent.config.json_schema import schema as json_schema
from agent.config.secrets import unset
from agent.settings.loader import Loaded, load_with_origins
from agent.settings.model import Config


def check(path: str | None, environ: Mapping[str, str] = os.environ, *, as_json: bool = False) -> int:
    """Report every error in the configuration, one per line on stderr.

    With ``as_json``, print ``{"valid", "path", "mistakes": [{where, key, what, nearest}], "warnings"}`` to stdout.

    Returns:
        The exit code: 0, or 78 if the configuration cannot be used.
    """
    try:
        loaded = load_with_origins(path, environ)
        if issues := [*_unset_variables(loaded, environ), *_missing_voice(loaded)]:
            raise ConfigIssues(issues)
    except ConfigIssues as error:
        if as_json:
            mistakes = [
                {"where": issue.where, "key": issue.key, "what": issue.what, "nearest": issue.suggestion}
                for issue in error.issues
            ]
            _print_json({"valid": False, "path": path, "mistakes": mistakes, "warnings": []})
        else:
            _print_issues(error)
        return error.exit_code
    file = str(loaded.path) if loaded.path is not None else None
    if as_json:
        _print_json({"valid": True, "path": file, "mistakes": [], "warnings": list(loaded.warnings)})
    else:
        for warning in loaded.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        print(f"{file or 'the defaults'}: no mistake")
    return 0


def show(path: str | None, environ: Mapping[str, str] = os.environ, *, as_json: bool = False) -> int:
    """Print all values with their origin, without secrets, and return the exit code."""
    try:
        loaded = load_with_origins(path, environ)
    except ConfigIssues as error:
        _print_issues(error)
        return error.exit_code
    if as_json:
        _print_json(entries(loaded.config, loaded.origins))
    else:
        print(describe(loaded.config, loaded.origins), end="")
    return 0


def schema() -> int:
    """Print the JSON Schema and return the exit code."""
    print(schema_text(), end="")
    return 0


def schema_text() -> str:
    """Return the JSON Schema as text; the package installs the same text."""
    return json.dumps(json_schema(Config), indent=2, ensure_ascii=True) + "\n"


def _unset_variables(loaded: Loaded, environ: Mapping[str, str]) -> list[ConfigIssue]:
    """Return the secrets whose environment variable is not set.

    Only ``config check`` reports them: ``status``, for example, reads the same file in a shell without the variables of
    the daemon.
    """
    return [
        ConfigIssue(
            loaded.origins.get(name, str(loaded.path)), name, f"{unset(secret.env)}, expected it to hold the key"
        )
        for name, secret in iter_secrets(loaded.config)
        if secret.env is not None and secret.env not in environ
    ]


def _missing_voice(loaded: Loaded) -> list[ConfigIssue]:
    """Return an issue if no engine of this machine has the configured local voice.

    Only ``config check`` and ``doctor`` check this. The daemon does not, so that it starts faster: it speaks with the
    default voice instead.
    """
    config, key = loaded.config, "synthesis.local.voice"
    local = config.synthesis.settings("local")
    if local.url is not None or config.server.speech == "tone" or key not in loaded.origins:
        return []
    from agent.server.tts.voices import find_voice_problem, list_voices

    problem = find_voice_problem(local.voice)
    if problem is None:
        return []
    by_name = {voice.name.partition(":")[2]: voice.name for voice in list_voices()}
    nearest = suggestion(local.voice.rpartition(":")[2], by_name)
    return [ConfigIssue(loaded.origins[key], key, problem, by_name.get(nearest or ""))]


def _print_issues(error: ConfigIssues) -> None:
    print(error, file=sys.stderr)
    number = len(error.issues)
    print(f"{number} mistake{'s' if number > 1 else ''}", file=sys.stderr)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))
