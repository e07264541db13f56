"""Whether each service lets us in: name, TCP, TLS, upgrade and key, by really dialling it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from agent.cli.doctor.config import line_of, put_key
from agent.cli.doctor.finding import BROKEN, FINE, Finding
from agent.cli.doctor.machine import SET_IT
from agent.config.secrets import Secret
from agent.daemon.builder import points_at
from agent.errors import AgentError, ServiceError
from agent.services.connection.poll import wait
from agent.services.connection.websocket import Connection
from agent.services.protocols.codec import Failure
from agent.services.registry import SpeechService, TranscriptionService
from agent.settings.loader import Loaded
from agent.settings.model import Config
from agent.system.threads import Deadline

DIAL_SECONDS = 8.0
SECOND_THOUGHT_SECONDS = 0.7
"""Some services take everybody in and show those with a wrong key out again: so long is waited for that."""

Open = Callable[[Deadline], Connection]


def check_services(loaded: Loaded) -> list[Finding]:
    """A finding for each service outside that is used; all are dialled at the same time. Nothing is said to them but
    the end mark, so that it costs nothing."""
    config = loaded.config
    found: dict[str, Finding] = {}

    def look(name: str, open: Open) -> None:
        found[name] = check_service(loaded, name, open)

    threads = [threading.Thread(target=look, args=each, name=f"dial {each[0]}") for each in dialled(config)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[name] for name, _ in dialled(config)]


def dialled(config: Config) -> list[tuple[str, Open]]:
    """The services that are used and are not the local speech server, and how each is opened."""

    def nowhere(deadline: Deadline) -> str:
        raise ServiceError("local", "it is looked at by itself")

    services: list[tuple[str, Open]] = []
    mode, synthesis = config.conversation.mode, config.synthesis
    if mode != "captions":
        for name in synthesis.services:
            if name != "local" or synthesis.local.url is not None:
                services.append((name, SpeechService(name, synthesis, nowhere).open))
    if mode != "announce" and not points_at(config.transcription.url, config):
        services.append(("transcription", TranscriptionService(config.transcription).open))
    return services


def check_service(loaded: Loaded, name: str, open: Open) -> Finding:
    """Dials one service and looks whether it keeps the connection."""
    subject = f"service {name}"
    try:
        connection = open(Deadline(DIAL_SECONDS))
    except AgentError as error:
        saw = str(error).removeprefix(f"{name}: ")
        cure, own = _cure(loaded, name, error)
        return Finding(subject, BROKEN, saw, cure, own)
    refused = _second_thoughts(connection)
    if not connection.ended:
        connection.finish(Deadline(2.0))
    if refused is not None:
        secret = _secret(loaded.config, name)
        cure = f"check the key: {put_key(secret)}" if secret else f"check {url_of(loaded.config, name)[0]}"
        return Finding(subject, BROKEN, f"it let us in and showed us out at once ({refused})", cure, own=True)
    return Finding(subject, FINE, f"{urlsplit(url_of(loaded.config, name)[1]).hostname} let us in")


def _second_thoughts(connection: Connection) -> str | None:
    patience = Deadline(SECOND_THOUGHT_SECONDS)
    while not connection.ended and not patience.over:
        wait(connection, [], patience.remaining())
        for event in connection.pump():
            if isinstance(event, Failure) and event.fatal:
                return event.came
    return (connection.close_reason or f"close code {connection.close_code}") if connection.ended else None


def url_of(config: Config, name: str) -> tuple[str, str]:
    """The key that holds the address of a service, and the address."""
    if name == "transcription":
        return "transcription.url", config.transcription.url
    last = "auth_url" if name == "playai" else "url"
    return f"synthesis.{name}.{last}", str(getattr(getattr(config.synthesis, name), last))


def _secret(config: Config, name: str) -> Secret | None:
    settings = config.transcription if name == "transcription" else getattr(config.synthesis, name)
    return getattr(settings, "api_key", None)


def _cure(loaded: Loaded, name: str, error: AgentError) -> tuple[str, bool]:
    """What to do about a service that did not let us in, and whether it is a matter of configuration or keys."""
    key, url = url_of(loaded.config, name)
    host = urlsplit(url).hostname or ""
    at = line_of(loaded, key)
    secret = _secret(loaded.config, name)
    if not isinstance(error, ServiceError):
        return f"mend what it says, at {at}", True
    cause = _root(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _certificate(cause, host, at)
    if error.status in (401, 403) and secret is not None:
        return f"put the right key there: {put_key(secret)}", True
    if error.status in (404, 422):
        return f"check {at} and the settings beside it", True
    if error.status in (402, 429, 503):
        return "look at the account and at the service's own status page; it is tried again by itself", False
    if isinstance(cause, socket.gaierror) or "name" in str(error) and "not found" in str(error):
        seen = f"getent hosts {host}; if that finds nothing the network or its DNS is down (resolvectl status)"
        return f"{seen}; else check {at}", False
    if isinstance(cause, TimeoutError):
        return f"the host takes the connection and is silent: try later, or check {at}", False
    if isinstance(cause, ConnectionError):
        return f"nothing answers there: start the service, or check host and port of {at}", False
    if error.permanent and secret is not None and "no key" in str(error):
        return put_key(secret), True
    return f"check {at}, and the network: ping {host}", error.permanent


def _certificate(cause: ssl.SSLCertVerificationError, host: str, at: str) -> tuple[str, bool]:
    if cause.verify_code == 9:
        return SET_IT, False
    if cause.verify_code == 10:
        return f"date (if the clock is right, {host} has to renew its certificate)", False
    if cause.verify_code in (62, 64):
        return f"write the name that the certificate is for into {at}", True
    own = "one that you made yourself belongs into /usr/local/share/ca-certificates"
    return f"sudo apt install ca-certificates; {own} ({host})", False


def _root(error: BaseException) -> BaseException:
    """The exception at the bottom; a library wraps them, so the first that says something counts."""
    telling = (ssl.SSLCertVerificationError, socket.gaierror, TimeoutError, ConnectionError)
    waiting: list[object] = [error]
    seen: list[BaseException] = []
    while waiting and len(seen) < 20:
        here = waiting.pop(0)
        if not isinstance(here, BaseException) or here in seen:
            continue
        seen.append(here)
        if isinstance(here, telling):
            return here
        waiting += [here.__cause__, here.__context__, getattr(here, "reason", None), *here.args]
    return error
