"""The files of an export are complete or absent."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from support.authority import Authority
from support.scripted import Peer, Scripted

from agent.config.secrets import Secret
from agent.errors import ServiceError
from agent.pipeline.stt import export as exports
from agent.pipeline.stt.export import fetch_export
from agent.services.settings import TranscriptionSettings

KEPT = b"kept" * 25_000


class _Keeping(http.server.BaseHTTPRequestHandler):
    gives = len(KEPT)

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(KEPT)))
        self.end_headers()
        self.wfile.write(KEPT[: self.gives])

    def log_message(self, format: str, *arguments: object) -> None:
        """The test says what matters."""


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> Iterator[TranscriptionSettings]:
    """A server that sends the given part of each file and closes the connection."""
    handler = type("Keeping", (_Keeping,), {"gives": getattr(request, "param", len(KEPT))})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield TranscriptionSettings(export_url=f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()
        thread.join()


def test_fetch_export_writes_both_files_only(settings: TranscriptionSettings, tmp_path: Path) -> None:
    assert len(fetch_export(settings, "id-1", tmp_path).paths) == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"id-1.json": KEPT, "id-1.wav": KEPT}


@pytest.mark.parametrize("settings", [len(KEPT) // 2], indirect=True)
@pytest.mark.parametrize("minds", [True, False])
def test_incomplete_export_is_discarded(
    settings: TranscriptionSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minds: bool
) -> None:
    """Debian 12's urllib3 1.26 does not report a body that is shorter than its Content-Length."""
    request = urllib3.connection.HTTPConnection.request

    def careless(self: Any, *args: Any, **more: Any) -> Any:
        if "enforce_content_length" in more:
            more["enforce_content_length"] = minds
        return request(self, *args, **more)

    monkeypatch.setattr(urllib3.connection.HTTPConnection, "request", careless)
    with pytest.raises(ServiceError, match="is incomplete|could not be fetched"):
        fetch_export(settings, "id-1", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("head", [b"Content-Length: 1000000\r\n", b""], ids=["of a known length", "until the end"])
def test_slow_export_is_cancelled_after_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    over = threading.Event()

    def drips(peer: Peer) -> None:
        peer.read_request()
        peer.sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + head + b"\r\n")
        for _ in range(2000):
            if over.wait(0.02):
                return
            peer.sock.sendall(b"k")

    monkeypatch.setattr(exports, "MAX_DOWNLOAD_SECONDS", 0.5)
    refusals: list[ServiceError] = []

    def fetch() -> None:
        try:
            fetch_export(TranscriptionSettings(export_url=f"http://127.0.0.1:{server.port}"), "id-1", tmp_path)
        except ServiceError as error:
            refusals.append(error)

    with Scripted(drips) as server:
        fetching = threading.Thread(target=fetch, daemon=True)
        fetching.start()
        fetching.join(20)
        ended = not fetching.is_alive()
        over.set()
    assert ended and "took longer" in str(refusals)
    assert list(tmp_path.iterdir()) == []


def test_export_over_https_uses_the_configured_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)

    def keeping(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nkept")

    with Scripted(keeping, tls=authority.good()) as server:
        fetched = fetch_export(TranscriptionSettings(export_url=f"https://127.0.0.1:{server.port}"), "id-1", tmp_path)
    assert [path.read_bytes() for path in fetched.paths] == [b"kept", b"kept"]


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        ({"api_key": Secret(value="first")}, "first"),
        ({"export_key": Secret(value="rest")}, "rest"),
        ({"api_key": Secret(value="first"), "export_key": Secret(value="rest")}, "rest"),
        ({}, None),
    ],
)
def test_the_rest_interface_gets_its_own_key_or_else_the_api_key(
    keys: dict[str, Secret], sent: str | None, tmp_path: Path
) -> None:
    received: list[tuple[str | None, str | None]] = []

    def script(peer: Peer) -> None:
        peer.answer("200 OK", body=KEPT)
        received.append((peer.header("key"), peer.header("Authorization")))

    none = {"api_key": Secret(), "export_key": Secret()}
    with Scripted(script) as server:
        settings = TranscriptionSettings(export_url=f"http://127.0.0.1:{server.port}", **{**none, **keys})
        fetch_export(settings, "id-1", tmp_path)
        server.join()
    assert received == [(sent, sent)] * 2


def test_a_directory_that_cannot_be_created_is_an_error_of_the_service(
    settings: TranscriptionSettings, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServiceError, match="could not be written to .*file/exports: Not a directory"):
        fetch_export(settings, "id-1", tmp_path / "file" / "exports")
