"""The engines that really speak."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.audio.convert import measure_level
from agent.errors import AudioError
from agent.server.tts import registry
from agent.server.tts.engine import VoiceOptions


def _spoken(engine: str, text: str, manner: VoiceOptions) -> tuple[int, bytes]:
    said = registry.create(engine).speak(text, manner)
    return said.rate, b"".join(said.chunks)


@pytest.mark.parametrize("engine", ["flite", "espeak", "auto"])
def test_an_engine_speaks_at_a_natural_pace(engine: str) -> None:
    rate, pcm = _spoken(engine, "Good morning, how are you today?", VoiceOptions(16000))
    seconds = len(pcm) / 2 / rate
    assert 1.0 < seconds < 4.0
    assert measure_level(pcm)[1] > 3000


@pytest.mark.parametrize("engine", ["flite", "espeak"])
@pytest.mark.parametrize(
    "text", ["--help", "-v nothing", "$(touch /tmp/x) `id`; | & > \\ \"'", "/etc/passwd", "café ☕ \0"]
)
def test_a_text_is_never_an_option_a_command_or_a_file(engine: str, text: str, tmp_path: Path) -> None:
    _, pcm = _spoken(engine, text, VoiceOptions(16000))
    _, longer = _spoken(engine, f"{text} and something more after it", VoiceOptions(16000))
    assert 0 < len(pcm) < len(longer)


@pytest.mark.parametrize("engine", ["flite", "espeak", "tone"])
@pytest.mark.parametrize("text", ["", "  ", "...", "-"])
def test_a_text_without_a_word_is_no_error(engine: str, text: str) -> None:
    _spoken(engine, text, VoiceOptions(16000))


@pytest.mark.parametrize("engine", ["flite", "espeak"])
def test_a_higher_speed_takes_less_time(engine: str) -> None:
    text = "This sentence is spoken twice."
    _, slow = _spoken(engine, text, VoiceOptions(16000, speed=0.8))
    _, fast = _spoken(engine, text, VoiceOptions(16000, speed=1.6))
    assert len(fast) < 0.75 * len(slow)


def test_another_language_is_spoken_by_espeak_and_sounds_different() -> None:
    text = "Eine gute Nachricht."
    rate, german = _spoken("auto", text, VoiceOptions(16000, language="de-DE"))
    assert rate == 22050
    assert german == _spoken("espeak", text, VoiceOptions(16000, voice="espeak:de"))[1]
    assert german != _spoken("espeak", text, VoiceOptions(16000, language="en"))[1]


@pytest.mark.parametrize("text", ["नमस्ते दुनिया", "مرحبا بالعالم", "Привет, мир", "你好", "Hello नमस्ते.", "That is €5."])
def test_what_flite_would_leave_out_is_spoken_by_espeak(text: str) -> None:
    """With the voice that is the default a sentence in Hindi was a fifth of a second of silence, and taken for said."""
    said = _spoken("auto", text, VoiceOptions(16000, language="en"))
    assert said == _spoken("espeak", text, VoiceOptions(16000, language="en"))
    assert measure_level(said[1])[1] > 3000


@pytest.mark.parametrize(
    ("text", "plain"),
    [("Grüße aus Köln", "Grusse aus Koln"), ("über Łódź", "uber Lodz"), ("20 °C", "20  degrees C"), ("café", "cafe")],
)
def test_flite_leaves_out_no_letter_for_its_accent(text: str, plain: str) -> None:
    """It said Kln for Köln."""
    assert _spoken("auto", text, VoiceOptions(16000)) == _spoken("flite", plain, VoiceOptions(16000))
    assert _spoken("flite", text, VoiceOptions(16000)) == _spoken("flite", plain, VoiceOptions(16000))


def test_flite_gives_no_sound_for_a_text_of_which_it_would_say_nothing() -> None:
    """A little silence was taken for what had been asked for."""
    assert _spoken("flite", "नमस्ते", VoiceOptions(16000))[1] == b""


def test_a_language_that_nobody_knows_is_read_in_english() -> None:
    assert (
        _spoken("espeak", "Hello", VoiceOptions(16000, language="xx"))[1]
        == _spoken("espeak", "Hello", VoiceOptions(16000))[1]
    )


@pytest.mark.parametrize(
    ("language", "code"),
    [("", "en"), ("en", "en"), ("IND-IN", "en"), ("hi-IN", "hi"), ("german", "de"), ("auto", "en"), ("pt_BR", "pt")],
)
def test_languages_are_known_by_the_names_the_services_have_for_them(language: str, code: str) -> None:
    assert VoiceOptions(16000, language=language).code == code


@pytest.mark.parametrize(("engine", "package"), [("flite", "flite"), ("espeak", "espeak-ng"), ("auto", "espeak-ng")])
def test_an_engine_that_is_not_installed_names_its_package(
    engine: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AudioError, match=package):
        _spoken(engine, "Hello", VoiceOptions(16000))


def test_speech_that_is_not_wanted_any_more_leaves_no_program_behind() -> None:
    before = set(_children())
    said = registry.create("espeak").speak("A long sentence. " * 200, VoiceOptions(16000))
    close = getattr(said.chunks, "close", None)
    assert close is not None
    close()
    assert set(_children()) <= before


def test_espeak_gives_its_first_sound_before_it_has_spoken_all() -> None:
    before = set(_children())
    text = "A long sentence that goes on and on. " * 300
    said = registry.create("espeak").speak(text, VoiceOptions(16000))
    first = next(said.chunks)
    # Far more than a pipe holds is still to come, so that it cannot have ended, however long ago it gave the first.
    assert set(_children()) - before
    assert sum(len(chunk) for chunk in said.chunks) > max(100 * len(first), 10 << 20)


def _children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
