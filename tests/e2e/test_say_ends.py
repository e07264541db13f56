"""How ``say`` ends when something goes otherwise than planned: the file whole or as it was, and a line that says so."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.processes import Wired

from e2e.conftest import Start
from e2e.test_say import configuration, heard

TEXT = "Here is a text that takes a while to say, so that there is time to stop it. " * 6


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    arguments = ("--speech", "tone", "--recognition", "none", "--pace", "1")
    with Wired(tmp_path_factory.mktemp("slow") / "server", *arguments) as server:
        yield server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_leaves_the_old_file_as_it_was(
    agent: Start, configured: Callable[[str], str], slow: Wired, tmp_path: Path, number: int
) -> None:
    """Half a file replaced the old one, with exit code 0."""
    (tmp_path / "out.wav").write_bytes(b"old")
    since = len(slow.wire())
    process = agent("say", "--config", configured(configuration(slow, "local")), "--output", "out.wav", TEXT)
    slow.await_wire(3, since=since, direction="out", event="Audio")
    process.signal(number)
    assert process.end() == 0
    assert (tmp_path / "out.wav").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "out.wav"]
    assert process.lines_of_error() == ["voice-agent: stopped: out.wav was not written"]


def test_stdin_that_is_no_text_leaves_no_file_and_claims_nothing(
    agent: Start, configured: Callable[[str], str], tones: Wired, tmp_path: Path
) -> None:
    """It said that what came before the bad byte was said, and there was no file."""
    config = configured(configuration(tones, "local"))
    process = agent("say", "--config", config, "--output", "out.wav", "-", stdin=True)
    process.write(b"One sentence here. Two is bad \xe4 here.")
    process.close_stdin()
    assert process.end() == 2
    (line,) = process.lines_of_error()
    assert "after 30 characters" in line and "no file was written" in line
    assert not (tmp_path / "out.wav").exists()


def test_one_line_says_that_another_service_speaks_and_why(
    agent: Start, configured: Callable[[str], str], tones: Wired, tmp_path: Path
) -> None:
    """When the first service failed and the next one spoke, nobody was told."""
    config = configured(
        "synthesis:\n  services: [neuphonic, local]\n  neuphonic: {url: 'ws://127.0.0.1:9/speak/en'}\n"
        f"  local: {{url: '{tones.ws}'}}\n"
    )
    process = agent("say", "--config", config, "--output", "out.wav", "Hello there.")
    assert process.end() == 0, process.errors
    (line,) = process.lines_of_error()
    assert line.startswith("voice-agent: neuphonic: ") and line.endswith("; local speaks instead")
    assert heard(tmp_path / "out.wav")[0] == 22050
