"""Metrics and hooks of a whole daemon."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

from support.agent_fixtures import Start, service_config
from support.machine import free_port
from support.processes import WireLoggedServer
from support.promtool import promtool

Configured = Callable[[str], str]
NEVER = threading.Event()
TRIES = 400


def metrics_after(port: int, line: str) -> str:
    """The metrics as soon as they contain the line."""
    for _ in range(TRIES):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as response:
            text: str = response.read().decode()
        if line in text.splitlines():
            return text
        NEVER.wait(0.05)
    raise AssertionError(text)


def test_a_spoken_text_is_counted_and_starts_the_hooks(
    agent: Start, write_config: Configured, tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    port, spoken, states = free_port(), tmp_path / "spoken", tmp_path / "states"
    socket = f"{tmp_path}/control.sock"
    config = write_config(
        "conversation: {mode: announce}\nspeaker: {device: 'null'}\nserver: {start: false}\n"
        f"control: {{socket: {socket}}}\nweb: {{listen: '127.0.0.1:{port}'}}\n"
        f"hooks:\n  spoken: [sh, -c, 'cat >>{spoken}']\n  state: [sh, -c, 'echo $VOICE_AGENT_EVENT_STATE >>{states}']\n"
        "  device: [/nonexistent/program]\n" + service_config(tone_server, "local")
    )
    daemon = agent("run", "--config", config, env={"STATE_DIRECTORY": str(tmp_path / "state")})
    daemon.stderr.await_text("daemon ready")
    assert agent("say", "--config", config, "one two").end() == 0
    text = metrics_after(port, 'voice_agent_utterances_total{state="played",priority="message"} 1')
    assert promtool("check", "metrics", text=text).returncode == 0
    daemon.signal(15)
    assert daemon.end() == 0  # the hooks of earlier events have ended
    (event,) = [json.loads(line) for line in spoken.read_text().splitlines()]
    assert (event["hook"], event["state"], event["source"]) == ("spoken", "played", "control")
    assert states.read_text().split() == ["idle", "speaking", "idle"]
    assert any("/nonexistent/program does not exist" in line for line in daemon.error_lines())
