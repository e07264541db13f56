"""Network cut: phrases play bit-exact, the local voice speaks the rest, and an outage of all is announced once."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from support.agent_fixtures import Start
from support.fault_rows import Record
from support.local_server import LocalServerProcess
from support.timing import undisturbed

from agent.audio.format import Format
from agent.pipeline.tts.notice import tone
from agent.server.tts import tone as voice

RATE = 22050
WARMED = "The train departs from platform 2."
TONE = tone(Format(RATE))


def test_row_69_phrases_play_and_an_outage_is_announced_once(
    agent: Start, write_config: Callable[[str], str], tmp_path: Path, record_row: Record
) -> None:
    recording = tmp_path / "heard.wav"
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
    env = {"STATE_DIRECTORY": str(tmp_path / "state"), "CACHE_DIRECTORY": str(tmp_path / "cache")}
    arguments = ("--speech", "tone", "--recognition", "none")
    with (
        LocalServerProcess(tmp_path / "first", *arguments) as first,
        LocalServerProcess(tmp_path / "second", *arguments) as second,
    ):
        config = write_config(
            "conversation: {mode: announce}\n"
            f"speaker: {{device: 'file:{recording}', volume: 100}}\n"
            "synthesis:\n  services: [neuphonic, local]\n  phrases: {enabled: true}\n  first_audio_seconds: 5\n"
            f"  neuphonic: {{url: '{first.ws}/speak/en'}}\n"
            f"  local: {{url: '{second.ws}'}}\n"
            f"server: {{speech: tone}}\n"
            f"control: {{socket: {tmp_path}/control.sock}}\n"
        )
        texts = tmp_path / "texts.txt"
        texts.write_text(f"{WARMED}\n")
        warm = agent("phrases", "warm", "--config", config, str(texts), env=env)
        assert warm.end() == 0, warm.errors

        daemon = agent("run", "--config", config, env=env)
        daemon.stderr.await_text("daemon ready")

        def say(text: str) -> tuple[int, bytes]:
            """Speak a text; return the exit code and the audio that the speaker got for it."""

            def speak() -> tuple[int, bytes, bool]:
                before, played, late = len(heard(recording)), count(b": played"), count(b"silence inserted")
                code = agent("say", "--config", config, text, env=env).end()
                if code == 0:
                    daemon.stderr.await_that(lambda: count(b": played") > played, "the end in the log")
                return code, heard(recording)[before:], code == 0 and count(b"silence inserted") > late

            # A busy machine inserts silence and reports it before the end.
            code, sound, _ = undisturbed(speak, lambda spoken: spoken[2])
            return code, sound

        def count(words: bytes) -> int:
            return daemon.stderr.data.count(words)

        first.stop()
        assert say(WARMED) == (0, voice.pcm(WARMED, RATE)), "the phrase is bit-exact"
        assert say("This is new.") == (0, voice.pcm("This is new.", RATE)), "the local voice speaks"
        daemon.stderr.await_text("by local")

        second.stop()
        assert say(WARMED) == (0, voice.pcm(WARMED, RATE)), "the phrase still plays"
        assert say("This is new.") == (0, voice.pcm("This is new.", RATE)), "and what was spoken meanwhile"
        assert [say(text)[0] for text in ("Nothing speaks this.", "Nor this.")] == [69, 69]
        assert say(WARMED)[0] == 0
        daemon.stderr.await_text("-notice-1: played")
        sound = heard(recording)
        assert sound.count(TONE) == 1 and sound.endswith(voice.pcm(WARMED, RATE)), "the outage is announced once"
        assert "-notice-2" not in daemon.stderr.data.decode()

        with LocalServerProcess(tmp_path / "third", *arguments, "--port", str(second.port)) as third:
            daemon.stderr.await_text("local: available again")
            assert say("It is back.") == (0, voice.pcm("It is back.", RATE))
            third.stop()
            assert say("Nor can this be spoken.")[0] == 69
            daemon.stderr.await_text("-notice-2: played")
            assert heard(recording).count(TONE) == 2, "the next outage is announced again"
        daemon.signal(signal.SIGTERM)
        assert daemon.end() == 0
    record_row(69, "phrase bit-exact twice, local voice once, one notice for each of 2 outages")


def heard(recording: Path) -> bytes:
    """Return the audio of the recording so far; its header may be behind."""
    if not recording.exists():
        return b""
    data = recording.read_bytes()
    return data[data.index(b"data") + 8 :] if b"data" in data else b""
