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
from support.agent_fixtures import Start, service_config, write_wav
from support.processes import Process, Supervision, WireLoggedServer, audio_on_wire

from agent.server.tts import tone

USAGE, UNAVAILABLE, CONFIGURATION = 2, 69, 78


def refused(process: Process, code: int, *words: str) -> str:
    """Assert the exit code and a single message that contains these words; return the message."""
    ended = process.end()
    lines = process.error_lines()
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
def refusing_url() -> Iterator[str]:
    """A URL that refuses connections."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"ws://127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder; asserts that a failed command leaves no file in it."""
    path = tmp_path / "folder"
    path.mkdir()
    yield path
    assert list(path.iterdir()) == []


# --- the configuration


@pytest.mark.parametrize("command", [("run",), ("say", "hello"), ("transcribe",), ("demo",)])
def test_a_config_error_names_file_and_line(
    agent: Start, write_config: Callable[[str], str], command: tuple[str, ...]
) -> None:
    config = write_config("speaker:\n  volume: loud\n")
    refused(agent(*command, "--config", config), CONFIGURATION, f"{config}:2", "speaker.volume", "loud")


@pytest.mark.parametrize(
    ("microphone", "says"),
    [("device: 'file:text.wav'", "not a WAV file"), ("device: 'file:mono.wav', channel: 3", "no channel 3, only 1")],
)
def test_a_microphone_file_that_cannot_be_used_ends_the_daemon_as_a_config_error(
    agent: Start, write_config: Callable[[str], str], tmp_path: Path, microphone: str, says: str
) -> None:
    """A restart would not help, and the log has one sentence in place of a stack."""
    (tmp_path / "text.wav").write_text("no sound")
    write_wav(tmp_path / "mono.wav", bytes(32000))
    config = write_config(
        f"microphone: {{{microphone}}}\nspeaker: {{device: none}}\nconversation: {{mode: captions}}\n"
        "server: {start: false}\ncontrol: {socket: none}\n"
    )
    process = agent("run", "--config", config, cwd=tmp_path)
    assert process.end() == CONFIGURATION, process.errors
    assert says in process.errors and "microphone.device" in process.errors and "Traceback" not in process.errors


@pytest.mark.parametrize("command", ["meter", "test-microphone", "test-wake", "transcribe"])
def test_a_microphone_file_that_cannot_be_used_is_a_config_error_of_every_command(
    agent: Start, write_config: Callable[[str], str], tmp_path: Path, command: str
) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    config = write_config("microphone: {device: 'file:text.wav'}\nspeaker: {device: none}\nserver: {start: false}\n")
    process = agent(command, "--config", config, cwd=tmp_path)
    refused(process, CONFIGURATION, "microphone.device: the file text.wav cannot be read", "not a WAV file")


def test_demo_writes_no_file_with_the_name_of_standard_output(agent: Start, folder: Path) -> None:
    refused(agent("demo", "--output", "-", cwd=folder), USAGE, "name a file after --output")


def test_all_config_errors_are_reported_together(agent: Start, write_config: Callable[[str], str]) -> None:
    config = write_config("speaker:\n  volume: 200\n  devise: none\nmicrophone: 3\n")
    process = agent("run", "--config", config)
    assert process.end() == CONFIGURATION
    lines = process.error_lines()
    assert all(line.startswith("voice-agent") for line in lines)
    for word in (":2", ":3", ":4", "device"):
        assert any(word in line for line in lines), lines


@pytest.mark.parametrize("text", ["a: [", "\t- x", "speaker: *undefined", "\0"])
def test_invalid_yaml_is_reported(agent: Start, write_config: Callable[[str], str], text: str) -> None:
    config = write_config(text)
    refused(agent("say", "hello", "--config", config), CONFIGURATION, config)


def test_a_missing_config_file_is_named(agent: Start) -> None:
    refused(agent("run", "--config", "nowhere.yaml"), CONFIGURATION, "nowhere.yaml")


