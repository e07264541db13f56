"""``say`` and ``transcribe`` survive a single refusal, and give up after the time for the first audio."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.agent_fixtures import Start
from support.recognizers import BYTES_PER_SECOND
from support.scripted import BINARY, CLOSE, TEXT, Peer, Script, Scripted, close_frame, refuses
from support.speech_services import RATE, SERVICES, audio_of, serve_speech
from support.wav import read_wav

from agent.audio.format import Format

WORDS = "Nothing is lost."


def configuration(service: str, port: int, first_audio_seconds: float = 10.0) -> str:
    there = f"ws://127.0.0.1:{port}"
    sections = {
        "neuphonic": f"{{url: {there}/speak/en, sampling_rate: {RATE}}}",
        "vachana": f"{{url: {there}/api/v1/tts, audio_config: {{sample_rate: {RATE}, container: raw}}}}",
        "fish": f"{{url: {there}/v1/tts/live, format: pcm, sample_rate: {RATE}}}",
        "playai": f"{{auth_url: 'http://127.0.0.1:{port}/api/v1/tts/websocket-auth', user_id: u, output_format: raw,"
        f" sample_rate: {RATE}}}",
    }
    return (
        f"transcription: {{url: '{there}/'}}\n"
        f"synthesis: {{services: [{service}], first_audio_seconds: {first_audio_seconds},"
        f" {service}: {sections[service]}}}\n"
    )


def resets(peer: Peer) -> None:
    peer.read_request()
    peer.reset()


@pytest.mark.parametrize(
    ("service", "fault"),
    [
        ("neuphonic", refuses("503 Service Unavailable")),
        ("playai", refuses("500 Internal Server Error")),
        ("vachana", refuses("502 Bad Gateway")),
        ("fish", resets),
    ],
    ids=SERVICES,
)
def test_say_survives_one_transient_error(
    agent: Start, write_config: Callable[[str], str], tmp_path: Path, service: str, fault: Script
) -> None:
    with Scripted(fault, serve_speech(service)) as server:
        config = write_config(configuration(service, server.port))
        process = agent("say", "--config", config, "--service", service, "--output", "out.wav", WORDS)
        assert (process.end(), process.error_lines()) == (0, [])
    assert read_wav(tmp_path / "out.wav") == (Format(RATE, 1), audio_of(WORDS))


def test_say_gives_up_after_the_time_for_the_first_audio(agent: Start, write_config: Callable[[str], str]) -> None:
    with Scripted(refuses("503 Service Unavailable")) as server:
        config = write_config(configuration("neuphonic", server.port, 1.0))
        process = agent("say", "--config", config, "--service", "neuphonic", "--output", "out.wav", WORDS)
        assert process.end() == 69
        (line,) = process.error_lines()
    assert "503" in line and not any(word in line for word in ("retr", "again", "later", "next"))


def transcribes(peer: Peer) -> None:
    """A service of melvin-asr's protocol: one partial for each second of audio, and one final for ``eof``."""
    peer.accept()
    partials = received = 0
    for opcode, data in iter(peer.read_frame, (-1, b"")):
        if opcode == BINARY:
            received += len(data)
            while partials * BYTES_PER_SECOND < received:
                partials += 1
                peer.text(json.dumps({"partial": "here"}))
        elif opcode == TEXT and b"eof" in data:
            peer.text(json.dumps({"result": [], "text": "here it is"}))
            peer.send(close_frame(1000))
        elif opcode == CLOSE:
            return


@pytest.mark.parametrize(
    "fault",
    [refuses("429 Too Many Requests"), refuses("503 Service Unavailable", "Retry-After: 0"), resets],
    ids=["429", "503", "reset"],
)
def test_transcribe_survives_one_transient_error(
    agent: Start, write_config: Callable[[str], str], speech: Path, fault: Script
) -> None:
    with Scripted(fault, transcribes) as server:
        process = agent("transcribe", "--config", write_config(configuration("fish", server.port)), str(speech))
        assert (process.end(), process.output.strip()) == (0, "here it is")


def test_transcribe_gives_up_after_the_time_for_the_first_audio(
    agent: Start, write_config: Callable[[str], str], speech: Path
) -> None:
    with Scripted(refuses("503 Service Unavailable")) as server:
        config = write_config(configuration("fish", server.port, 1.0))
        process = agent("transcribe", "--config", config, str(speech))
        assert process.end() == 69
        assert "503" in process.errors
