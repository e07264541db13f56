"""Other players are quiet while the daemon speaks, and loud again after it was killed and started again."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.agent_fixtures import Start
from support.processes import WireLoggedServer
from support.sound_server import SoundServer

FULL, QUIET = 65536, 16384


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SoundServer]:
    each = SoundServer(tmp_path / "pulse")
    yield each
    each.close()


def test_music_is_ducked_and_restored_after_a_kill(
    agent: Start,
    write_config: Callable[[str], str],
    tone_server: WireLoggedServer,
    server: SoundServer,
    tmp_path: Path,
) -> None:
    config = write_config(
        "conversation: {mode: announce}\nspeaker: {device: speaker}\n"
        f"synthesis: {{local: {{url: '{tone_server.ws}'}}}}\ncontrol: {{socket: {tmp_path}/control.sock}}\n"
        "other_audio: {action: duck, volume: 25}\n"
    )
    env = {**server.env, "STATE_DIRECTORY": str(tmp_path / "state")}
    server.play("music")
    daemon = agent("run", "--config", config, env=env)
    daemon.stderr.await_text("daemon ready")
    say = agent("say", "--config", config, " ".join(f"word{number}" for number in range(100)), env=env)
    server.await_volumes(QUIET, FULL)  # the music, and the voice
    assert (tmp_path / "state" / "other-audio.json").exists()
    daemon.kill()
    say.end()
    for file in (tmp_path / "state").glob("queue.db*"):  # with a slow disk the text would be spoken again
        file.unlink()
    server.await_volumes(QUIET)
    daemon = agent("run", "--config", config, env=env)
    server.await_volumes(FULL)
    daemon.signal(signal.SIGTERM)
    assert daemon.end() == 0
    assert not (tmp_path / "state" / "other-audio.json").exists()
