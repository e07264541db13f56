"""``transcribe``: word for word, every sample in order, one ``eof``, whatever ends it."""

from __future__ import annotations

import json
import signal
import struct
import threading
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.local_server import Running
from support.processes import Wired, sound_of
from support.scripted import Peer, Scripted

from agent.audio.devices.file import read_speech
from agent.server.tts import tone
from e2e.conftest import Start, write_wav

WORDS = [
    ("what", 0.0, 0.3),
    ("time", 0.3, 0.6),
    ("is", 0.6, 0.9),
    ("it", 0.9, 1.2),
    ("please", 1.2, 1.5),
]
FINALS = ["what time is it please", "and what day is it today"]
SOUND = tone.pcm("a b c d e f g h i j k l m n o p q r s t u v w x y z", 16000)


def configuration(server: Running, **more: object) -> str:
    lines = "".join(f"  {name}: {value}\n" for name, value in more.items())
    return f"transcription:\n  url: {server.ws}/\n{lines}"


def messages_in(server: Wired, since: int) -> list[dict[str, Any]]:
    """What came in the one session there was: its last message is its one ``eof``."""
    wire = server.settled(since)
    assert sum(line["kind"] == "open" for line in wire) == 1
    messages = [line for line in wire if line["direction"] == "in" and line["kind"] in ("text", "binary")]
    assert [line["summary"] for line in messages if line["kind"] == "text"] == ["eof"]
    assert messages[-1]["kind"] == "text"
    return messages


def proven(server: Wired, since: int, pcm: bytes) -> None:
    """The server got this sound, whole and in order, and then one ``eof``."""
    messages = messages_in(server, since)
    assert sound_of(messages, pcm) == pcm
    # Even lengths and 0.1 to 1 s of sound in a message, but for the last of it.
    lengths = [line["length"] for line in messages[:-1]]
    assert all(length % 2 == 0 and 3200 <= length <= 32000 for length in lengths[:-1]), lengths


def test_a_file_is_transcribed_word_for_word_and_every_sample_is_heard_once(
    agent: Start, configured: Callable[[str], str], tones: Wired, tmp_path: Path
) -> None:
    write_wav(tmp_path / "asked.wav", SOUND)
    since = len(tones.wire())
    process = agent("transcribe", "--config", configured(configuration(tones)), "asked.wav")
    assert process.end() == 0, process.errors
    assert process.output.splitlines() == FINALS
    assert "... what time is it" in process.lines_of_error()
    proven(tones, since, SOUND)


def test_for_programs_every_final_comes_with_the_times_of_its_words(
    agent: Start, configured: Callable[[str], str], tones: Wired, tmp_path: Path
) -> None:
    write_wav(tmp_path / "asked.wav", SOUND)
    process = agent("transcribe", "--json", "--config", configured(configuration(tones)), "asked.wav")
    assert process.end() == 0, process.errors
    first, second = (json.loads(line) for line in process.output.splitlines())
    assert first["text"] == FINALS[0] and second["text"] == FINALS[1]
    assert first["result"] == [{"word": word, "start": start, "end": end, "conf": 1.0} for word, start, end in WORDS]
    assert [word["word"] for word in second["result"]] == FINALS[1].split()
    assert second["result"][0]["start"] == 1.7


@pytest.mark.parametrize(("rate", "channels"), [(48000, 2), (44100, 1), (8000, 1), (16000, 2)])
def test_other_rates_and_channels_are_made_to_fit(
    agent: Start, configured: Callable[[str], str], tones: Wired, tmp_path: Path, rate: int, channels: int
) -> None:
    path = tmp_path / "asked.wav"
    mono = tone.pcm("a b c d e f g h i j k l m n o p q r s t", rate)
    if channels == 2:
        mono = b"".join(mono[at : at + 2] * 2 for at in range(0, len(mono), 2))
    write_wav(path, mono, rate, channels)
    expected = b"".join(read_speech(path))
    assert abs(len(expected) / 32000 - 20 * tone.WORD_SECONDS) < 0.01
    since = len(tones.wire())
    process = agent("transcribe", "--config", configured(configuration(tones)), "asked.wav")
    assert process.end() == 0, process.errors
    assert process.output.splitlines() == FINALS
    proven(tones, since, expected)


def test_raw_sound_on_stdin_is_transcribed(agent: Start, configured: Callable[[str], str], tones: Wired) -> None:
    since = len(tones.wire())
    process = agent("transcribe", "--config", configured(configuration(tones)), "-", stdin=True)
    process.write(SOUND)
    process.close_stdin()
    assert process.end() == 0, process.errors
    assert process.output.splitlines() == FINALS
    proven(tones, since, SOUND)


def test_stdin_in_pieces_of_any_size_is_sent_in_frames_and_no_sample_is_cut_in_two(
    agent: Start, configured: Callable[[str], str], tones: Wired
) -> None:
    """A pipe gives what its writer happened to write: odd sizes must not reach the service."""
    since = len(tones.wire())
    process = agent("transcribe", "--config", configured(configuration(tones)), "-", stdin=True)
    for start in range(0, 96001, 999):
        process.write(SOUND[start : min(start + 999, 96001)])
    process.close_stdin()
    assert process.end() == 0, process.errors
    proven(tones, since, SOUND[:96000])  # the last byte is half a sample


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_with_eof_and_the_last_partial_is_kept(
    agent: Start, configured: Callable[[str], str], tones: Wired, number: int
) -> None:
    since = len(tones.wire())
    process = agent("transcribe", "--config", configured(configuration(tones)), "-", stdin=True)
    half = SOUND[: 32000 + 6400]  # 1.2 s: four words of the first line
    process.write(half)
    process.stderr.await_text("... what time is it")
    process.signal(number)
    assert process.end() == 0, process.errors
    assert process.output.splitlines()[0].startswith("what time is it")
    proven(tones, since, half)


