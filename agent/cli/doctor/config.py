"""Whether the configuration can be used."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from agent.cli.doctor.finding import BROKEN, DOUBTFUL, FINE, Finding
from agent.config.errors import ConfigIssues
from agent.config.secrets import SYSTEM_CREDENTIALS, Secret
from agent.errors import ConfigError
from agent.settings.loader import Loaded, load_with_origins
from agent.settings.model import Config
from agent.system.hosts import is_private_host

SUBJECT = "configuration"


def check_configuration(
    path: str | os.PathLike[str] | None, environ: Mapping[str, str]
) -> tuple[Loaded, list[Finding]]:
    """What was read, and a finding for each mistake. Where there is a mistake the defaults are what was read."""
    try:
        loaded = load_with_origins(path, environ)
    except ConfigIssues as mistakes:
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


def check_keys(loaded: Loaded, *, installed: bool) -> list[Finding]:
    """A finding for each key that is used. ``installed``: a service with a user of its own has to read them."""
    return [_check(loaded, key, secret, needed, installed) for key, secret, needed in used_keys(loaded.config)]


def used_keys(config: Config) -> list[tuple[str, Secret, bool]]:
    """The dotted names and places of the keys of what is used, and whether it is certain that one is needed."""
    found: list[tuple[str, Secret, bool]] = []
    mode, synthesis = config.conversation.mode, config.synthesis
    if mode != "captions":
        for name in synthesis.services:
            if name != "local":
                settings = getattr(synthesis, name)
                url = settings.auth_url if name == "playai" else settings.url
                found.append((f"synthesis.{name}.api_key", settings.api_key, _outside(url)))
    heard_key = config.transcription.api_key
    named = heard_key.env is not None or heard_key.file is not None  # what somebody has named has to be there
    if mode != "announce" and (_outside(config.transcription.url) or named):
        found.append(("transcription.api_key", heard_key, False))
    if mode == "assistant" and config.responder.kind == "openai":
        openai = config.responder.openai
        found.append(("responder.openai.api_key", openai.api_key, _outside(openai.base_url)))
    if mode == "assistant" and config.responder.kind == "webhook":
        found.append(("responder.webhook.api_key", config.responder.webhook.api_key, False))
    return found


def put_key(secret: Secret) -> str:
    """The command that puts a key where it is looked for."""
    if secret.credential is not None:
        place = SYSTEM_CREDENTIALS / secret.credential
        how = f"sudo install -m 600 /dev/stdin {place}, paste the key, end with Ctrl-D"
        return f"{how}; then sudo systemctl restart voice-agent"
    if secret.file is not None:
        return f"put the key alone into {secret.file}"
    if secret.env is not None:
        return f"set the environment variable {secret.env} to the key"
    return "write the key behind api_key, or better {credential: NAME}"


def _check(loaded: Loaded, key: str, secret: Secret, needed: bool, installed: bool) -> Finding:
    subject = f"key {key.removesuffix('.api_key')}"
    try:
        found = secret.reveal()
    except ConfigError as error:
        return Finding(subject, BROKEN, str(error), _readable(loaded, key, secret), own=True)
    if found is None:
        verdict, saw = (BROKEN, "is missing") if needed else (DOUBTFUL, "is not there; the service may want none")
        return Finding(subject, verdict, f"{secret.origin} {saw}", put_key(secret), own=True)
    place = _place(secret)
    if place is None:
        return Finding(subject, FINE, f"there, from {secret.origin}")
    facts = place.stat()
    mode = stat.S_IMODE(facts.st_mode)
    who = f"{place}, mode {mode:04o}, owner {facts.st_uid}"
    if secret.file is not None and installed and os.geteuid() == 0 and not mode & 0o004:
        saw = f"{who}: the service, which is not root, cannot read it"
        return Finding(subject, BROKEN, saw, _readable(loaded, key, secret), own=True)
    if mode & 0o077 and not _given_by_systemd(place):
        return Finding(subject, DOUBTFUL, f"{who}: others can read it", f"sudo chmod 600 {place}", own=True)
    return Finding(subject, FINE, who)


def _readable(loaded: Loaded, key: str, secret: Secret) -> str:
    if secret.file is None:
        return put_key(secret)
    name = key.split(".")[-2]
    move = f"sudo install -D -m 600 {secret.file} {SYSTEM_CREDENTIALS / name}"
    return f"{move}; then write {{credential: {name}}} at {line_of(loaded, key)}"


def _place(secret: Secret) -> Path | None:
    if secret.file is not None:
        return Path(secret.file)
    if secret.credential is None:
        return None
    places = secret.places()
    return next((place for place in places if os.access(place, os.R_OK)), None)


def _given_by_systemd(place: Path) -> bool:
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return directory is not None and place.is_relative_to(directory)


def _outside(url: str) -> bool:
    from urllib.parse import urlsplit

    return not is_private_host(urlsplit(url).hostname or "")
