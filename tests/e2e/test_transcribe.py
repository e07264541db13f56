"""``transcribe``: every word, every sample in order, and one ``eof`` at every kind of end."""

from __future__ import annotations

import json
import os
import signal
import struct
import threading
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import recognizers
from support.agent_fixtures import Start, scripted_server, write_wav
from support.local_server import LocalServerProcess
from support.processes import WireLoggedServer, audio_on_wire
from support.proxy import Proxy, Toxics
from support.recognizers import MelvinServer
from support.scripted import Peer, Scripted

from agent.audio.devices.file import read_speech
from agent.server.tts import tone
from agent.services.protocols.transcription import LATE_ANSWERS

WORDS = [
    ("what", 0.0, 0.3),
    ("time", 0.3, 0.6),
    ("is", 0.6, 0.9),
    ("it", 0.9, 1.2),
    ("please", 1.2, 1.5),
]
FINALS = ["what time is it please", "and what day is it today"]
SOUND = tone.pcm("a b c d e f g h i j k l m n o p q r s t u v w x y z", 16000)


def configuration(server: LocalServerProcess, **more: object) -> str:
    lines = "".join(f"  {name}: {value}\n" for name, value in more.items())
    return f"transcription:\n  url: {server.ws}/\n{lines}"


def messages_in(server: WireLoggedServer, since: int) -> list[dict[str, Any]]:
    """Return what the only session received; assert that its last message is its one ``eof``."""
    wire = server.settled(since)
    assert sum(line["kind"] == "open" for line in wire) == 1
    messages = [line for line in wire if line["direction"] == "in" and line["kind"] in ("text", "binary")]
    assert [line["summary"] for line in messages if line["kind"] == "text"] == ["eof"]
    assert messages[-1]["kind"] == "text"
    return messages


def assert_received(server: WireLoggedServer, since: int, pcm: bytes) -> None:
    """Assert that the server received this audio, complete and in order, and then one ``eof``."""
    messages = messages_in(server, since)
    assert audio_on_wire(messages, pcm) == pcm
    # Even lengths and 0.1 to 1 s of sound in a message, but for the last of it.
    lengths = [line["length"] for line in messages[:-1]]
    assert all(length % 2 == 0 and 3200 <= length <= 32000 for length in lengths[:-1]), lengths


