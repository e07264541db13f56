from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.sound_server import SoundServer

from agent.frontends.other_audio.changes import Change
from agent.frontends.other_audio.program import ProgramError, StreamEndedError
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


def test_a_stream_that_ended_is_restored_when_its_program_plays_again(server: SoundServer) -> None:
    music, _ = server.play("music"), server.play("game", 0)
    streams = Streams(server.env)
    [change] = streams.ducks(0.2)
    streams.apply(change)
    server.end(music)
    with pytest.raises(StreamEndedError):
        streams.undo(change)
    with pytest.raises(ProgramError):
        streams.apply(change)
    server.play("music", 13107)  # another process, with the volume that the server remembers
    streams.undo(change)
    assert server.volumes() == [("game", 0), ("music", 65536)]


def test_a_stream_that_is_silent_already_is_not_ducked(server: SoundServer) -> None:
    server.play("music", 0)
    assert Streams(server.env).ducks(0.2) == []


def test_without_a_sound_server_there_is_a_failure(tmp_path: Path) -> None:
    environ = {**os.environ, "PULSE_SERVER": f"unix:{tmp_path / 'none'}", "HOME": str(tmp_path)}
    with pytest.raises(ProgramError, match="pactl"):
        Streams(environ).ducks(0.2)


PACTL = """#!/bin/sh
# A sound server with a fixed list of streams. It notes the changes.
case "$2 $3" in
    "list sink-inputs" | "list clients") cat $FOLDER/$3 ;;
    *) echo "$@" >>$FOLDER/calls ;;
esac
"""


def fixed_server(folder: Path, streams: object, clients: object = ()) -> dict[str, str]:
    """Return the environment of a sound server with these streams and clients."""
    (folder / "pactl").write_text(PACTL)
    (folder / "pactl").chmod(0o755)
    (folder / "sink-inputs").write_text(json.dumps(streams))
    (folder / "clients").write_text(json.dumps(clients))
    return {"PATH": f"{folder}:{os.environ['PATH']}", "FOLDER": str(folder)}


def test_a_new_stream_of_the_same_program_is_restored(tmp_path: Path) -> None:
    rows = [
        {
            "index": index,
            "client": "1",
            "properties": {"application.name": name, "application.process.id": process},
            "volume": {"mono": {"value": 13107}},
        }
        for index, name, process in ((8, "mpd", "17"), (9, "vlc", "18"))
    ]
    environ = fixed_server(tmp_path, rows)
    Streams(environ).undo(Change("stream", "3", "mpd 17", (65536.0,), (13107.0,)))
    assert (tmp_path / "calls").read_text() == "set-sink-input-volume 8 65536\n"


def test_a_stream_of_pipewire_has_the_process_of_its_client(tmp_path: Path) -> None:
    # As PipeWire 0.3.65 lists the stream of its ALSA plugin.
    rows = [
        {"index": number, "client": str(number + 1), "properties": {"application.name": "PipeWire ALSA [python3.11]"},
         "volume": {"mono": {"value": 65536}}}
        for number in (64, 70)
    ]  # fmt: skip
    clients = [
        {"index": number + 1, "properties": {"application.process.id": process}}
        for number, process in ((64, "2613"), (70, "2700"))
    ]
    streams = Streams(fixed_server(tmp_path, rows, clients), own_process=2613)
    assert [change.name for change in streams.ducks(0.2)] == ["70"]


@pytest.mark.parametrize("rows", [7, [3], [{"index": 1, "volume": {"mono": {}}}], [{"volume": {}}]])
def test_a_list_of_another_form_is_a_failure(tmp_path: Path, rows: object) -> None:
    with pytest.raises(ProgramError, match="not understood"):
        Streams(fixed_server(tmp_path, rows)).ducks(0.2)