@pytest.mark.parametrize("service", ["neuphonic", "playai", "vachana", "fish"])
@pytest.mark.parametrize("command", ["say", "run"])
def test_a_missing_api_key_is_reported_with_its_location(
    agent: Start, write_config: Callable[[str], str], folder: Path, service: str, command: str
) -> None:
    config = write_config(f"synthesis: {{services: [{service}]}}\ncontrol: {{socket: none}}\n")
    arguments = ("say", "--output", "out.wav", "hello") if command == "say" else ("run",)
    line = refused(agent(*arguments, "--config", config, cwd=folder), CONFIGURATION, service, "key")
    assert service in line


# --- devices


def test_a_missing_speaker_is_named(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer
) -> None:
    config = write_config("speaker: {device: nosuchcard}\n" + service_config(tone_server, "local"))
    refused(agent("say", "--service", "local", "--config", config, "hello"), CONFIGURATION, "nosuchcard")


def test_a_missing_microphone_is_named(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer
) -> None:
    config = write_config(f"microphone: {{device: nosuchcard}}\ntranscription: {{url: '{tone_server.ws}/'}}\n")
    refused(agent("transcribe", "--config", config), CONFIGURATION, "nosuchcard")


def test_the_daemon_waits_for_a_missing_microphone(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, supervision: Supervision
) -> None:
    """The card may be plugged in later: a command fails, the daemon waits."""
    config = write_config(
        "microphone: {device: nosuchcard}\nspeaker: {device: none}\ncontrol: {socket: none}\n"
        f"transcription: {{url: '{tone_server.ws}/'}}\n" + service_config(tone_server, "local")
    )
    process = agent("run", "--config", config, env={"NOTIFY_SOCKET": supervision.path})
    assert "STATUS=" in supervision.await_line("nosuchcard", while_alive=process)
    process.signal(signal.SIGTERM)
    assert process.end() == 0, process.errors


# --- sound files


def adpcm_wav(path: Path) -> None:
    data = struct.pack("<800f", *([0.25] * 800))
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 17, 1, 16000, 64000, 4, 4,
                       b"data", len(data))  # fmt: skip
    path.write_bytes(head + data)


def text_file(path: Path) -> None:
    path.write_text("This is no sound at all, and never was.")


