"""Checks of the remote services: host name, TCP, TLS, handshake and key, by opening a real connection to each."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from agent.cli.doctor.config import key_with_origin, set_key_command
from agent.cli.doctor.machine import SET_CLOCK
from agent.cli.doctor.result import ERROR, OK, CheckResult
from agent.config.secrets import Secret
from agent.daemon.connection_builder import is_local_server_url
from agent.errors import AgentError, MissingKeyError, NameLookupError, ServiceError
from agent.services.connection.http import root_cause
from agent.services.connection.poll import wait
from agent.services.connection.tls import EXPIRED, HOST_MISMATCH, IP_MISMATCH, NOT_YET_VALID, ca_file_problem
from agent.services.connection.websocket import Connection
from agent.services.protocols.codec import Failure
from agent.services.registry import find
from agent.services.service import SpeechService, TranscriptionService, WakeService
from agent.settings.loader import Loaded
from agent.settings.model import Config
from agent.system.named_tuple import NamedTuple
from agent.system.threads import Deadline

Open = Callable[[Deadline], Connection]

_CLOSE_SECONDS = 2.0  # for one connection; independent of the shutdown of the daemon


class CheckTiming(NamedTuple):
    """Timeouts of the check of one service. Immutable.

    Args:
        open_seconds: Longest time until the connection is open.
        hold_seconds: How long the connection has to stay open. Some services accept every connection and close it
            after they have checked the key.
    """

    open_seconds: float = 8.0
    hold_seconds: float = 0.7


def check_services(loaded: Loaded, timing: CheckTiming = CheckTiming()) -> list[CheckResult]:  # noqa: B008 - immutable
    """Check all remote services in use, in parallel. Only the end mark is sent, so the services charge nothing."""
    services = services_in_use(loaded.config)
    # The result of a check that fails with a stack, which the thread prints.
    crash = CheckResult("", ERROR, "the check itself failed", "report the stack on stderr as a defect of voice-agent")
    results = {name: crash._replace(subject=f"service {name}") for name, _ in services}

    def check(name: str, open: Open) -> None:
        results[name] = check_service(loaded, name, open, timing)

    threads = [threading.Thread(target=check, args=each, name=f"check {each[0]}") for each in services]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[name] for name, _ in services]


def services_in_use(config: Config) -> list[tuple[str, Open]]:
    """Return name and opener of each service in use, except the local speech server of this machine."""

    def local_url(deadline: Deadline) -> str:
        raise ServiceError("local", "the local speech server has a separate check")

    services: list[tuple[str, Open]] = []
    mode, synthesis = config.conversation.mode, config.synthesis
    if mode != "captions":
        for name in synthesis.services:
            if find(name).url(synthesis.settings(name)) is not None:
                services.append((name, SpeechService(name, synthesis, local_url).open))
    if mode != "announce" and not is_local_server_url(config.transcription.url, config):
        services.append(("transcription", TranscriptionService(config.transcription).open))
    wake = config.wake
    if mode == "assistant" and wake.engine == "wyoming":
        open = WakeService(wake.url, wake.spoken_words, allow_plaintext=wake.allow_plaintext).open
        services.append((WakeService.name, open))
    return services


def check_service(loaded: Loaded, name: str, open: Open, timing: CheckTiming) -> CheckResult:
    """Open a connection and check that the service keeps it open."""
    subject = f"service {name}"
    try:
        connection = open(Deadline(timing.open_seconds))
    except AgentError as error:
        key, url = url_of(loaded.config, name)
        cure, own = cure_of(error, url, key_with_origin(loaded, key), _secret(loaded.config, name))
        port = loaded.config.server.port
        if key == "transcription.url" and key not in loaded.origins and "server.port" in loaded.origins and port:
            cure, own = f"the local server listens on server.port: set {key}: ws://127.0.0.1:{port}/ as well", True
        return CheckResult(subject, ERROR, str(error).removeprefix(f"{name}: "), cure, own)
    reason = _close_reason(connection, Deadline(timing.hold_seconds))
    if not connection.is_closed:
        connection.finish(Deadline(_CLOSE_SECONDS))
    if reason is not None:
        secret = _secret(loaded.config, name)
        cure = f"check the key: {set_key_command(secret)}" if secret else f"check {url_of(loaded.config, name)[0]}"
        saw = f"the service accepted the connection and closed it immediately ({reason})"
        return CheckResult(subject, ERROR, saw, cure, own=True)
    host = urlsplit(url_of(loaded.config, name)[1]).hostname
    return CheckResult(subject, OK, f"{host} accepted the connection")


def _close_reason(connection: Connection, deadline: Deadline) -> str | None:
    """Return why the service closed the connection or reported a fatal error before the deadline; else ``None``."""
    while not connection.is_closed and not deadline.is_expired:
        wait(connection, [], deadline.remaining())
        for event in connection.pump():
            if isinstance(event, Failure) and event.fatal:
                return event.received
    return (connection.close_reason or f"close code {connection.close_code}") if connection.is_closed else None


def url_of(config: Config, name: str) -> tuple[str, str]:
    """Return the dotted key that holds the URL of a service, and the URL."""
    if name in ("transcription", WakeService.name):
        return f"{name}.url", getattr(config, name).url
    service = find(name)
    return f"synthesis.{name}.{service.url_key}", str(service.url(config.synthesis.settings(name)))


def _secret(config: Config, name: str) -> Secret | None:
    if name in ("transcription", WakeService.name):
        return getattr(getattr(config, name), "api_key", None)
    settings = config.synthesis.settings(name)
    return getattr(settings, "api_key", None)


def cure_of(error: AgentError, url: str, url_key: str, secret: Secret | None) -> tuple[str, bool]:
    """Return the cure for a failed connection, and whether the cause is the configuration or a key.

    Args:
        error: The failure.
        url: The URL of the service.
        url_key: The key that holds the URL, with the place of its value (see ``key_with_origin``).
        secret: Where the API key of the service is stored, if it uses one.
    """
    host = urlsplit(url).hostname or ""
    if not isinstance(error, ServiceError):
        return f"correct {url_key}", True
    cause = root_cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _certificate_cure(cause, host, url_key)
    if isinstance(cause, ssl.SSLError):
        return f"check the port of {url_key}, and that the service uses TLS there", True
    if error.status in (401, 403) and secret is not None:
        return f"put the right key there: {set_key_command(secret)}", True
    if error.status in (404, 422):
        return f"check {url_key} and the settings beside it", True
    retry = "" if error.permanent else "; voice-agent retries by itself"
    if 500 <= (error.status or 0) < 511:
        return f"see the log of the service or its status page, else check {url_key}{retry}", False
    if error.status in (402, 429):
        return f"check the account and the service's status page{retry}", False
    if 300 <= (error.status or 0) < 500 and error.status != 407:
        return f"check {url_key} and the settings beside it", error.permanent
    if isinstance(error, NameLookupError) or isinstance(cause, socket.gaierror):
        lookup = f"getent hosts {host}; without a result the network or its DNS is down (resolvectl status)"
        return f"{lookup}; else check {url_key}", False
    if isinstance(cause, TimeoutError):
        return f"the host accepts the connection and does not answer: try later, or check {url_key}", False
    if isinstance(cause, ConnectionResetError | BrokenPipeError):
        return f"the host ends the connection without an answer: try later, or check {url_key}", False
    if isinstance(cause, ConnectionError):
        return f"nothing listens there: start the service, or check host and port of {url_key}", False
    if isinstance(error, MissingKeyError) and secret is not None:
        return set_key_command(secret), True
    return f"check {url_key}, and the network: ping {host}", error.permanent


def _certificate_cure(cause: ssl.SSLCertVerificationError, host: str, url_key: str) -> tuple[str, bool]:
    if cause.verify_code == NOT_YET_VALID:
        return SET_CLOCK, False
    if cause.verify_code == EXPIRED:
        return f"date (if the clock is right, {host} has to renew its certificate)", False
    if cause.verify_code in (HOST_MISMATCH, IP_MISMATCH):
        return f"write the name in the certificate into {url_key}", True
    if problem := ca_file_problem():
        return problem, True
    own = "put a private authority into /usr/local/share/ca-certificates and run sudo update-ca-certificates"
    return f"sudo apt install ca-certificates; for {host} with a private authority: {own}", False