def test_transcribe_sends_every_sample_of_a_file_once(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    write_wav(tmp_path / "asked.wav", SOUND)
    since = len(tone_server.wire())
    process = agent("transcribe", "--config", write_config(configuration(tone_server)), "asked.wav")
    assert process.end() == 0, process.errors
    assert process.output.splitlines() == FINALS
    assert "... what time is it" in process.error_lines()
    assert_received(tone_server, since, SOUND)


def test_transcribe_json_prints_word_times(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    write_wav(tmp_path / "asked.wav", SOUND)
    process = agent("transcribe", "--json", "--config", write_config(configuration(tone_server)), "asked.wav")
    assert process.end() == 0, process.errors
    first, second = (json.loads(line) for line in process.output.splitlines())
    assert first["text"] == FINALS[0] and second["text"] == FINALS[1]
    assert first["result"] == [{"word": word, "start": start, "end": end, "conf": 1.0} for word, start, end in WORDS]
    assert [word["word"] for word in second["result"]] == FINALS[1].split()
    assert second["result"][0]["start"] == 1.7


@pytest.mark.parametrize(("rate", "channels"), [(48000, 2), (44100, 1), (8000, 1), (16000, 2)])
def test_other_rates_and_channels_are_converted(
    agent: Start,
    write_config: Callable[[str], str],
    tone_server: WireLoggedServer,
    tmp_path: Path,
    rate: int,
    channels: int,
) -> None:
    path = tmp_path / "asked.wav"
    mono = tone.pcm("a b c d e f g h i j k l m n o p q r s t", rate)
    if channels == 2:
        mono = b"".join(mono[at : at + 2] * 2 for at in range(0, len(mono), 2))
    write_wav(path, mono, rate, channels)
    expected = b"".join(read_speech(path))
    assert abs(len(expected) / 32000 - 20 * tone.WORD_SECONDS) < 0.01
    since = len(tone_server.wire())
    process = agent("transcribe", "--config", write_config(configuration(tone_server)), "asked.wav")
    assert process.end() == 0, process.errors
    assert process.output.splitlines() == FINALS
    assert_received(tone_server, since, expected)


def test_raw_audio_on_stdin_is_transcribed(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer
) -> None:
    since = len(tone_server.wire())
    process = agent("transcribe", "--config", write_config(configuration(tone_server)), "-", stdin=True)
    process.write(SOUND)
    process.close_stdin()
    assert process.end() == 0, process.errors
    assert process.output.splitlines() == FINALS
    assert_received(tone_server, since, SOUND)


def test_stdin_in_odd_sizes_is_sent_in_whole_frames(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer
) -> None:
    """A pipe delivers chunks of any size; an odd size must not reach the service."""
    since = len(tone_server.wire())
    process = agent("transcribe", "--config", write_config(configuration(tone_server)), "-", stdin=True)
    for start in range(0, 96001, 999):
        process.write(SOUND[start : min(start + 999, 96001)])
    process.close_stdin()
    assert process.end() == 0, process.errors
    assert_received(tone_server, since, SOUND[:96000])  # the last byte is half a sample


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sends_eof_and_prints_the_last_partial(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, number: int
) -> None:
    since = len(tone_server.wire())
    process = agent("transcribe", "--config", write_config(configuration(tone_server)), "-", stdin=True)
    half = SOUND[: 32000 + 6400]  # 1.2 s: four words of the first line
    process.write(half)
    process.stderr.await_text("... what time is it")
    process.signal(number)
    assert process.end() == 0, process.errors
    assert process.output.splitlines()[0].startswith("what time is it")
    assert_received(tone_server, since, half)


def test_a_signal_ends_the_transcription_of_a_file(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    path = tmp_path / "long.wav"
    write_wav(path, b"")
    most = 2**31 - 2  # 18 hours, which are not sent before the signal; a sparse file
    with path.open("r+b") as file:
        file.seek(40)
        file.write(struct.pack("<I", most))
        file.truncate(44 + most)
    since = len(tone_server.wire())
    process = agent("transcribe", "--config", write_config(configuration(tone_server)), "long.wav")
    process.stderr.await_text("... what time is it")
    process.signal(signal.SIGTERM)
    assert process.end() == 0, process.errors
    messages = messages_in(tone_server, since)
    sent = sum(line["length"] for line in messages if line["kind"] == "binary")
    assert 0 < sent < most and len(audio_on_wire(messages, bytes(sent))) == sent


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_transcription_of_a_pipe_that_is_silent(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, tmp_path: Path, number: int
) -> None:
    """What arrived is transcribed while the pipe stays open, and the signal does not wait for more."""
    write_wav(tmp_path / "half.wav", half := SOUND[: 32000 + 6400])
    os.mkfifo(tmp_path / "pipe.wav")
    writer = os.open(tmp_path / "pipe.wav", os.O_RDWR | os.O_CLOEXEC)
    os.write(writer, (tmp_path / "half.wav").read_bytes())
    since = len(tone_server.wire())
    process = agent("transcribe", "--config", write_config(configuration(tone_server)), "pipe.wav")
    process.stderr.await_text("... what time is it")
    process.signal(number)
    assert process.end() == 0, process.errors
    os.close(writer)
    assert process.output.splitlines()[0].startswith("what time is it")
    assert_received(tone_server, since, half)


def test_the_microphone_is_transcribed_until_a_signal(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, speech: Path
) -> None:
    since = len(tone_server.wire())
    config = write_config(f"microphone: {{device: 'file:{speech}'}}\n" + configuration(tone_server))
    process = agent("transcribe", "--config", config)
    process.stderr.await_text("... what time is it")
    process.signal(signal.SIGINT)
    assert process.end() == 0, process.errors
    with wave.open(str(speech), "rb") as file:
        pcm = file.readframes(file.getnframes())
    assert audio_on_wire(messages_in(tone_server, since), pcm + bytes(60 * 32000)) != b""


def test_a_second_signal_leaves_at_once(agent: Start, write_config: Callable[[str], str]) -> None:
    began, heard = threading.Event(), threading.Event()

    def mute_after_eof(peer: Peer) -> None:
        peer.accept(": ".join(LATE_ANSWERS))  # such a service gets "eof" at once
        while (received := peer.read_frame())[0] >= 0:
            began.set()
            if received[1] == b"eof":
                heard.set()

    with Scripted(mute_after_eof) as server:
        process = agent(
            "transcribe",
            "--config",
            write_config(f"transcription: {{url: 'ws://127.0.0.1:{server.port}/'}}\nshutdown_seconds: 60\n"),
            "-",
            stdin=True,
        )
        process.write(SOUND)
        assert began.wait(30)  # the first signal abandons a dial that is in progress
        process.signal(signal.SIGTERM)
        # It waits for the last transcript of a server that never says anything.
        assert heard.wait(30)
        process.signal(signal.SIGTERM)
        assert process.end() == 128 + signal.SIGTERM


def test_export_writes_files_beside_the_recording(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    write_wav(tmp_path / "asked.wav", SOUND)
    config = write_config(configuration(tone_server, export_url=tone_server.http))
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


def test_a_long_file_is_sent_completely(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    """Faster than real time, and no frame is dropped."""
    sound = SOUND * 60  # five minutes
    write_wav(tmp_path / "long.wav", sound)
    since = len(tone_server.wire())
    process = agent("transcribe", "--config", write_config(configuration(tone_server)), "long.wav")
    assert process.end() == 0, process.errors
    assert_received(tone_server, since, sound)


def test_a_missing_recognizer_is_reported_with_the_install_command(
    agent: Start, write_config: Callable[[str], str], tmp_path: Path
) -> None:
    """The last line of stderr is the command, not a close code."""
    write_wav(tmp_path / "asked.wav", SOUND)
    with LocalServerProcess(tmp_path, "--recognition", "none") as server:
        process = agent("transcribe", "--config", write_config(configuration(server)), str(tmp_path / "asked.wav"))
        assert process.end() == 69
    assert "start it with --recognition auto" in process.errors.splitlines()[-1]


def test_transcribe_gives_up_after_an_outage(agent: Start, write_config: Callable[[str], str], tmp_path: Path) -> None:
    """The service is gone and stdin has ended: the command ends too."""
    script = tmp_path / "script.txt"
    script.write_text("what time is it\n")
    arguments = ("--speech", "tone", "--recognition", "script", "--script", str(script))
    with WireLoggedServer(tmp_path / "server", *arguments) as server:
        config = write_config(f"transcription: {{url: '{server.ws}/'}}\nmicrophone: {{outage_seconds: 1}}\n")
        process = agent("transcribe", "--config", config, "-", stdin=True)
        process.write(tone.pcm("one two three four", 16000) + bytes(64000))
        process.stdout.await_text("what time is it")
    process.close_stdin()
    assert process.end() == 69, process.errors
    assert process.error_lines()[-1].startswith("voice-agent: transcription: ")


@pytest.mark.parametrize(("sound", "says"), [(bytes(2 * 32000), "2.0 s of audio"), (bytes(3200), "0.1 s of audio")])
def test_a_file_without_speech_is_reported_as_such(
    agent: Start,
    write_config: Callable[[str], str],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    sound: bytes,
    says: str,
) -> None:
    with scripted_server(tmp_path_factory.mktemp("nothing"), "\n") as server:
        write_wav(tmp_path / "silent.wav", sound)
        process = agent("transcribe", "--config", write_config(configuration(server)), "silent.wav")
        assert process.end() == 0, process.errors
    assert process.output == "" and "no speech" in process.error_lines()[-1] and says in process.error_lines()[-1]


def test_a_file_that_is_no_sound_cannot_be_read(
    agent: Start, write_config: Callable[[str], str], tmp_path: Path
) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    process = agent("transcribe", "--config", write_config(""), "text.wav")
    assert process.end() == 2
    assert "cannot be read" in process.errors and "played" not in process.errors


# --- slow and breaking services


@pytest.fixture
def quiet_after_two(request: pytest.FixtureRequest) -> Iterator[Scripted]:
    """melvin-asr that needs too long for its third transcript."""

    def script(peer: Peer) -> None:
        peer.accept()
        server = MelvinServer(peer, 0.0)
        count = 0

        def compute() -> None:
            nonlocal count
            count += 1
            if count == 3:
                peer.over.wait(60)

        server.compute = compute  # type: ignore[method-assign]
        server.run()

    with Scripted(script) as server:
        yield server


@pytest.mark.parametrize("as_json", [False, True])
def test_audio_without_an_answer_is_printed_as_a_gap_and_ends_with_69(
    agent: Start, write_config: Callable[[str], str], tmp_path: Path, quiet_after_two: Scripted, as_json: bool
) -> None:
    write_wav(tmp_path / "asked.wav", recognizers.speech(3.5))
    url = f"ws://127.0.0.1:{quiet_after_two.port}/"
    config = write_config(f"transcription: {{url: '{url}', answer_seconds: 1}}\n")
    process = agent("transcribe", *(["--json"] if as_json else []), "--config", config, "asked.wav")
    assert process.end() == 69
    text_line, gap_line = process.output.splitlines()
    if as_json:
        gap = json.loads(gap_line)["gap"]
        assert (gap["start"], gap["seconds"]) == (2.0, 1.5) and "1 s" in gap["reason"]
        assert json.loads(text_line)["text"] == "word0 word1 word2 word3"
    else:
        assert gap_line.startswith("[gap: 1.50 s of audio are missing after 2.00 s: ")
        assert text_line == "word0 word1 word2 word3"
    assert "incomplete: 1.50 s" in process.error_lines()[-1]


@pytest.mark.parametrize("limit", [0, 100, 130, 300, 1500])
def test_a_file_is_read_again_after_a_lost_connection(
    agent: Start, write_config: Callable[[str], str], tmp_path: Path, limit: int
) -> None:
    """The first bytes are the response to the handshake."""
    pcm = recognizers.speech(7.3)
    write_wav(tmp_path / "asked.wav", pcm)
    toxics = Toxics(limit_bytes=limit, reset=True)
    with Scripted(recognizers.serving(MelvinServer)) as server, Proxy(server.port, down=toxics) as proxy:
        process = agent(
            "transcribe",
            "--config",
            write_config(f"transcription: {{url: 'ws://127.0.0.1:{proxy.port}/'}}"),
            "asked.wav",
        )
        assert proxy.limited.acquire(timeout=60)
        toxics.limit_bytes = None
        assert process.end() == 0, process.errors
    assert process.output.split() == recognizers.words_of(pcm)


def test_all_of_a_file_is_in_a_gap_if_every_connection_breaks(
    agent: Start, write_config: Callable[[str], str], tmp_path: Path
) -> None:
    write_wav(tmp_path / "asked.wav", recognizers.speech(14.3))

    def script(peer: Peer) -> None:
        peer.accept()
        peer.read_frame()
        peer.reset()

    with Scripted(script) as server:
        config = write_config(f"transcription: {{url: 'ws://127.0.0.1:{server.port}/'}}")
        process = agent("transcribe", "--json", "--config", config, "asked.wav")
        assert process.end() == 69
    gaps = [json.loads(line)["gap"] for line in process.output.splitlines()]
    assert gaps[0]["start"] == 0.0 and sum(gap["seconds"] for gap in gaps) == pytest.approx(14.3)
