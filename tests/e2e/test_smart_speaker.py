"""The smart speaker as its page describes it: a spoken wake word and a question in, a spoken answer out."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.agent_fixtures import Start
from support.machine import free_port
from support.vcard import VirtualCard
from support.wyoming_servers import wyoming_wake_words

from agent.audio.convert import FormatConverter, measure_level
from agent.audio.format import SPEECH, Format
from agent.client import Client
from agent.server.tts import registry
from agent.server.tts.engine import VoiceOptions

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = ROOT / "config" / "smart-speaker.yaml"


def spoken(text: str) -> bytes:
    audio = registry.create("flite").speak(text, VoiceOptions(SPEECH.rate))
    converter = FormatConverter(Format(audio.rate), SPEECH)
    return converter.feed(b"".join(audio.chunks)) + converter.finish()


@pytest.fixture(params=["micro", "wyoming"])
def engine(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The settings of the wake word: that of the configuration, or wyoming-openwakeword."""
    if request.param == "micro":
        yield {}
        return
    with wyoming_wake_words() as url:
        yield {
            "VOICE_AGENT_WAKE__ENGINE": "wyoming",
            "VOICE_AGENT_WAKE__WORDS": "alexa_v0.1",
            "VOICE_AGENT_WAKE__URL": url,
        }


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_spoken_wake_word_gets_an_answer_and_the_next_question_needs_none(
    agent: Start, card: VirtualCard, tmp_path: Path, engine: dict[str, str]
) -> None:
    port = free_port()  # the default port may be taken
    environment = (
        card.env
        | engine
        | {
            "VOICE_AGENT_SERVER__PORT": str(port),
            "VOICE_AGENT_TRANSCRIPTION__URL": f"ws://127.0.0.1:{port}/",
            "VOICE_AGENT_CONTROL__SOCKET": str(tmp_path / "control.sock"),
            "VOICE_AGENT_LOGGING__TRANSCRIPTS": "true",
        }
    )
    daemon = agent("run", "--config", str(CONFIGURATION), env=environment)
    daemon.stderr.await_text("daemon ready")
    card.inject(spoken("Alexa, what time is it?"), SPEECH)
    daemon.stderr.await_text("wake word: alexa")
    daemon.stderr.await_text("reply-1: played")
    assert measure_level(card.played())[1] > 3000
    card.inject(spoken("What day is it today?"), SPEECH)
    daemon.stderr.await_text("reply-2: played")
    daemon.signal(signal.SIGTERM)
    assert daemon.end() == 0
    heard = re.findall(r"heard: (.*)", daemon.errors)
    assert len(heard) == 2 and "time" in heard[0].lower() and "alexa" not in " ".join(heard).lower(), heard
    assert "what day" in heard[1].lower(), "the question is heard from its beginning, right after the reply"


@pytest.mark.slow
def test_each_wake_word_has_its_responder_and_its_follow_ups(
    agent: Start, card: VirtualCard, write_config: Callable[[str], str], tmp_path: Path
) -> None:
    port, socket = free_port(), tmp_path / "control.sock"
    config = write_config(
        "wake: {engine: micro, words: {alexa: rules, hey_jarvis: command}, follow_up_seconds: 8, sound: false}\n"
        "conversation: {mode: assistant}\nmicrophone: {device: mic}\nspeaker: {device: speaker}\n"
        f"server: {{port: {port}}}\ntranscription: {{url: 'ws://127.0.0.1:{port}/'}}\n"
        f"control: {{socket: {socket}}}\nsynthesis: {{services: [local]}}\n"
        "responder:\n  rules:\n  - {pattern: '.', reply: 'This is the first one.'}\n"
        "  command: {argv: [echo, This is the other one.]}\n"
    )
    daemon = agent("run", "--config", config, env=card.env)
    daemon.stderr.await_text("daemon ready")
    with Client(str(socket)) as client:
        events = client.events("reply", "utterance", "heard", texts=True)

        def ask(question: str) -> str:
            """Return the text of the reply when it was spoken."""
            card.inject(bytes(SPEECH.bytes_of(1.0)) + spoken(question), SPEECH)
            reply = next(event for event in events if event["event"] == "reply" and event.get("text"))
            next(event for event in events if event.get("source") == "reply" and event["state"] == "played")
            return str(reply["text"])

        assert "first" in ask("Alexa, who are you?")
        card.inject(spoken("Thank you."), SPEECH)  # ends the time for a follow-up
        next(event for event in events if event["event"] == "heard")
        assert "other" in ask("Hey Jarvis. What time is it?")
        assert "other" in ask("What can you do?")
    daemon.signal(signal.SIGTERM)
    assert daemon.end() == 0
