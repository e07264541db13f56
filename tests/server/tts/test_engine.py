"""The speech engines flite and espeak-ng and the automatic choice."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest

from agent.audio.convert import measure_level
from agent.errors import AudioError
from agent.server.tts import espeak, registry
from agent.server.tts.engine import VoiceOptions


def _synthesize(engine: str, text: str, options: VoiceOptions) -> tuple[int, bytes]:
    audio = registry.create(engine).speak(text, options)
    return audio.rate, b"".join(audio.chunks)


@pytest.mark.parametrize("engine", ["flite", "espeak", "auto"])
def test_speech_has_a_natural_duration(engine: str) -> None:
    rate, pcm = _synthesize(engine, "Good morning, how are you today?", VoiceOptions(16000))
    seconds = len(pcm) / 2 / rate
    assert 1.0 < seconds < 4.0
    assert measure_level(pcm)[1] > 3000


@pytest.mark.parametrize("engine", ["flite", "espeak"])
@pytest.mark.parametrize(
    "text", ["--help", "-v nothing", "$(touch /tmp/x) `id`; | & > \\ \"'", "/etc/passwd", "café ☕ \0"]
)
def test_text_is_never_an_option_a_command_or_a_file(engine: str, text: str, tmp_path: Path) -> None:
    _, pcm = _synthesize(engine, text, VoiceOptions(16000))
    _, longer = _synthesize(engine, f"{text} and something more after it", VoiceOptions(16000))
    assert 0 < len(pcm) < len(longer)


@pytest.mark.parametrize("engine", ["flite", "espeak", "tone"])
@pytest.mark.parametrize("text", ["", "  ", "...", "-"])
def test_text_without_words_raises_nothing(engine: str, text: str) -> None:
    _synthesize(engine, text, VoiceOptions(16000))


@pytest.mark.parametrize("engine", ["flite", "espeak"])
def test_a_higher_speed_shortens_the_audio(engine: str) -> None:
    text = "This sentence is spoken twice."
    _, slow = _synthesize(engine, text, VoiceOptions(16000, speed=0.8))
    _, fast = _synthesize(engine, text, VoiceOptions(16000, speed=1.6))
    assert len(fast) < 0.75 * len(slow)


def test_other_languages_use_espeak() -> None:
    text = "Eine gute Nachricht."
    rate, german = _synthesize("auto", text, VoiceOptions(16000, language="de-DE"))
    assert rate == 22050
    assert german == _synthesize("espeak", text, VoiceOptions(16000, voice="espeak:de"))[1]
    assert german != _synthesize("espeak", text, VoiceOptions(16000, language="en"))[1]


@pytest.mark.parametrize("text", ["नमस्ते दुनिया", "مرحبا بالعالم", "Привет, мир", "你好", "Hello नमस्ते.", "That is €5."])
def test_characters_that_flite_omits_use_espeak(text: str) -> None:
    result = _synthesize("auto", text, VoiceOptions(16000, language="en"))
    assert result == _synthesize("espeak", text, VoiceOptions(16000, language="en"))
    assert measure_level(result[1])[1] > 3000


@pytest.mark.parametrize(
    ("text", "plain"),
    [("Grüße aus Köln", "Grusse aus Koln"), ("über Łódź", "uber Lodz"), ("20 °C", "20  degrees C"), ("café", "cafe")],
)
def test_flite_speaks_accented_letters(text: str, plain: str) -> None:
    assert _synthesize("auto", text, VoiceOptions(16000)) == _synthesize("flite", plain, VoiceOptions(16000))
    assert _synthesize("flite", text, VoiceOptions(16000)) == _synthesize("flite", plain, VoiceOptions(16000))


def test_flite_returns_no_audio_for_text_it_cannot_pronounce() -> None:
    assert _synthesize("flite", "नमस्ते", VoiceOptions(16000))[1] == b""


def test_an_unknown_language_uses_english() -> None:
    assert (
        _synthesize("espeak", "Hello", VoiceOptions(16000, language="xx"))[1]
        == _synthesize("espeak", "Hello", VoiceOptions(16000))[1]
    )


@pytest.mark.parametrize(
    ("language", "code"),
    [("", "en"), ("en", "en"), ("IND-IN", "en"), ("hi-IN", "hi"), ("german", "de"), ("auto", "en"), ("pt_BR", "pt")],
)
def test_language_codes_and_names_are_normalized(language: str, code: str) -> None:
    assert VoiceOptions(16000, language=language).code == code


@pytest.mark.parametrize(("engine", "package"), [("flite", "flite"), ("espeak", "espeak-ng"), ("auto", "espeak-ng")])
def test_a_missing_engine_raises_with_its_package(
    engine: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AudioError, match=package):
        _synthesize(engine, "Hello", VoiceOptions(16000))


LONG = "The quick brown fox, which had slept under the old oak tree since early morning, suddenly jumped over the dog."


def test_flite_speaks_the_first_clause_before_it_prepares_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    audio = registry.create("flite").speak(LONG, VoiceOptions(16000))
    first = next(audio.chunks)
    monkeypatch.setenv("PATH", "/nowhere")  # no process can be started from here on
    _, clause = _synthesize_with_path("The quick brown fox,", monkeypatch)
    assert clause.startswith(first)
    monkeypatch.setenv("PATH", "/nowhere")
    received = len(first)
    with pytest.raises(AudioError, match="flite cannot be started"):
        for chunk in audio.chunks:
            received += len(chunk)
    assert received == len(clause)


def _synthesize_with_path(text: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, bytes]:
    monkeypatch.undo()
    return _synthesize("flite", text, VoiceOptions(16000))


def test_pauses_between_clauses_are_short() -> None:
    rate, pcm = _synthesize("flite", LONG, VoiceOptions(16000))
    frame = rate // 50
    levels = [measure_level(pcm[at : at + 2 * frame])[1] for at in range(0, len(pcm), 2 * frame)]
    loud = [number for number, level in enumerate(levels) if level > 300]
    assert max(b - a for a, b in zip(loud, loud[1:], strict=False)) * 0.02 < 0.45
    assert 5.0 < len(pcm) / 2 / rate < 9.0


@pytest.mark.parametrize("text", ["-------- -------- -- and -- then, -- the last word of this is the only speakable"])
def test_clauses_without_letters_are_skipped(text: str) -> None:
    assert len(_synthesize("flite", text, VoiceOptions(16000))[1]) > 16000


def test_closing_the_chunks_ends_the_process() -> None:
    before = set(_children())
    audio = registry.create("espeak").speak("A long sentence. " * 200, VoiceOptions(16000))
    close = getattr(audio.chunks, "close", None)
    assert close is not None
    close()
    assert set(_children()) <= before


def test_espeak_streams_its_audio() -> None:
    before = set(_children())
    text = "A long sentence that goes on and on. " * 300
    audio = registry.create("espeak").speak(text, VoiceOptions(16000))
    first = next(audio.chunks)
    # The rest exceeds the capacity of a pipe, so that the process is still running.
    assert set(_children()) - before
    assert sum(len(chunk) for chunk in audio.chunks) > max(100 * len(first), 10 << 20)


def test_espeak_waits_for_a_client_that_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "_TIMEOUT_SECONDS", 4.0)
    before = set(_children())
    audio = registry.create("espeak").speak("A long sentence that goes on and on. " * 300, VoiceOptions(16000))
    (process,) = set(_children()) - before
    first = next(audio.chunks)
    # The process waits for its reader longer than it may take for its audio.
    assert not _ends_within(4.2, process)
    assert sum(len(chunk) for chunk in audio.chunks) > max(100 * len(first), 10 << 20)


def test_espeak_that_gives_no_audio_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "espeak-ng"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(espeak, "_TIMEOUT_SECONDS", 0.2)
    before = set(_children())
    with pytest.raises(AudioError, match="no audio for 0.2 s"):
        registry.create("espeak").speak("Good morning.", VoiceOptions(16000))
    assert set(_children()) <= before


def _ends_within(seconds: float, process: str) -> bool:
    descriptor = os.pidfd_open(int(process))
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(descriptor)


def _children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
