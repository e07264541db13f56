"""The trust store of WebSocket and HTTP, and the remedies for certificates that it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.authority import Authority
from support.scripted import Scripted, polite

from agent.errors import ServiceError
from agent.services.connection.dial import dial
from agent.services.connection.tls import ca_file_problem
from agent.services.protocols.codec import Handshake
from agent.system.threads import Deadline


def refuse(authority: Authority, kind: str = "stranger") -> str:
    with Scripted(polite, tls=getattr(authority, kind)()) as server, pytest.raises(ServiceError) as raised:
        dial(Handshake(server.url), "plain", Deadline(30))
    assert raised.value.permanent
    return str(raised.value)


def test_an_authority_in_ssl_cert_file_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)
    assert ca_file_problem() is None
    with Scripted(polite, tls=authority.good()) as server:
        dial(Handshake(server.url), "plain", Deadline(30)).close()


def make_missing(path: Path) -> None:
    path.unlink(missing_ok=True)


def make_directory(path: Path) -> None:
    path.mkdir()


def make_junk(path: Path) -> None:
    path.write_bytes(b"\x30\x82 a certificate in DER form")


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_missing, "cannot be read (No such file or directory)"),
        (make_directory, "SSL_CERT_FILE"),
        (make_junk, "contains no certificate"),
        (make_empty, "contains no certificate"),
    ],
)
def test_an_unusable_ssl_cert_file_is_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "own-ca.pem"
    make(path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    message = refuse(Authority(tmp_path), "good")
    assert words in message and str(path) in message and "unset" in message


def test_unknown_issuer_and_own_authority_have_different_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    unknown, own = refuse(Authority(tmp_path)), refuse(Authority(tmp_path), "self_signed")
    assert "unknown authority" in unknown and "apt install ca-certificates" in unknown and "login page" in unknown
    assert "self-signed" in own and "SSL_CERT_FILE" in own and "update-ca-certificates" in own
