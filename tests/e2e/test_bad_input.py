"""Bad input: one clear sentence, the exit code of the contract, no traceback, nothing half-written left behind."""

from __future__ import annotations

import os
import signal
import socket
import struct
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.processes import Process, Supervision, Wired, sound_of

from agent.server.tts import tone
from e2e.conftest import Start, write_wav
from e2e.test_say import configuration

USAGE, UNAVAILABLE, CONFIGURATION = 2, 69, 78


def refused(process: Process, code: int, *words: str) -> str:
    """It ended with this code and one sentence that holds these words; returns the sentence."""
    ended = process.end()
    lines = process.lines_of_error()
    assert ended == code, lines
    assert len(lines) == 1, lines
    (line,) = lines
    assert line.startswith("voice-agent")
    assert "Traceback" not in line and "Error(" not in line and "Errno" not in line
    for word in words:
        assert word in line, line
    assert process.output == ""
    return line


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"ws://127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder to write into; a failed command leaves it as it was."""
    path = tmp_path / "folder"
    path.mkdir()
    yield path
    assert list(path.iterdir()) == []


# --- the configuration


@pytest.mark.parametrize("command", [("run",), ("say", "hello"), ("transcribe",), ("demo",)])
def test_a_mistake_in_the_yaml_is_named_with_file_and_line(
    agent: Start, configured: Callable[[str], str], command: tuple[str, ...]
) -> None:
    config = configured("speaker:\n  volume: loud\n")
    refused(agent(*command, "--config", config), CONFIGURATION, f"{config}:2", "speaker.volume", "loud")


def test_every_mistake_is_named_at_once(agent: Start, configured: Callable[[str], str]) -> None:
    config = configured("speaker:\n  volume: 200\n  devise: none\nmicrophone: 3\n")
    process = agent("run", "--config", config)
    assert process.end() == CONFIGURATION
    lines = process.lines_of_error()
    assert all(line.startswith("voice-agent") for line in lines)
    for word in (":2", ":3", ":4", "device"):
        assert any(word in line for line in lines), lines


@pytest.mark.parametrize("text", ["a: [", "\t- x", "speaker: *nobody", "\0"])
def test_what_is_no_yaml_is_said_to_be_none(agent: Start, configured: Callable[[str], str], text: str) -> None:
    config = configured(text)
    refused(agent("say", "hello", "--config", config), CONFIGURATION, config)


def test_a_configuration_that_is_not_there_is_named(agent: Start) -> None:
    refused(agent("run", "--config", "nowhere.yaml"), CONFIGURATION, "nowhere.yaml")


@pytest.mark.parametrize("service", ["neuphonic", "playai", "vachana", "fish"])
@pytest.mark.parametrize("command", ["say", "run"])
def test_a_missing_key_is_named_with_the_place_to_put_it(
    agent: Start, configured: Callable[[str], str], folder: Path, service: str, command: str
) -> None:
    config = configured(f"synthesis: {{services: [{service}]}}\ncontrol: {{socket: none}}\n")
    arguments = ("say", "--output", "out.wav", "hello") if command == "say" else ("run",)
    line = refused(agent(*arguments, "--config", config, cwd=folder), CONFIGURATION, service, "key")
    assert service in line


# --- devices


def test_a_speaker_that_is_not_there_is_named(agent: Start, configured: Callable[[str], str], tones: Wired) -> None:
    config = configured("speaker: {device: nosuchcard}\n" + configuration(tones, "local"))
    refused(agent("say", "--service", "local", "--config", config, "hello"), CONFIGURATION, "nosuchcard")


def test_a_microphone_that_is_not_there_is_named(agent: Start, configured: Callable[[str], str], tones: Wired) -> None:
    config = configured(f"microphone: {{device: nosuchcard}}\ntranscription: {{url: '{tones.ws}/'}}\n")
    refused(agent("transcribe", "--config", config), CONFIGURATION, "nosuchcard")


def test_the_daemon_waits_for_a_microphone_that_is_not_there_and_says_so(
    agent: Start, configured: Callable[[str], str], tones: Wired, supervision: Supervision
) -> None:
    """It may only be late, or be plugged in again: an attended command refuses, an unattended daemon waits."""
    config = configured(
        "microphone: {device: nosuchcard}\nspeaker: {device: none}\ncontrol: {socket: none}\n"
        f"transcription: {{url: '{tones.ws}/'}}\n" + configuration(tones, "local")
    )
    process = agent("run", "--config", config, env={"NOTIFY_SOCKET": supervision.path})
    assert "STATUS=" in supervision.await_word("nosuchcard", while_alive=process)
    process.signal(signal.SIGTERM)
    assert process.end() == 0, process.errors


# --- sound files


def float_wav(path: Path) -> None:
    data = struct.pack("<800f", *([0.25] * 800))
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 3, 1, 16000, 64000, 4, 32,
                       b"data", len(data))  # fmt: skip
    path.write_bytes(head + data)


