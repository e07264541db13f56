"""meter, test-speaker and test-microphone on the virtual card."""

from __future__ import annotations

import json
import random
import signal
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
from support.agent_fixtures import Start
from support.human_voice import spoken
from support.processes import Process, WireLoggedServer
from support.vcard import VirtualCard

from agent.audio.format import SPEECH
from agent.cli.sound import TONES_HERTZ, tone
from agent.pipeline.playback.fader import ramp
from agent.server.tts.tone import pcm

Configured = Callable[[str], str]
# What is played begins when all of it is there: a machine that is busy is no gap in it.
DEVICES = "microphone: {device: mic}\nspeaker: {device: speaker, prebuffer_seconds: 5}\n"


@pytest.fixture
def card(tmp_path: Path) -> VirtualCard:
    folder = tmp_path / "card"
    folder.mkdir()
    return VirtualCard(folder)


def loud(seconds: float, amplitude: int) -> bytes:
    made = random.Random(7)
    return array("h", [made.choice((-amplitude, amplitude)) for _ in range(round(seconds * SPEECH.rate))]).tobytes()


def speech() -> bytes:
    """Return a spoken sentence of at least three seconds over a little noise."""
    noise = random.Random(3)
    samples = array("h", spoken("turn on the light in the kitchen and tell me what time it is in the garden"))
    return array("h", [max(-32000, min(32000, sample + noise.randint(-20, 20))) for sample in samples]).tobytes()


def warnings_of(process: Process) -> list[str]:
    """Return the lines on stderr, without underruns and clock drift, which a busy machine causes."""
    lines = process.errors.splitlines()
    return [line for line in lines if "card underruns" not in line and "clock drift" not in line]


def test_meter_json_prints_one_object_per_frame(agent: Start, write_config: Configured, card: VirtualCard) -> None:
    card.inject(loud(0.5, 8192), SPEECH)  # the card keeps it until it is opened for recording
    process = agent("meter", "--config", write_config(DEVICES), "--json", "--seconds", "2.5", env=card.env)
    assert (process.end(), warnings_of(process)) == (0, [])
    readings = [json.loads(line) for line in process.output.splitlines()]
    assert len(readings) == 50
    assert set(readings[0]) == {"level", "peak", "floor", "clipped"}
    assert max(reading["level"] for reading in readings) == pytest.approx(-12.0, abs=0.2)
    assert min(reading["level"] for reading in readings) == -96.0
    assert not any(reading["clipped"] for reading in readings)


def test_meter_rewrites_one_line_until_sigint(agent: Start, write_config: Configured, card: VirtualCard) -> None:
    process = agent("meter", "--config", write_config(DEVICES), env=card.env)
    process.stdout.await_text("dB")
    card.inject(loud(1.0, 32767), SPEECH)
    process.stdout.await_text("CLIPPING")
    process.signal(signal.SIGINT)
    assert (process.end(), warnings_of(process)) == (0, [])
    bars = process.stdout.whole().split(b"\r")
    assert bars[0] == b"" and len({len(bar) for bar in bars[1:-1]}) == 1
    assert process.output.endswith("samples were clipped\n")


def test_test_speaker_plays_three_tones_and_a_sentence(
    agent: Start, write_config: Configured, tone_server: WireLoggedServer, card: VirtualCard
) -> None:
    config = write_config(DEVICES + f"synthesis: {{local: {{url: '{tone_server.ws}'}}}}\n")
    process = agent("test-speaker", "--config", config, env=card.env)
    assert (process.end(), warnings_of(process)) == (0, [])
    assert "440 Hz, 660 Hz, 880 Hz" in process.output and "a sentence: " in process.output
    played = card.played()
    places = [played.find(tone(hertz).strip(b"\0")) for hertz in TONES_HERTZ]
    assert -1 not in places and places == sorted(places), "each tone is heard, sample by sample, in this order"
    sentence = pcm("If you can hear this sentence, the speaker works.", 22050)
    assert sentence.strip(b"\0") in played[places[-1] :]


