"""``voice-agent timers`` and the hook ``timer`` with a running daemon."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.agent_fixtures import Start
from support.processes import WireLoggedServer

from agent.cli.main import main


def test_timers_are_set_listed_and_cancelled_and_start_a_hook(
    agent: Start,
    write_config: Callable[[str], str],
    tone_server: WireLoggedServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    config = write_config(
        "responder: {intents: en}\nmicrophone: {device: none}\nspeaker: {device: none}\n"
        f"transcription: {{url: '{tone_server.ws}/'}}\nsynthesis: {{local: {{url: '{tone_server.ws}'}}}}\n"
        f"server: {{start: false}}\ncontrol: {{socket: {tmp_path}/control.sock}}\n"
        f"hooks: {{timer: [sh, -c, 'cat >{fifo}']}}\n"
    )
    daemon = agent("run", "--config", config)
    daemon.stderr.await_text("daemon ready")

    def timers(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["timers", *words, "--config", config])
        output = capsys.readouterr()
        return code, output.out, output.err

    with open(os.open(fifo, os.O_RDWR | os.O_CLOEXEC), encoding="utf-8") as hook:

        def event() -> dict[str, Any]:
            return dict(json.loads(hook.readline()))

        assert timers() == (0, "", "voice-agent: no timer is set\n")
        assert timers("set", "1h30m", "--name", "tea") == (0, "1\n", "")
        assert (started := event())["state"] == "started" and started["seconds"] == 5400.0 and "name" not in started
        header, row = timers("list")[1].splitlines()
        assert header.split() == ["number", "kind", "state", "left", "ends", "at", "name"]
        assert row.split()[:3] == ["1", "timer", "running"] and row.endswith(" tea")
        (tea,) = json.loads(timers("--json")[1])["timers"]
        assert tea["name"] == "tea" and 5000 < tea["remaining_seconds"] <= 5400
        assert timers("cancel", "TEA") == (0, "", "")
        assert event()["state"] == "cancelled"
        assert timers("cancel", "tea")[::2] == (69, "voice-agent: control: no timer has the number or the name tea\n")
        assert json.loads(timers("set", "1", "--json")[1])["durable"] is True
        assert [event()["state"] for _ in range(2)] == ["started", "ringing"]
        assert timers("cancel", "2") == (0, "", "")
        assert event()["state"] == "ended"
    daemon.signal(15)
    assert daemon.end() == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["set", "soon"], "'soon' is no length: write 90s, 5m or 1h30m"),
        (["set", "-5"], None),
        (["set"], "timers set needs a length such as 5m"),
        (["cancel"], "timers cancel needs a name or number"),
        (["cancel", "1", "--name", "x"], "timers cancel takes no --name"),
        (["list", "x"], "timers list takes no further word"),
    ],
)
def test_usage_error_names_what_is_expected(
    words: list[str], message: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: object = main(["timers", *words])
    except SystemExit as end:  # argparse
        code = end.code
    assert code == 2
    if message is not None:
        assert capsys.readouterr().err == f"voice-agent: {message}\n"