def text_file(path: Path) -> None:
    path.write_text("This is no sound at all, and never was.")


def empty_file(path: Path) -> None:
    path.touch()


def header_only(path: Path) -> None:
    write_wav(path, b"")


@pytest.mark.parametrize("write", [float_wav, text_file, empty_file])
def test_a_file_that_is_no_16_bit_wav_is_refused(
    agent: Start, configured: Callable[[str], str], tones: Wired, tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path / "asked.wav")
    config = configured(f"transcription: {{url: '{tones.ws}/'}}\n")
    refused(agent("transcribe", "--config", config, "asked.wav"), USAGE, "asked.wav")


@pytest.mark.parametrize("name", ["nowhere.wav", "."])
def test_a_file_that_cannot_be_read_is_named(
    agent: Start, configured: Callable[[str], str], tones: Wired, name: str
) -> None:
    config = configured(f"transcription: {{url: '{tones.ws}/'}}\n")
    refused(agent("transcribe", "--config", config, name), USAGE, name)


def test_a_wav_on_stdin_is_recognised_as_a_mistake(
    agent: Start, configured: Callable[[str], str], tones: Wired, tmp_path: Path
) -> None:
    write_wav(tmp_path / "asked.wav", bytes(32000))
    process = agent("transcribe", "--config", configured(f"transcription: {{url: '{tones.ws}/'}}\n"), "-", stdin=True)
    feed(process, (tmp_path / "asked.wav").read_bytes())
    refused(process, USAGE, "WAV")


@pytest.mark.parametrize(("width", "silence"), [(1, b"\x80"), (3, b"\0\0\0"), (4, b"\0\0\0\0")])
def test_integer_samples_of_other_widths_are_made_to_fit(
    agent: Start, configured: Callable[[str], str], tones: Wired, tmp_path: Path, width: int, silence: bytes
) -> None:
    write_wav(tmp_path / "asked.wav", silence * 16000, width=width)
    since = len(tones.wire())
    process = agent("transcribe", "--config", configured(f"transcription: {{url: '{tones.ws}/'}}\n"), "asked.wav")
    assert process.end() == 0, process.errors
    assert sound_of(tones.settled(since), bytes(32000)) == bytes(32000)


def test_silence_is_no_mistake(agent: Start, configured: Callable[[str], str], tones: Wired, tmp_path: Path) -> None:
    header_only(tmp_path / "asked.wav")
    process = agent("transcribe", "--config", configured(f"transcription: {{url: '{tones.ws}/'}}\n"), "asked.wav")
    assert (process.end(), process.output, process.lines_of_error()) == (0, "", [])


# --- servers


def test_a_transcription_server_that_is_not_there_is_named(
    agent: Start, configured: Callable[[str], str], tmp_path: Path, nobody: str
) -> None:
    write_wav(tmp_path / "asked.wav", bytes(32000))
    config = configured(f"transcription: {{url: '{nobody}/'}}\n")
    refused(
        agent("transcribe", "--config", config, "asked.wav"), UNAVAILABLE, "transcription", nobody.rpartition(":")[2]
    )


@pytest.mark.parametrize("service", ["local", "neuphonic", "playai", "vachana", "fish"])
def test_a_speech_server_that_is_not_there_is_named(
    agent: Start, configured: Callable[[str], str], folder: Path, nobody: str, service: str
) -> None:
    key = "auth_url" if service == "playai" else "url"
    url = nobody.replace("ws:", "http:") if service == "playai" else nobody
    config = configured(f"synthesis: {{{service}: {{{key}: '{url}'}}}}\n")
    process = agent("say", "--config", config, "--service", service, "--output", "out.wav", "hello", cwd=folder)
    refused(process, UNAVAILABLE, service)


# --- texts


@pytest.mark.parametrize("text", [" ", "\n\t ", ""])
def test_a_text_of_nothing_but_spaces_is_refused(agent: Start, folder: Path, text: str) -> None:
    refused(agent("say", "--output", "out.wav", text, cwd=folder), USAGE, "nothing to say")


def test_a_text_of_a_megabyte_is_refused(
    agent: Start, folder: Path, configured: Callable[[str], str], tones: Wired
) -> None:
    config = configured(configuration(tones, "local"))
    process = agent("say", "--config", config, "--output", "out.wav", "-", stdin=True, cwd=folder)
    feed(process, b"word " * 200_000)
    refused(process, USAGE, "100000 characters")


def test_a_long_argument_is_refused(agent: Start, folder: Path) -> None:
    refused(agent("say", "--output", "out.wav", "word " * 25_000, cwd=folder), USAGE, "125000 characters")


@pytest.mark.parametrize("data", [b"", b" \n\n\t "])
def test_stdin_without_words_is_refused(
    agent: Start, folder: Path, configured: Callable[[str], str], tones: Wired, data: bytes
) -> None:
    config = configured(configuration(tones, "local"))
    process = agent("say", "--config", config, "--output", "out.wav", "-", stdin=True, cwd=folder)
    feed(process, data)
    refused(process, USAGE, "nothing to say")