def empty_file(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize("write", [adpcm_wav, text_file, empty_file])
def test_a_file_that_is_no_uncompressed_wav_is_rejected(
    agent: Start,
    write_config: Callable[[str], str],
    tone_server: WireLoggedServer,
    tmp_path: Path,
    write: Callable[[Path], None],
) -> None:
    write(tmp_path / "asked.wav")
    config = write_config(f"transcription: {{url: '{tone_server.ws}/'}}\n")
    refused(agent("transcribe", "--config", config, "asked.wav"), USAGE, "asked.wav")


@pytest.mark.parametrize("name", ["nowhere.wav", ".", "long" * 100])
def test_an_unreadable_file_is_named(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, name: str
) -> None:
    config = write_config(f"transcription: {{url: '{tone_server.ws}/'}}\n")
    refused(agent("transcribe", "--config", config, name), USAGE, name)


def test_a_wav_on_stdin_is_rejected(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    write_wav(tmp_path / "asked.wav", bytes(32000))
    process = agent(
        "transcribe", "--config", write_config(f"transcription: {{url: '{tone_server.ws}/'}}\n"), "-", stdin=True
    )
    feed(process, (tmp_path / "asked.wav").read_bytes())
    refused(process, USAGE, "WAV")


@pytest.mark.parametrize(("width", "silence"), [(1, b"\x80"), (3, b"\0\0\0"), (4, b"\0\0\0\0")])
def test_other_integer_sample_widths_are_converted(
    agent: Start,
    write_config: Callable[[str], str],
    tone_server: WireLoggedServer,
    tmp_path: Path,
    width: int,
    silence: bytes,
) -> None:
    write_wav(tmp_path / "asked.wav", silence * 16000, width=width)
    since = len(tone_server.wire())
    process = agent(
        "transcribe", "--config", write_config(f"transcription: {{url: '{tone_server.ws}/'}}\n"), "asked.wav"
    )
    assert process.end() == 0, process.errors
    assert audio_on_wire(tone_server.settled(since), bytes(32000)) == bytes(32000)


# --- servers


def test_an_unreachable_transcription_service_is_named(
    agent: Start, write_config: Callable[[str], str], tmp_path: Path, refusing_url: str
) -> None:
    write_wav(tmp_path / "asked.wav", bytes(32000))
    config = write_config(f"transcription: {{url: '{refusing_url}/'}}\n")
    refused(
        agent("transcribe", "--config", config, "asked.wav"),
        UNAVAILABLE,
        "transcription",
        refusing_url.rpartition(":")[2],
    )


@pytest.mark.parametrize("service", ["local", "neuphonic", "playai", "vachana", "fish"])
def test_an_unreachable_speech_service_is_named(
    agent: Start, write_config: Callable[[str], str], folder: Path, refusing_url: str, service: str
) -> None:
    key = "auth_url" if service == "playai" else "url"
    url = refusing_url.replace("ws:", "http:") if service == "playai" else refusing_url
    config = write_config(f"synthesis: {{{service}: {{{key}: '{url}'}}}}\n")
    process = agent("say", "--config", config, "--service", service, "--output", "out.wav", "hello", cwd=folder)
    refused(process, UNAVAILABLE, service)


# --- texts


@pytest.mark.parametrize("text", [" ", "\n\t ", ""])
def test_blank_text_is_rejected(agent: Start, folder: Path, text: str) -> None:
    refused(agent("say", "--output", "out.wav", text, cwd=folder), USAGE, "nothing to say")


@pytest.mark.parametrize(
    ("question", "says"), [("", "nothing to say"), ("?!", "nothing to say"), ("\udcff", "not UTF-8")]
)
def test_a_question_that_cannot_be_spoken_is_rejected(agent: Start, folder: Path, question: str, says: str) -> None:
    refused(agent("demo", "--output", "out.wav", "--question", question, cwd=folder), USAGE, says)


def test_text_of_a_megabyte_is_rejected(
    agent: Start, folder: Path, write_config: Callable[[str], str], tone_server: WireLoggedServer
) -> None:
    config = write_config(service_config(tone_server, "local"))
    process = agent("say", "--config", config, "--output", "out.wav", "-", stdin=True, cwd=folder)
    feed(process, b"word " * 200_000)
    refused(process, USAGE, "100000 characters")


def test_a_long_argument_is_rejected(agent: Start, folder: Path) -> None:
    refused(agent("say", "--output", "out.wav", "word " * 25_000, cwd=folder), USAGE, "125000 characters")


@pytest.mark.parametrize("data", [b"", b" \n\n\t "])
def test_stdin_without_words_is_rejected(
    agent: Start, folder: Path, write_config: Callable[[str], str], tone_server: WireLoggedServer, data: bytes
) -> None:
    config = write_config(service_config(tone_server, "local"))
    process = agent("say", "--config", config, "--output", "out.wav", "-", stdin=True, cwd=folder)
    feed(process, data)
    refused(process, USAGE, "nothing to say")


@pytest.mark.parametrize("data", [b"\xff\xfe", b"Good morning. And \xe2\x82", b"Half of it is fine. \x80"])
def test_invalid_utf_8_on_stdin_is_rejected(
    agent: Start, folder: Path, write_config: Callable[[str], str], tone_server: WireLoggedServer, data: bytes
) -> None:
    config = write_config(service_config(tone_server, "local"))
    process = agent("say", "--config", config, "--output", "out.wav", "-", stdin=True, cwd=folder)
    feed(process, data)
    refused(process, USAGE, "UTF-8")


def test_invalid_utf_8_in_an_argument_is_rejected(agent: Start, folder: Path) -> None:
    refused(agent("say", "--output", "out.wav", b"caf\xe9", cwd=folder), USAGE, "UTF-8", "4")


def test_an_unknown_service_is_rejected_with_the_known_ones(agent: Start, folder: Path) -> None:
    process = agent("say", "--service", "nosuch", "--output", "out.wav", "hello", cwd=folder)
    assert process.end() == USAGE
    assert "nosuch" in process.errors and "neuphonic" in process.errors and "Traceback" not in process.errors


# --- places to write


@pytest.mark.parametrize("command", ["say", "demo"])
@pytest.mark.parametrize("output", ["missing/out.wav", "."])
def test_an_unwritable_output_is_rejected_before_synthesis(
    agent: Start,
    folder: Path,
    write_config: Callable[[str], str],
    tone_server: WireLoggedServer,
    command: str,
    output: str,
) -> None:
    config = write_config(service_config(tone_server, "local"))
    text = ("hello",) if command == "say" else ()
    since = len(tone_server.wire())
    process = agent(command, "--config", config, "--output", output, *text, cwd=folder)
    if command == "say":
        refused(process, USAGE, output)
        assert tone_server.matching(since, event="Text") == []
    else:
        assert process.end() == USAGE
        assert output in process.error_lines()[-1]


def test_a_full_disk_leaves_no_file(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, folder: Path
) -> None:
    config = write_config(service_config(tone_server, "local"))
    process = agent("say", "--config", config, "--output", "/dev/full", "hello there", cwd=folder)
    refused(process, USAGE, "/dev/full")


def test_a_full_disk_behind_stdout_is_reported(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer
) -> None:
    with open("/dev/full", "wb") as full:
        process = agent(
            "say",
            "--config",
            write_config(service_config(tone_server, "local")),
            "--output",
            "-",
            "hi",
            stdout=full.fileno(),
        )
    refused(process, USAGE, "No space left")


# --- an end in the middle


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_a_complete_wav_or_no_file(
    agent: Start, write_config: Callable[[str], str], tmp_path: Path, number: int
) -> None:
    """After a hush the file is a complete WAV of the audio so far, with the right length in its header."""
    with WireLoggedServer(tmp_path / "server", "--speech", "tone", "--recognition", "none", "--pace", "1") as server:
        config = write_config(service_config(server, "local"))
        folder = tmp_path / "folder"
        folder.mkdir()
        process = agent("say", "--config", config, "--output", "out.wav", "word " * 100, cwd=folder)
        server.await_wire(3, direction="out", event="Audio")
        process.signal(number)
        assert process.end() == 3, process.errors
        for path in folder.iterdir():
            assert path.name == "out.wav"
            with wave.open(str(path), "rb") as file:
                pcm = file.readframes(file.getnframes())
            assert tone.pcm("word " * 100, 22050).startswith(pcm)


def test_sigkill_leaves_no_partial_file(agent: Start, write_config: Callable[[str], str], tmp_path: Path) -> None:
    with WireLoggedServer(tmp_path / "server", "--speech", "tone", "--recognition", "none", "--pace", "1") as server:
        config = write_config(service_config(server, "local"))
        (tmp_path / "out.wav").write_bytes(b"what was there before")
        process = agent("say", "--config", config, "--output", "out.wav", "word " * 100)
        server.await_wire(3, direction="out", event="Audio")
        process.signal(signal.SIGKILL)
        assert process.end() == -signal.SIGKILL
    assert (tmp_path / "out.wav").read_bytes() == b"what was there before"


def test_a_closed_output_pipe_is_no_error(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, tmp_path: Path
) -> None:
    """``say --output - | head -c 100``."""
    config = write_config(service_config(tone_server, "local"))
    reading, writing = os.pipe()
    os.close(reading)
    process = agent("say", "--config", config, "--output", "-", "word " * 100, stdout=writing)
    os.close(writing)
    assert process.end() in (0, -signal.SIGPIPE), process.errors
    assert process.error_lines() == []


def feed(process: Process, data: bytes) -> None:
    try:
        process.write(data)
        process.close_stdin()
    except BrokenPipeError:
        pass  # it has refused already
