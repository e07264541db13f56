from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.gathered import Gathered
from support.session import Session
from support.sound_server import SoundServer
from support.timing import poll_until

from agent.frontends.other_audio.changes import ChangeFile
from agent.frontends.other_audio.other_audio import OtherAudio
from agent.frontends.other_audio.settings import OtherAudioSettings
from agent.pipeline.status import Status
from agent.system.threads import Deadline

SECONDS, HOUR = 60.0, 3600.0
IDLE, LISTENING, THINKING, SPEAKING = (Status("", state) for state in ("idle", "listening", "thinking", "speaking"))
DUCK, PAUSE = OtherAudioSettings("duck", 25), OtherAudioSettings("pause", 25)
FULL, QUIET = 65536, 16384


class Audio:
    """A running frontend, and the file of its changes."""

    def __init__(
        self,
        settings: OtherAudioSettings,
        environ: Mapping[str, str],
        folder: Path,
        restore_seconds: float,
        retry_seconds: Sequence[float] = (),
    ) -> None:
        self.path = folder / "changes.json"
        self.frontend = OtherAudio(
            settings, environ, self.path, Gathered(), restore_seconds=restore_seconds, retry_seconds=retry_seconds
        )
        self.frontend.open()
        self.frontend.start()

    def become(self, *states: Status) -> None:
        for state in states:
            self.frontend.notify(state)

    def stop(self) -> None:
        self.frontend.stop()
        assert self.frontend.join(Deadline(SECONDS))


@contextmanager
def running(
    settings: OtherAudioSettings,
    environ: Mapping[str, str],
    folder: Path,
    restore_seconds: float = 0.0,
    retry_seconds: Sequence[float] = (),
) -> Iterator[Audio]:
    audio = Audio(settings, environ, folder, restore_seconds, retry_seconds)
    try:
        yield audio
    finally:
        audio.stop()


def test_streams_are_ducked_while_the_device_listens_and_speaks(server: SoundServer, tmp_path: Path) -> None:
    server.play("music")
    with running(DUCK, server.env, tmp_path) as audio:
        for states in (LISTENING, THINKING, SPEAKING), (SPEAKING,):
            audio.become(*states)
            server.await_volumes(QUIET)
            assert audio.path.exists()
            audio.become(IDLE)
            server.await_volumes(FULL)


def test_a_stream_that_starts_meanwhile_is_ducked_with_the_next_state(server: SoundServer, tmp_path: Path) -> None:
    server.play("music")
    with running(DUCK, server.env, tmp_path) as audio:
        audio.become(LISTENING)
        server.await_volumes(QUIET)
        server.play("more")
        audio.become(SPEAKING)
        server.await_volumes(QUIET, QUIET)
    server.await_volumes(FULL, FULL)


@pytest.mark.parametrize("retry_seconds", [(), (0.1,) * 1000], ids=["with the next activity", "later"])
def test_a_program_that_plays_again_is_restored(
    retry_seconds: Sequence[float], server: SoundServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    music, _ = server.play("music"), server.play("game")
    with running(DUCK, server.env, tmp_path, 0.0, retry_seconds) as audio:
        audio.become(LISTENING)
        server.await_volumes(QUIET, QUIET)
        server.end(music)
        audio.become(IDLE)
        server.await_volumes(FULL)
        poll_until(lambda: "restored" in caplog.text)
        server.play("music", QUIET)  # the volume that the server remembers
        if not retry_seconds:
            audio.become(LISTENING)
            server.await_volumes(QUIET, QUIET)
            audio.become(IDLE)
        server.await_volumes(FULL, FULL)
    assert not audio.path.exists()


def test_players_stay_quiet_between_two_turns(session: Session, tmp_path: Path) -> None:
    music = session.play("music")
    with running(PAUSE, {**os.environ, **session.env, **no_server(tmp_path)}, tmp_path, HOUR) as audio:
        audio.become(SPEAKING)
        assert music.line() == "Paused"
        audio.become(IDLE, LISTENING, IDLE)
    assert music.line() == "Playing"  # at the end of the daemon, and not earlier


def test_players_are_paused_and_other_streams_are_ducked(session: Session, server: SoundServer, tmp_path: Path) -> None:
    music = session.play("music")
    server.play("game")
    with running(PAUSE, {**server.env, **session.env}, tmp_path) as audio:
        audio.become(LISTENING)
        assert music.line() == "Paused"
        server.await_volumes(QUIET)
        audio.become(IDLE)
        server.await_volumes(FULL)
        assert music.line() == "Playing"
    assert not audio.path.exists()


def test_without_a_sound_server_the_players_are_ducked(session: Session, tmp_path: Path) -> None:
    music = session.play("music", volume=0.8)
    with running(DUCK, {**os.environ, **session.env, **no_server(tmp_path)}, tmp_path) as audio:
        audio.become(LISTENING)
        assert music.line() == "volume 0.2"
        audio.become(IDLE)
        assert music.line() == "volume 0.8"


def test_after_a_crash_the_next_start_restores(session: Session, server: SoundServer, tmp_path: Path) -> None:
    music = session.play("music")
    server.play("game")
    environ = {**server.env, **session.env}
    crashed = Audio(PAUSE, environ, tmp_path, 0.0)
    crashed.become(LISTENING)
    assert music.line() == "Paused"
    server.await_volumes(QUIET)
    left = crashed.path.read_bytes()
    crashed.frontend.abort()  # nothing is restored
    assert crashed.frontend.join(Deadline(SECONDS))
    assert crashed.path.read_bytes() == left
    with running(DUCK, environ, tmp_path):
        assert music.line() == "Playing"
        server.await_volumes(FULL)
    assert not crashed.path.exists()


def test_the_file_is_written_before_the_first_change(server: SoundServer, tmp_path: Path) -> None:
    server.play("music")
    blocked = tmp_path / "no directory"
    blocked.write_text("")
    with running(DUCK, server.env, blocked) as audio:
        audio.become(LISTENING, SPEAKING)
    assert [volume for _, volume in server.volumes()] == [FULL]


def test_a_sound_server_that_is_gone_is_restored_later(
    server: SoundServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.play("music")
    with running(DUCK, server.env, tmp_path) as audio:
        audio.become(LISTENING)
        server.await_volumes(QUIET)
        server.kill()
    assert len(ChangeFile(audio.path).read()) == 1
    assert caplog.text.count("cannot restore") == 1


def test_without_any_service_there_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    environ = {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(tmp_path), **no_server(tmp_path)}
    with running(DUCK, environ, tmp_path) as audio:
        audio.become(LISTENING)
        poll_until(lambda: "not usable" in caplog.text)
        audio.become(SPEAKING)
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "pactl" in warning
    assert "busctl" in warning


def no_server(folder: Path) -> dict[str, str]:
    """Return an environment without a sound server."""
    return {"PULSE_SERVER": f"unix:{folder / 'no-server'}", "HOME": str(folder)}