@pytest.mark.parametrize("data", [b"\xff\xfe", b"Good morning. And \xe2\x82", b"Half of it is fine. \x80"])
def test_broken_utf_8_on_stdin_is_refused(
    agent: Start, folder: Path, configured: Callable[[str], str], tones: Wired, data: bytes
) -> None:
    config = configured(configuration(tones, "local"))
    process = agent("say", "--config", config, "--output", "out.wav", "-", stdin=True, cwd=folder)
    feed(process, data)
    refused(process, USAGE, "UTF-8")


def test_broken_utf_8_in_an_argument_is_refused(agent: Start, folder: Path) -> None:
    refused(agent("say", "--output", "out.wav", b"caf\xe9", cwd=folder), USAGE, "UTF-8", "4")


def test_a_service_that_there_is_not_is_refused_with_those_there_are(agent: Start, folder: Path) -> None:
    process = agent("say", "--service", "nosuch", "--output", "out.wav", "hello", cwd=folder)
    assert process.end() == USAGE
    assert "nosuch" in process.errors and "neuphonic" in process.errors and "Traceback" not in process.errors


# --- places to write


@pytest.mark.parametrize("command", ["say", "demo"])
@pytest.mark.parametrize("output", ["missing/out.wav", "."])
def test_a_place_that_cannot_be_written_is_named_before_anything_is_said(
    agent: Start, folder: Path, configured: Callable[[str], str], tones: Wired, command: str, output: str
) -> None:
    config = configured(configuration(tones, "local"))
    text = ("hello",) if command == "say" else ()
    since = len(tones.wire())
    process = agent(command, "--config", config, "--output", output, *text, cwd=folder)
    if command == "say":
        refused(process, USAGE, output)
        assert tones.matching(since, event="Text") == []
    else:
        assert process.end() == USAGE
        assert output in process.lines_of_error()[-1]


def test_a_full_disk_ends_say_with_a_sentence_and_leaves_nothing(
    agent: Start, configured: Callable[[str], str], tones: Wired, folder: Path
) -> None:
    config = configured(configuration(tones, "local"))
    process = agent("say", "--config", config, "--output", "/dev/full", "hello there", cwd=folder)
    refused(process, USAGE, "/dev/full")


def test_a_full_disk_behind_the_stream_ends_say_with_a_sentence(
    agent: Start, configured: Callable[[str], str], tones: Wired
) -> None:
    with open("/dev/full", "wb") as full:
        process = agent(
            "say", "--config", configured(configuration(tones, "local")), "--output", "-", "hi", stdout=full.fileno()
        )
    refused(process, USAGE, "No space left")


# --- an end in the middle


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_leaves_what_was_said_or_nothing_at_all(
    agent: Start, configured: Callable[[str], str], tmp_path: Path, number: int
) -> None:
    """Hushed on purpose: the file is a whole WAV of what has come, never a header with a wrong length."""
    with Wired(tmp_path / "server", "--speech", "tone", "--recognition", "none", "--pace", "1") as server:
        config = configured(configuration(server, "local"))
        folder = tmp_path / "folder"
        folder.mkdir()
        process = agent("say", "--config", config, "--output", "out.wav", "word " * 100, cwd=folder)
        server.await_wire(3, direction="out", event="Audio")
        process.signal(number)
        assert process.end() == 0, process.errors
        for path in folder.iterdir():
            assert path.name == "out.wav"
            with wave.open(str(path), "rb") as file:
                pcm = file.readframes(file.getnframes())
            assert tone.pcm("word " * 100, 22050).startswith(pcm)


def test_a_kill_in_the_middle_leaves_no_half_of_the_file_under_its_name(
    agent: Start, configured: Callable[[str], str], tmp_path: Path
) -> None:
    with Wired(tmp_path / "server", "--speech", "tone", "--recognition", "none", "--pace", "1") as server:
        config = configured(configuration(server, "local"))
        (tmp_path / "out.wav").write_bytes(b"what was there before")
        process = agent("say", "--config", config, "--output", "out.wav", "word " * 100)
        server.await_wire(3, direction="out", event="Audio")
        process.signal(signal.SIGKILL)
        assert process.end() == -signal.SIGKILL
    assert (tmp_path / "out.wav").read_bytes() == b"what was there before"


def test_a_reader_that_has_had_enough_is_no_error(
    agent: Start, configured: Callable[[str], str], tones: Wired, tmp_path: Path
) -> None:
    """``say --output - | head -c 100``."""
    config = configured(configuration(tones, "local"))
    reading, writing = os.pipe()
    os.close(reading)
    process = agent("say", "--config", config, "--output", "-", "word " * 100, stdout=writing)
    os.close(writing)
    assert process.end() in (0, -signal.SIGPIPE), process.errors
    assert process.lines_of_error() == []


def feed(process: Process, data: bytes) -> None:
    try:
        process.write(data)
        process.close_stdin()
    except BrokenPipeError:
        pass  # it has refused already