@pytest.mark.parametrize(
    ("sound", "heard", "words"),
    [
        (speech(), "speech", "contains speech"),
        (b"", "nothing", "digital silence"),
        (loud(3.5, 5), "silence", "is silent"),
        (ramp(loud(3.5, 32767), 1.0, 1.0, 1), "clipping", "clips"),
    ],
)
def test_test_microphone_rates_and_plays_the_recording(
    agent: Start, write_config: Configured, card: VirtualCard, sound: bytes, heard: str, words: str
) -> None:
    if sound:
        card.inject(sound, SPEECH)  # the card keeps it until it is opened for recording
    process = agent("test-microphone", "--config", write_config(DEVICES), env=card.env)
    assert (process.end(), warnings_of(process)) == (0, [])
    assert "speak now" in process.output and words in process.output, heard
    if sound:
        assert sound[SPEECH.bytes_of(0.5) :][:3200] in card.played(), "what was recorded is what is played back"


def test_test_microphone_json_prints_the_rating(agent: Start, write_config: Configured, card: VirtualCard) -> None:
    process = agent("test-microphone", "--json", "--config", write_config(DEVICES), env=card.env)
    assert process.end() == 0
    assert json.loads(process.output) == {"heard": "nothing", "level": -96.0, "peak": -96.0, "clipped": 0}


@pytest.mark.parametrize("command", ["meter", "test-speaker", "test-microphone"])
def test_a_missing_device_is_reported_in_one_line(
    agent: Start, write_config: Configured, card: VirtualCard, command: str
) -> None:
    config = write_config("microphone: {device: nothing}\nspeaker: {device: nothing}\n")
    process = agent(command, "--config", config, env=card.env)
    assert process.end() not in (0, 2)
    assert len(process.error_lines()) == 1 and "nothing" in process.errors and "Traceback" not in process.errors
    assert process.output == "", "the user is asked to speak or listen only when the card is open"


@pytest.mark.parametrize(
    ("command", "begins"), [("meter", "dB"), ("test-speaker", "three tones"), ("test-microphone", "speak now")]
)
def test_a_device_that_is_lost_ends_the_command_as_a_missing_one(
    agent: Start, write_config: Configured, card: VirtualCard, command: str, begins: str
) -> None:
    process = agent(command, "--config", write_config(DEVICES), env=card.env)
    process.stdout.await_text(begins)
    card.fault("unplug")
    assert process.end() == 78, process.errors
    assert "the sound device" in process.error_lines()[-1] and "Traceback" not in process.errors


@pytest.mark.parametrize("command", ["test-speaker", "test-microphone"])
def test_volume_0_is_named(
    agent: Start, write_config: Configured, tone_server: WireLoggedServer, card: VirtualCard, command: str
) -> None:
    config = write_config(
        "microphone: {device: mic}\nspeaker: {device: speaker, volume: 0}\n"
        f"synthesis: {{local: {{url: '{tone_server.ws}'}}}}\n"
    )
    process = agent(command, "--config", config, env=card.env)
    assert process.end() == 0 and card.played().strip(b"\0") == b""
    assert [line for line in warnings_of(process) if "speaker.volume is 0" in line] == warnings_of(process) != []


def test_mute_of_the_daemon_is_named(
    agent: Start, write_config: Configured, tone_server: WireLoggedServer, card: VirtualCard, tmp_path: Path
) -> None:
    config = write_config(
        f"{DEVICES}conversation: {{mode: announce}}\ncontrol: {{socket: '{tmp_path}/control.sock'}}\n"
        f"synthesis: {{local: {{url: '{tone_server.ws}'}}}}\n"
    )
    daemon = agent("run", "--config", config, env={**card.env, "STATE_DIRECTORY": str(tmp_path / "state")})
    daemon.stderr.await_text("ready")
    assert agent("mute", "speaker", "--config", config).end() == 0
    process = agent("test-speaker", "--config", config, env=card.env)
    assert process.end() == 0 and "voice-agent unmute speaker" in process.errors
    daemon.signal(signal.SIGTERM)
    assert daemon.end() == 0
