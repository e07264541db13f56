from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.sound_server import SoundServer

from agent.frontends.other_audio.changes import Change
from agent.frontends.other_audio.program import ProgramError
from agent.frontends.other_audio.streams import Streams


def test_streams_of_other_programs_are_ducked_and_restored(server: SoundServer) -> None:
    music, own = server.play("music", 60000), server.play("own")
    streams = Streams(server.env, own.pid)
    [change] = streams.ducks(0.2)
    assert server.volumes() == [("music", 60000), ("own", 65536)]
    streams.apply(change)
    assert server.volumes() == [("music", 12000), ("own", 65536)]
    streams.undo(change)
    assert server.volumes() == [("music", 60000), ("own", 65536)]
    assert streams.ducks(0.2, frozenset({str(music.pid)})) == []


def test_a_volume_that_the_user_changed_is_not_restored(server: SoundServer) -> None:
    server.play("music")
    streams = Streams(server.env)
    [change] = streams.ducks(0.2)
    streams.apply(change)
    server.pactl("set-sink-input-volume", change.name, "40000")
    streams.undo(change)
    assert server.volumes() == [("music", 40000)]


def test_a_stream_that_ended_is_no_failure(server: SoundServer) -> None:
    music = server.play("music")
    streams = Streams(server.env)
    [change] = streams.ducks(0.2)
    streams.apply(change)
    server.end(music)
    server.play("music", 13107)  # another process
    streams.undo(change)
    assert server.volumes() == [("music", 13107)]
    with pytest.raises(ProgramError):
        streams.apply(change)


def test_a_stream_that_is_silent_already_is_not_ducked(server: SoundServer) -> None:
    server.play("music", 0)
    assert Streams(server.env).ducks(0.2) == []


def test_without_a_sound_server_there_is_a_failure(tmp_path: Path) -> None:
    environ = {**os.environ, "PULSE_SERVER": f"unix:{tmp_path / 'none'}", "HOME": str(tmp_path)}
    with pytest.raises(ProgramError, match="pactl"):
        Streams(environ).ducks(0.2)


REPLACED = """#!/bin/sh
# A sound server where the program has a new stream with the volume of the old one.
if [ $2 = list ]; then
    echo '[{"index": 8, "properties": {"application.name": "mpd", "application.process.id": "17"},
            "volume": {"mono": {"value": 13107}}},
           {"index": 9, "properties": {"application.name": "vlc", "application.process.id": "18"},
            "volume": {"mono": {"value": 13107}}}]'
else
    echo "$@" >>$FOLDER/calls
fi
"""


def test_a_new_stream_of_the_same_program_is_restored(tmp_path: Path) -> None:
    program = tmp_path / "pactl"
    program.write_text(REPLACED)
    program.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "FOLDER": str(tmp_path)}
    Streams(environ).undo(Change("stream", "3", "mpd 17", (65536.0,), (13107.0,)))
    assert (tmp_path / "calls").read_text() == "set-sink-input-volume 8 65536\n"
