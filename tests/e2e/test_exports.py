"""Export of the transcript and the audio that the transcription service stores, by ``transcribe`` and the daemon."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from support.agent_fixtures import Start
from support.processes import WireLoggedServer
from support.scripted import Scripted, refuses


@pytest.mark.parametrize(
    ("status", "code"), [("404 Not Found", 0), ("500 Internal Server Error", 69), ("401 Unauthorized", 69)]
)
def test_a_missing_export_is_no_failure(
    agent: Start,
    write_config: Callable[[str], str],
    tone_server: WireLoggedServer,
    speech: Path,
    status: str,
    code: int,
) -> None:
    """Only 404 means that there is nothing to export."""
    with Scripted(refuses(status)) as server:
        exports = f"http://127.0.0.1:{server.port}"
        config = write_config(f"transcription: {{url: '{tone_server.ws}/', export_url: '{exports}'}}\n")
        process = agent("transcribe", "--config", config, speech.name)
        assert process.end() == code, process.errors
    assert process.output.splitlines()[0] == "what time is it please"
    lines = [line for line in process.error_lines() if "export" in line]
    assert len(lines) == 1
    assert code or lines == ["export: the service has kept no transcript and no audio"]


def test_the_daemon_stores_exports_in_the_configured_directory(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, speech: Path, tmp_path: Path
) -> None:
    config = write_config(
        f"microphone: {{device: 'file:{speech}'}}\nspeaker: {{device: none}}\ncontrol: {{socket: none}}\n"
        "conversation: {mode: assistant, silence_seconds: 0.3, vad: energy}\n"
        "responder: {kind: none}\nserver: {start: false}\n"
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
    state = tmp_path / "state"
    state.mkdir()
    # The microphone is muted until the configuration has been reloaded.
    (state / "levels.json").write_text('{"configured": 100, "volume": 100, "microphone_muted": true}')

    def written(exports: str) -> str:
        return write_config(
            f"microphone: {{device: 'file:{speech}'}}\nspeaker: {{device: none}}\n"
            f"control: {{socket: {tmp_path}/socket}}\nconversation: {{silence_seconds: 0.3, vad: energy}}\n"
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
