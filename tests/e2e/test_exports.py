"""What the transcription service keeps of a session, fetched by ``transcribe`` and by the daemon."""

from __future__ import annotations

import http.server
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.agent_fixtures import Start
from support.processes import WireLoggedServer


class _Refusing(http.server.BaseHTTPRequestHandler):
    status = 404

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """The test says what matters."""


@pytest.fixture
def refusing(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where every export is answered with one status."""
    handler = type("Refusing", (_Refusing,), {"status": request.param})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("refusing", "code"), [(404, 0), (500, 69), (401, 69)], indirect=["refusing"])
def test_a_missing_export_is_no_failure(
    agent: Start,
    write_config: Callable[[str], str],
    tone_server: WireLoggedServer,
    speech: Path,
    refusing: str,
    code: int,
) -> None:
    """A good transcript ended with exit code 69, because there was nothing to export."""
    config = write_config(f"transcription: {{url: '{tone_server.ws}/', export_url: '{refusing}'}}\n")
    process = agent("transcribe", "--config", config, speech.name)
    assert process.end() == code, process.errors
    assert process.output.splitlines()[0] == "what time is it please"
    told = [line for line in process.error_lines() if "export" in line]
    assert len(told) == 1
    assert code or told == ["export: the service has kept no transcript and no audio"]


def test_the_daemon_stores_exports_in_the_configured_directory(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, speech: Path, tmp_path: Path
) -> None:
    """``export_url`` and ``export_directory`` meant nothing to the daemon."""
    config = write_config(
        f"microphone: {{device: 'file:{speech}'}}\nspeaker: {{device: none}}\ncontrol: {{socket: none}}\n"
        "conversation: {mode: assistant, silence_seconds: 0.3}\nresponder: {kind: none}\nserver: {start: false}\n"
        f"synthesis: {{local: {{url: '{tone_server.ws}'}}}}\n"
        f"transcription: {{url: '{tone_server.ws}/', export_url: '{tone_server.http}',"
        f" export_directory: {tmp_path}/kept}}\n"
    )
    process = agent("run", "--config", config)
    process.stderr.await_text("export: ")
    process.stderr.await_text(".wav")
    process.signal(signal.SIGTERM)
    assert process.end() == 0, process.errors
    assert sorted(path.suffix for path in (tmp_path / "kept").iterdir()) == [".json", ".wav"]


def test_reload_changes_export_url_and_directory(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, speech: Path, tmp_path: Path
) -> None:
    """The journal said that ``export_url`` and ``export_directory`` had changed, and exports went on as before."""
    state = tmp_path / "state"
    state.mkdir()
    # What is heard waits until the configuration has been read again.
    (state / "levels.json").write_text('{"configured": 100, "volume": 100, "microphone_muted": true}')

    def written(exports: str) -> str:
        return write_config(
            f"microphone: {{device: 'file:{speech}'}}\nspeaker: {{device: none}}\n"
            f"control: {{socket: {tmp_path}/socket}}\nconversation: {{silence_seconds: 0.3}}\n"
            f"responder: {{kind: none}}\nserver: {{start: false}}\nsynthesis: {{local: {{url: '{tone_server.ws}'}}}}\n"
            f"transcription: {{url: '{tone_server.ws}/'{exports}}}\n"
        )

    process = agent("run", "--config", written(""), env={"STATE_DIRECTORY": str(state)})
    process.stderr.await_text("ready: ")
    config = written(f", export_url: '{tone_server.http}', export_directory: {tmp_path}/kept")
    process.signal(signal.SIGHUP)
    process.stderr.await_text("reloaded, changed=transcription.export_url, transcription.export_directory")
    assert agent("unmute", "microphone", "--config", config).end() == 0
    process.stderr.await_text("export: ")
    process.stderr.await_text(".wav")
    process.signal(signal.SIGTERM)
    assert process.end() == 0, process.errors
    assert sorted(path.suffix for path in (tmp_path / "kept").iterdir()) == [".json", ".wav"]
