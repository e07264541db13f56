from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.session import Session

from agent.frontends.other_audio.players import Players
from agent.frontends.other_audio.program import ProgramError


def players_of(session: Session) -> Players:
    return Players({**os.environ, **session.env})


def test_only_players_that_play_are_paused_and_play_again(session: Session) -> None:
    music = session.play("music")
    session.play("quiet", "Paused")
    session.play("playerctld")
    players = players_of(session)
    [change] = players.pauses()
    assert players.processes([change]) == {str(music.process)}
    players.apply(change)
    assert music.line() == "Paused"
    players.undo(change)
    assert music.line() == "Playing"


def test_a_player_that_the_user_stopped_does_not_play_again(session: Session) -> None:
    music = session.play("music")
    players = players_of(session)
    [change] = players.pauses()
    players.apply(change)
    assert music.line() == "Paused"
    music.do("stop")
    players.undo(change)
    music.do("volume 1")  # the next line of the player is that of this command


def test_the_volume_of_a_player_is_ducked_and_restored(session: Session) -> None:
    music = session.play("music", volume=0.8)
    session.play("without")
    players = players_of(session)
    [change] = players.ducks(0.25)
    players.apply(change)
    assert music.line() == "volume 0.2"
    players.undo(change)
    assert music.line() == "volume 0.8"


def test_a_volume_that_the_user_changed_is_not_restored(session: Session) -> None:
    music = session.play("music", volume=0.8)
    players = players_of(session)
    [change] = players.ducks(0.25)
    players.apply(change)
    assert music.line() == "volume 0.2"
    music.do("volume 0.5")
    players.undo(change)
    music.do("volume 0.6")


def test_a_player_that_was_restarted_is_left_alone(session: Session) -> None:
    music = session.play("music")
    players = players_of(session)
    [change] = players.pauses()
    players.apply(change)
    music.close()
    again = session.play("music", "Paused")
    players.undo(change)
    again.do("volume 1")


def test_a_player_that_hangs_hides_no_other(session: Session) -> None:
    session.play("a").freeze()
    session.play("b")
    assert [change.name for change in players_of(session).pauses()] == ["org.mpris.MediaPlayer2.b"]


def test_without_a_session_there_is_a_failure(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(tmp_path)}
    with pytest.raises(ProgramError, match="busctl"):
        Players(environ).pauses()
