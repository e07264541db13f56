"""Abnormal ends of ``say``: the output file is complete or unchanged, and one line reports the reason."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.agent_fixtures import Start, service_config
from support.processes import WireLoggedServer
from support.wav import read_wav

TEXT = "Here is a text that takes a while to say, so that there is time to stop it. " * 6


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireLoggedServer]:
    arguments = ("--speech", "tone", "--recognition", "none", "--pace", "1")
    with WireLoggedServer(tmp_path_factory.mktemp("slow") / "server", *arguments) as server:
        yield server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_keeps_the_existing_output_file(
    agent: Start, write_config: Callable[[str], str], slow: WireLoggedServer, tmp_path: Path, number: int
) -> None:
    """A partial file never replaces the old one."""
    (tmp_path / "out.wav").write_bytes(b"old")
    since = len(slow.wire())
    process = agent("say", "--config", write_config(service_config(slow, "local")), "--output", "out.wav", TEXT)
    slow.await_wire(3, since=since, direction="out", event="Audio")
    process.signal(number)
    assert process.end() == 3
    assert (tmp_path / "out.wav").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "out.wav"]
    assert process.error_lines() == ["voice-agent: stopped: out.wav was not written"]


def test_binary_stdin_leaves_no_file(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    """The text before the bad byte is not written either."""
    config = write_config(service_config(tone_server, "local"))
    process = agent("say", "--config", config, "--output", "out.wav", "-", stdin=True)
    process.write(b"One sentence here. Two is bad \xe4 here.")
    process.close_stdin()
    assert process.end() == 2
    (line,) = process.error_lines()
    assert "after 30 characters" in line and "no file was written" in line
    assert not (tmp_path / "out.wav").exists()


def test_failover_is_reported_in_one_line(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    """The failure of the first service is reported although the next one speaks."""
    config = write_config(
        "synthesis:\n  services: [neuphonic, local]\n  neuphonic: {url: 'ws://127.0.0.1:9/speak/en'}\n"
        f"  local: {{url: '{tone_server.ws}'}}\n"
    )
    process = agent("say", "--config", config, "--output", "out.wav", "Hello there.")
    assert process.end() == 0, process.errors
    (line,) = process.error_lines()
    assert line.startswith("voice-agent: neuphonic: ") and line.endswith("; local speaks instead")
    assert read_wav(tmp_path / "out.wav")[0].rate == 22050
