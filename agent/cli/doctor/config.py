"""Checks of the configuration and of the API keys it refers to."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from agent.cli.doctor.result import ERROR, OK, WARNING, CheckResult
from agent.config.errors import ConfigIssues
from agent.config.fields import all_values
from agent.config.secrets import SYSTEM_CREDENTIALS, Secret
from agent.errors import ConfigError
from agent.frontends.web.settings import ListenAddress
from agent.pipeline.responders.registry import find as find_responder
from agent.services.registry import find as find_service
from agent.settings.loader import Loaded, load_with_origins
from agent.settings.model import Config
from agent.system.hosts import is_private_host

SUBJECT = "configuration"


# --- configuration


def check_configuration(
    path: str | os.PathLike[str] | None, environ: Mapping[str, str]
) -> tuple[Loaded, list[CheckResult]]:
    """Return the configuration and the results: one per error, or else one for the file and one per warning.

    If the configuration is invalid, the defaults are returned.
    """
    try:
        loaded = load_with_origins(path, environ)
    except ConfigIssues as error:
        return Loaded(Config()), [_issue(issue.where, str(issue)) for issue in error.issues]
    name = str(loaded.path) if loaded.path is not None else "no file, the defaults apply"
    count = sum(dotted in loaded.origins for dotted, _ in all_values(loaded.config))  # the origins also name sections
    keys = "every key has its default" if not count else f"{count} {'key is' if count == 1 else 'keys are'} set"
    results = [CheckResult(SUBJECT, OK, f"{name}, {keys}")]
    return loaded, results + [CheckResult(SUBJECT, WARNING, warning, own=True) for warning in loaded.warnings]


def _issue(where: str, sentence: str) -> CheckResult:
    file, colon, line = where.rpartition(":")
    if colon and line.isdigit():
        cure = f"change line {line} of {file}, then type: voice-agent config check --config {file}"
    else:
        cure = f"correct {where}, then type: voice-agent config check"
    return CheckResult(SUBJECT, ERROR, sentence, cure, own=True)


def key_with_origin(loaded: Loaded, key: str) -> str:
    """Return the key with the place of its value, such as ``synthesis.fish.url (config.yaml:7)``."""
    origin = loaded.origins.get(key)
    return f"{key} ({origin})" if origin else f"{key} (not set, so the default)"


# --- API keys


def check_keys(loaded: Loaded, *, installed: bool) -> list[CheckResult]:
    """Check each API key that the configuration uses, and the token of the web frontend.

    Args:
        loaded: The configuration.
        installed: Whether the service is installed. Then the user of the service has to be able to read the keys.
    """
    results = [_check_key(loaded, key, secret, missing, installed) for key, secret, missing in used_keys(loaded.config)]
    address = loaded.config.web.address
    return results if address is None else [*results, _check_token(loaded, address, installed)]


def used_keys(config: Config) -> list[tuple[str, Secret, str]]:
    """Return dotted name, secret and the verdict about a missing key, for each service in use.

    The verdict is ``ERROR`` if a public service needs the key, and ``WARNING`` if the service may need one. A server on
    a private network usually needs none: ``OK``.
    """
    keys: list[tuple[str, Secret, str]] = []
    mode, synthesis = config.conversation.mode, config.synthesis
    if mode != "captions":
        for name in synthesis.services:
            service, settings = find_service(name), synthesis.settings(name)
            if service.has_key:
                verdict = ERROR if _is_public(service.url(settings) or "") else OK
                keys.append((f"synthesis.{name}.api_key", settings.api_key, verdict))
    transcription = config.transcription
    is_configured = transcription.api_key.env is not None or transcription.api_key.file is not None
    if mode != "announce" and (_is_public(transcription.url) or is_configured):
        keys.append(("transcription.api_key", transcription.api_key, WARNING))
    export_key = transcription.export_key
    if mode != "announce" and transcription.export_url and (export_key.env is not None or export_key.file is not None):
        keys.append(("transcription.export_key", export_key, WARNING))
    responder = config.responder
    home = responder.intents.home_assistant
    for secret in responder.secrets() if mode == "assistant" else ():
        if secret is home.token:
            keys.append(("responder.intents.home_assistant.token", secret, ERROR))
            continue
        kind = find_responder(responder.kind)
        url = str(getattr(responder.settings(responder.kind), kind.url_key or "", ""))
        verdict = OK if not _is_public(url) else WARNING if kind.is_key_optional else ERROR
        keys.append((f"responder.{responder.kind}.api_key", secret, verdict))
    return keys


def set_key_command(secret: Secret) -> str:
    """Return the command, or the instruction, that puts the key where ``secret`` reads it."""
    if secret.credential is not None:
        file = SYSTEM_CREDENTIALS / secret.credential
        return (
            f"sudo install -m 600 /dev/stdin {file}, paste the key, end with Ctrl-D; "
            "then sudo systemctl restart voice-agent"
        )
    if secret.file is not None:
        return f"put the key alone into {secret.file}"
    if secret.env is not None:
        return f"set the environment variable {secret.env} to the key"
    return "write the key behind api_key, or better {credential: NAME}"


def _check_key(loaded: Loaded, key: str, secret: Secret, missing: str, installed: bool) -> CheckResult:
    subject = f"key {key.removesuffix('.api_key')}"
    try:
        value = secret.reveal()
    except ConfigError as error:
        return CheckResult(subject, ERROR, str(error), _make_readable(loaded, key, secret), own=True)
    if value is None:
        if missing == OK:
            return CheckResult(subject, OK, "not set, as is usual for a server on a private network")
        saw = "is missing" if missing == ERROR else "is missing; the service may need no key"
        return CheckResult(subject, missing, f"{secret.origin} {saw}", set_key_command(secret), own=True)
    file = _file(secret)
    if file is None:
        return CheckResult(subject, OK, f"set, from {secret.origin}")
    status = file.stat()
    mode = stat.S_IMODE(status.st_mode)
    saw = f"{file}, mode {mode:04o}, owner {status.st_uid}"
    if secret.file is not None and installed and os.geteuid() == 0 and not mode & 0o004:
        saw = f"{saw}: the service, which is not root, cannot read it"
        return CheckResult(subject, ERROR, saw, _make_readable(loaded, key, secret), own=True)
    if mode & 0o077 and not _is_from_systemd(file):
        return CheckResult(subject, WARNING, f"{saw}: other users can read it", f"sudo chmod 600 {file}", own=True)
    return CheckResult(subject, OK, saw)


def _check_token(loaded: Loaded, address: ListenAddress, installed: bool) -> CheckResult:
    result = _check_key(loaded, "web.token", loaded.config.web.token, ERROR, installed)
    try:
        is_missing = loaded.config.web.token.reveal() is None
    except ConfigError:
        return result
    if is_missing and address.is_loopback:
        saw = "not set: the page shows the state, and no program can use the API over HTTP"
        return CheckResult(result.subject, OK, saw, result.cure)
    return result


def _make_readable(loaded: Loaded, key: str, secret: Secret) -> str:
    if secret.file is None:
        return set_key_command(secret)
    name = key.split(".")[-2]
    move = f"sudo install -D -m 600 {secret.file} {SYSTEM_CREDENTIALS / name}"
    return f"{move}; then write {{credential: {name}}} at {key_with_origin(loaded, key)}"


def _file(secret: Secret) -> Path | None:
    if secret.file is not None:
        return Path(secret.file)
    if secret.credential is None:
        return None
    return next((place for place in secret.places() if os.access(place, os.R_OK)), None)


def _is_from_systemd(file: Path) -> bool:
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return directory is not None and file.is_relative_to(directory)


def _is_public(url: str) -> bool:
    from urllib.parse import urlsplit

    return not is_private_host(urlsplit(url).hostname or "")
