"""Each way in which a service does not let us in is named, with what to do about it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from support.authority import Authority
from support.scripted import CLOSE, Scripted, close_frame, mute, polite, refuses, says

from agent.cli.doctor import services as network
from agent.cli.doctor.finding import BROKEN, FINE, Finding, exit_code
from agent.cli.doctor.services import check_services
from agent.settings.loader import Loaded

Read = Callable[[str], Loaded]


def speaking(url: str, service: str = "neuphonic") -> str:
    key = "auth_url" if service == "playai" else "url"
    place = f'{service}: {{{key}: "{url}", api_key: s3cret-key}}'
    return f"conversation: {{mode: announce}}\nsynthesis:\n  services: [{service}]\n  {place}\n"


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1
    assert "s3cret-key" not in f"{found[0]}"
    return found[0]


def test_a_service_that_lets_us_in_is_fine_and_is_told_that_nothing_more_comes(loaded: Read) -> None:
    with Scripted(polite) as server:
        found = only(check_services(loaded(speaking(f"ws://127.0.0.1:{server.port}/speak/en"))))
        server.join()
    assert (found.verdict, found.subject) == (FINE, "service neuphonic")


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_a_wrong_key_is_named_with_the_place_for_the_right_one(loaded: Read, status: str, tmp_path: Path) -> None:
    with Scripted(refuses(status)) as server:
        key = tmp_path / "key"
        key.write_text("s3cret-key")
        text = speaking(f"ws://127.0.0.1:{server.port}/").replace("s3cret-key", f"{{file: {key}}}")
        found = only(check_services(loaded(text)))
    assert found.verdict == BROKEN and "refused the key" in found.saw and status[:3] in found.saw
    assert "put the right key there" in found.cure and str(key) in found.cure
    assert exit_code([found]) == 78


def test_a_service_that_takes_everybody_in_and_shows_a_wrong_key_out_is_seen_through(
    loaded: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "SECOND_THOUGHT_SECONDS", 20.0)  # it is not waited for longer than it takes
    with Scripted(says(close_frame(1008, "bad key"))) as server:
        found = only(check_services(loaded(speaking(f"ws://127.0.0.1:{server.port}/"))))
    assert found.verdict == BROKEN and "showed us out at once" in found.saw and "check the key" in found.cure


def test_the_authorisation_of_playai_is_asked_for_really(loaded: Read) -> None:
    with Scripted(refuses("401 Unauthorized", body=b"{}")) as server:
        text = speaking(f"http://127.0.0.1:{server.port}/auth", "playai").replace("api_key", "user_id: me, api_key")
        found = only(check_services(loaded(text)))
    assert found.verdict == BROKEN and "401" in found.saw and "key" in found.cure
    assert exit_code([found]) == 78


def test_a_name_that_is_not_found_is_named_with_how_to_look_it_up(loaded: Read) -> None:
    found = only(check_services(loaded(speaking("wss://speech.invalid/"))))
    assert found.verdict == BROKEN and "speech.invalid was not found" in found.saw
    assert "getent hosts speech.invalid" in found.cure and "config.yaml:4" in found.cure
    assert exit_code([found]) == 69


@pytest.mark.parametrize(
    ("flaw", "saw", "cure"),
    [
        ("expired", "has expired", "date"),
        ("wrong_host", "for another host", "write the name that the certificate is for into synthesis.neuphonic.url"),
        ("not_yet_valid", "not yet valid", "timedatectl set-ntp true"),
        ("stranger", "nobody this machine trusts", "ca-certificates"),
    ],
)
def test_a_certificate_that_does_not_hold_is_named_by_its_flaw(
    loaded: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flaw: str, saw: str, cure: str
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)
    with Scripted(polite, tls=getattr(authority, flaw)()) as server:
        found = only(check_services(loaded(speaking(f"wss://localhost:{server.port}/"))))
    assert found.verdict == BROKEN and saw in found.saw and cure in found.cure


def test_a_service_that_is_down_is_named_with_the_line_of_its_address(loaded: Read) -> None:
    with socket.socket() as deaf:  # it has the port and does not listen: nobody else can take it meanwhile
        deaf.bind(("127.0.0.1", 0))
        found = only(check_services(loaded(speaking(f"ws://127.0.0.1:{deaf.getsockname()[1]}/"))))
    assert found.verdict == BROKEN and "cannot be reached" in found.saw
    assert "nothing answers there" in found.cure and "config.yaml:4" in found.cure
    assert exit_code([found]) == 69


def test_a_service_that_is_silent_is_not_waited_for_without_end(loaded: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "DIAL_SECONDS", 3.0)
    with Scripted(mute) as server:
        found = only(check_services(loaded(speaking(f"ws://127.0.0.1:{server.port}/"))))
    assert found.verdict == BROKEN and "did not answer the upgrade in time" in found.saw
    assert "is silent" in found.cure


def test_every_service_that_is_used_is_dialled_and_no_other(loaded: Read) -> None:
    with Scripted(polite) as server:
        at = f"ws://127.0.0.1:{server.port}/"
        text = (
            f'transcription: {{url: "{at}"}}\n'
            f'synthesis:\n  services: [fish, local, vachana]\n  fish: {{url: "{at}"}}\n  vachana: {{url: "{at}"}}\n'
        )
        found = check_services(loaded(text))
    assert [finding.subject for finding in found] == ["service fish", "service vachana", "service transcription"]
    assert CLOSE  # each was ended in good order by polite's own close
