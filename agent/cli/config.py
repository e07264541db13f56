"""``voice-agent config check | show | schema``: results to stdout, mistakes to stderr, exit codes of the contract."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping

from agent.config.display import describe, entries
from agent.config.errors import ConfigIssue, ConfigIssues
from agent.config.fields import iter_secrets
from agent.config.json_schema import schema as whole_schema
from agent.config.secrets import unset
from agent.settings.loader import Loaded, load_with_origins
from agent.settings.model import Config


def check(path: str | None, environ: Mapping[str, str] = os.environ, *, as_json: bool = False) -> int:
    """Says whether the configuration can be used: 0, or 78 with every mistake on a line of its own. As JSON it prints
    ``{"valid", "path", "mistakes": [{where, key, what, nearest}], "warnings"}`` to stdout."""
    try:
        loaded = load_with_origins(path, environ)
        if absent := _absent_keys(loaded, environ):
            raise ConfigIssues(absent)
    except ConfigIssues as mistakes:
        if as_json:
            found = [
                {"where": issue.where, "key": issue.key, "what": issue.what, "nearest": issue.suggestion}
                for issue in mistakes.issues
            ]
            _print_json({"valid": False, "path": path, "mistakes": found, "warnings": []})
        else:
            _print_mistakes(mistakes)
        return mistakes.exit_code
    if as_json:
        _print_json(
            {"valid": True, "path": _name(loaded, None), "mistakes": [], "warnings": list(loaded.warnings)},
        )
    else:
        for warning in loaded.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        print(f"{_name(loaded, 'the defaults')}: no mistake")
    return 0


def show(path: str | None, environ: Mapping[str, str] = os.environ, *, as_json: bool = False) -> int:
    """Prints the configuration in force, with where each value comes from and without a secret."""
    try:
        loaded = load_with_origins(path, environ)
    except ConfigIssues as mistakes:
        _print_mistakes(mistakes)
        return mistakes.exit_code
    if as_json:
        _print_json(entries(loaded.config, loaded.origins))
    else:
        print(describe(loaded.config, loaded.origins), end="")
    return 0


def schema() -> int:
    """Prints the JSON Schema."""
    print(schema_text(), end="")
    return 0


def schema_text() -> str:
    """The JSON Schema as it is printed and packaged."""
    return json.dumps(whole_schema(Config), indent=2, ensure_ascii=True) + "\n"


def _absent_keys(loaded: Loaded, environ: Mapping[str, str]) -> list[ConfigIssue]:
    """The keys that are to come from a variable that is not set. Only who has to know is told: ``status`` and its like
    read the same file in a shell that has no need of the daemon's variables."""
    return [
        ConfigIssue(
            loaded.origins.get(name, str(loaded.path)), name, f"{unset(secret.env)}, expected it to hold the key"
        )
        for name, secret in iter_secrets(loaded.config)
        if secret.env is not None and secret.env not in environ
    ]


def _name(loaded: Loaded, otherwise: str | None) -> str | None:
    return str(loaded.path) if loaded.path is not None else otherwise


def _print_mistakes(mistakes: ConfigIssues) -> None:
    print(mistakes, file=sys.stderr)
    number = len(mistakes.issues)
    print(f"{number} mistake{'s' if number > 1 else ''}", file=sys.stderr)


def _print_json(found: object) -> None:
    print(json.dumps(found, indent=2))
