"""Checks of the remote services: each way in which a connection fails, with its cure."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from support.authority import Authority
from support.scripted import Scripted, close_frame, mute, polite, refuses, says

from agent.cli.doctor.result import ERROR, OK, CheckResult, exit_code
from agent.cli.doctor.services import CheckTiming, check_service, check_services
from agent.errors import MissingKeyError, NameLookupError, ServiceError
from agent.settings.loader import Loaded
from agent.system.threads import Deadline

Read = Callable[[str], Loaded]


def using(url: str, service: str = "neuphonic") -> str:
    """Return a configuration that uses one service at ``url``."""
    key = "auth_url" if service == "playai" else "url"
    section = f'{service}: {{{key}: "{url}", api_key: s3cret-key}}'
    return f"conversation: {{mode: announce}}\nsynthesis:\n  services: [{service}]\n  {section}\n"


def only(results: list[CheckResult]) -> CheckResult:
    (result,) = results
    assert "s3cret-key" not in f"{result}"
    return result


def test_a_service_that_accepts_the_connection_is_ok_and_receives_the_end_mark(loaded: Read) -> None:
    with Scripted(polite) as server:
        result = only(check_services(loaded(using(f"ws://127.0.0.1:{server.port}/speak/en"))))
        server.join()
    assert (result.verdict, result.subject) == (OK, "service neuphonic")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_check_that_crashes_is_an_error(loaded: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*arguments: object) -> NoReturn:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("agent.cli.doctor.services.check_service", crash)
    result = only(check_services(loaded(using("ws://127.0.0.1:9/"))))
    assert (result.verdict, result.subject, result.own) == (ERROR, "service neuphonic", False)


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_a_refused_key_is_reported_with_its_place(loaded: Read, status: str, tmp_path: Path) -> None:
    with Scripted(refuses(status)) as server:
        key = tmp_path / "key"
        key.write_text("s3cret-key")
        text = using(f"ws://127.0.0.1:{server.port}/").replace("s3cret-key", f"{{file: {key}}}")
        result = only(check_services(loaded(text)))
    assert result.verdict == ERROR and "key" in result.saw and status[:3] in result.saw
    assert "put the right key there" in result.cure and str(key) in result.cure
    assert exit_code([result]) == 78


def test_a_connection_that_is_closed_immediately_is_reported_as_a_key_error(loaded: Read) -> None:
    timing = CheckTiming(hold_seconds=20.0)  # the check ends with the close, not with the timeout
    with Scripted(says(close_frame(1008, "bad key"))) as server:
        result = only(check_services(loaded(using(f"ws://127.0.0.1:{server.port}/")), timing))
    assert result.verdict == ERROR and "closed it immediately" in result.saw and "check the key" in result.cure


def test_the_authorization_of_playai_is_requested(loaded: Read) -> None:
    with Scripted(refuses("401 Unauthorized", body=b"{}")) as server:
        text = using(f"http://127.0.0.1:{server.port}/auth", "playai").replace("api_key", "user_id: me, api_key")
        result = only(check_services(loaded(text)))
    assert result.verdict == ERROR and "401" in result.saw and "key" in result.cure
    assert exit_code([result]) == 78


@pytest.mark.parametrize(
    ("error", "cure", "own"),
    [
        (NameLookupError("neuphonic", "any message"), "getent hosts speech.example", False),
        (MissingKeyError("neuphonic", "any message"), "behind api_key", True),
        (ServiceError("neuphonic", "no key, name not found", permanent=True), "ping speech.example", True),
    ],
)
def test_the_cure_depends_on_the_error_class_and_not_on_the_message(
    loaded: Read, error: ServiceError, cure: str, own: bool
) -> None:
    def fail(deadline: Deadline) -> NoReturn:
        raise error

    result = check_service(loaded(using("wss://speech.example/")), "neuphonic", fail, CheckTiming())
    assert (result.verdict, result.own) == (ERROR, own) and cure in result.cure


def test_an_unknown_host_is_reported_with_the_lookup_command(loaded: Read) -> None:
    result = only(check_services(loaded(using("wss://speech.invalid/"))))
    assert result.verdict == ERROR and "speech.invalid was not found" in result.saw
    assert "getent hosts speech.invalid" in result.cure and "config.yaml:4" in result.cure
    assert exit_code([result]) == 69


@pytest.mark.parametrize(
    ("flaw", "cure"),
    [
        ("expired", "date"),
        ("wrong_host", "write the name in the certificate into synthesis.neuphonic.url"),
        ("not_yet_valid", "timedatectl set-ntp true"),
        ("stranger", "ca-certificates"),
    ],
)
def test_an_invalid_certificate_is_reported_with_the_cure_of_its_flaw(
    loaded: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flaw: str, cure: str
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)
    with Scripted(polite, tls=getattr(authority, flaw)()) as server:
        result = only(check_services(loaded(using(f"wss://localhost:{server.port}/"))))
    assert result.verdict == ERROR and "certificate" in result.saw and cure in result.cure


def test_a_refused_connection_is_reported_with_the_line_of_the_url(loaded: Read) -> None:
    with socket.socket() as bound:  # bound and not listening: no other program can take the port meanwhile
        bound.bind(("127.0.0.1", 0))
        result = only(check_services(loaded(using(f"ws://127.0.0.1:{bound.getsockname()[1]}/"))))
    assert result.verdict == ERROR
    assert "nothing listens there" in result.cure and "config.yaml:4" in result.cure
    assert exit_code([result]) == 69


def test_a_default_url_beside_another_port_of_the_server_is_reported_with_the_url_to_set(loaded: Read) -> None:
    def refuse(deadline: Deadline) -> NoReturn:
        raise ServiceError("transcription", "127.0.0.1 port 8394 cannot be reached")

    configuration = loaded("conversation: {mode: captions}\nserver: {port: 9000}\n")
    result = check_service(configuration, "transcription", refuse, CheckTiming())
    assert result.verdict == ERROR and "set transcription.url: ws://127.0.0.1:9000/" in result.cure
    assert exit_code([result]) == 78


def test_a_host_that_does_not_answer_is_reported_at_the_timeout(loaded: Read) -> None:
    with Scripted(mute) as server:
        result = only(check_services(loaded(using(f"ws://127.0.0.1:{server.port}/")), CheckTiming(open_seconds=3.0)))
    assert result.verdict == ERROR and "does not answer" in result.cure


def test_check_services_opens_exactly_the_services_in_use(loaded: Read) -> None:
    with Scripted(polite) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        text = (
            f'transcription: {{url: "{url}"}}\n'
            f'synthesis:\n  services: [fish, local, vachana]\n  fish: {{url: "{url}"}}\n  vachana: {{url: "{url}"}}\n'
        )
        results = check_services(loaded(text))
    assert [result.subject for result in results] == ["service fish", "service vachana", "service transcription"]