def test_a_file_can_be_broken_off_as_well(
    agent: Start, configured: Callable[[str], str], tones: Wired, tmp_path: Path
) -> None:
    path = tmp_path / "long.wav"
    write_wav(path, b"")
    most = 2**31 - 2  # eighteen hours: nobody has sent them before the signal comes; they take no room on the disk
    with path.open("r+b") as file:
        file.seek(40)
        file.write(struct.pack("<I", most))
        file.truncate(44 + most)
    since = len(tones.wire())
    process = agent("transcribe", "--config", configured(configuration(tones)), "long.wav")
    process.stderr.await_text("... what time is it")
    process.signal(signal.SIGTERM)
    assert process.end() == 0, process.errors
    messages = messages_in(tones, since)
    sent = sum(line["length"] for line in messages if line["kind"] == "binary")
    assert 0 < sent < most and len(sound_of(messages, bytes(sent))) == sent


def test_the_microphone_is_transcribed_until_a_signal_comes(
    agent: Start, configured: Callable[[str], str], tones: Wired, speech: Path
) -> None:
    since = len(tones.wire())
    config = configured(f"microphone: {{device: 'file:{speech}'}}\n" + configuration(tones))
    process = agent("transcribe", "--config", config)
    process.stderr.await_text("... what time is it")
    process.signal(signal.SIGINT)
    assert process.end() == 0, process.errors
    with wave.open(str(speech), "rb") as file:
        pcm = file.readframes(file.getnframes())
    assert sound_of(messages_in(tones, since), pcm + bytes(60 * 32000)) != b""


def test_a_second_signal_leaves_at_once(agent: Start, configured: Callable[[str], str]) -> None:
    began, heard = threading.Event(), threading.Event()

    def mute_after_eof(peer: Peer) -> None:
        peer.accept()
        while (found := peer.read_frame())[0] >= 0:
            began.set()
            if found[1] == b"eof":
                heard.set()

    with Scripted(mute_after_eof) as server:
        process = agent(
            "transcribe",
            "--config",
            configured(f"transcription: {{url: 'ws://127.0.0.1:{server.port}/'}}\nshutdown_seconds: 60\n"),
            "-",
            stdin=True,
        )
        process.write(SOUND)
        assert began.wait(30)  # a dial that is still under way is given up with the first signal
        process.signal(signal.SIGTERM)
        # It waits for the last transcript of a server that never says anything.
        assert heard.wait(30)
        process.signal(signal.SIGTERM)
        assert process.end() == 128 + signal.SIGTERM


def test_the_export_is_fetched_and_written_beside_the_file_where_it_is_asked_for(
    agent: Start, configured: Callable[[str], str], tones: Wired, tmp_path: Path
) -> None:
    write_wav(tmp_path / "asked.wav", SOUND)
    config = configured(configuration(tones, export_url=tones.http))
    process = agent("transcribe", "--config", config, "asked.wav")
    assert process.end() == 0, process.errors
    assert process.output.splitlines() == FINALS
    (sound,) = [path for path in tmp_path.glob("*.wav") if path.name != "asked.wav"]
    with wave.open(str(sound), "rb") as file:
        assert (file.getframerate(), file.readframes(file.getnframes())) == (16000, SOUND)
    (transcript,) = tmp_path.glob("*.json")
    assert transcript.stem == sound.stem
    kept = json.dumps(json.loads(transcript.read_text()))
    assert all(word in kept for word in " ".join(FINALS).split())


def test_a_long_file_arrives_whole(
    agent: Start, configured: Callable[[str], str], tones: Wired, tmp_path: Path
) -> None:
    """Faster than real time, with no frame forgotten on the way."""
    sound = SOUND * 60  # five minutes
    write_wav(tmp_path / "long.wav", sound)
    since = len(tones.wire())
    process = agent("transcribe", "--config", configured(configuration(tones)), "long.wav")
    assert process.end() == 0, process.errors
    proven(tones, since, sound)


def test_where_nobody_recognises_the_last_line_says_how_that_is_mended(
    agent: Start, configured: Callable[[str], str], tmp_path: Path
) -> None:
    """It ended with a close code, and the command to type stood in the midst of the log above."""
    write_wav(tmp_path / "asked.wav", SOUND)
    with Running(tmp_path, "--recognition", "none") as server:
        process = agent("transcribe", "--config", configured(configuration(server)), str(tmp_path / "asked.wav"))
        assert process.end() == 69
    assert "start it with --recognition auto" in process.errors.splitlines()[-1]


def test_a_service_that_goes_in_the_middle_and_stays_away_is_not_waited_for_without_end(
    agent: Start, configured: Callable[[str], str], tmp_path: Path
) -> None:
    """Nobody was there any more, stdin had ended, and the command waited for ever."""
    script = tmp_path / "script.txt"
    script.write_text("what time is it\n")
    arguments = ("--speech", "tone", "--recognition", "script", "--script", str(script))
    with Wired(tmp_path / "server", *arguments) as server:
        config = configured(f"transcription: {{url: '{server.ws}/'}}\nmicrophone: {{outage_seconds: 1}}\n")
        process = agent("transcribe", "--config", config, "-", stdin=True)
        process.write(tone.pcm("one two three four", 16000) + bytes(64000))
        process.stdout.await_text("what time is it")
    process.close_stdin()
    assert process.end() == 69, process.errors
    assert process.lines_of_error()[-1].startswith("voice-agent: transcription: ")
