"""Rows 63 to 65: transcription services that are slow, take whole seconds only, or break at any byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.agent_fixtures import write_wav
from support.fault_rows import Record
from support.file_transcription import Transcribed, transcribe
from support.recognizers import CurrentMelvinServer, MelvinServer, VoskServer, speech, words_of
from support.scripted import Peer

SERVERS: dict[str, tuple[Callable[..., Any], dict[str, bool]]] = {
    "melvin": (MelvinServer, {}),
    "melvin without word times": (MelvinServer, {"with_words": False}),
    "melvin that answers pings while it computes": (MelvinServer, {"blocks": False}),
    "current melvin": (CurrentMelvinServer, {}),
    "vosk": (VoskServer, {}),
    "vosk without word times": (VoskServer, {"with_words": False}),
}
SLOW_SECONDS = 0.2


def dialect_of(name: str) -> str:
    return name.partition(" ")[0].replace("current", "melvin")


def audio_for(name: str, seconds: float) -> bytes:
    return speech(seconds, pause_after=4 if dialect_of(name) == "vosk" else 0)


def run(path: Path, name: str, pcm: bytes, *limits: int, seconds: float = 0.0, **options: float) -> Transcribed:
    server, more = SERVERS[name]

    def serve(peer: Peer) -> None:
        server(peer, seconds, **more).run()

    write_wav(path, pcm)
    return transcribe(path, serve, *limits, dialect=dialect_of(name), **options)


@pytest.mark.parametrize("seconds", [0.7, 3.5, pytest.param(14.3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["melvin", "melvin that answers pings while it computes", "current melvin", "vosk"])
def test_row_63_each_word_of_a_slow_service_arrives(
    tmp_path: Path, record_row: Record, name: str, seconds: float
) -> None:
    pcm = audio_for(name, seconds)
    result = run(tmp_path / "asked.wav", name, pcm, seconds=SLOW_SECONDS)
    assert result.words == words_of(pcm) and result.gaps == [] and result.connections == 1
    record_row(63, f"{name}, {seconds} s, {SLOW_SECONDS} s per answer: {len(result.words)} words, none missing")


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1.5, 3.0])
@pytest.mark.parametrize("name", ["melvin", "current melvin", "vosk"])
def test_row_63_each_word_of_a_very_slow_service_arrives(
    tmp_path: Path, record_row: Record, name: str, seconds: float
) -> None:
    pcm = audio_for(name, 3.5)
    result = run(tmp_path / "asked.wav", name, pcm, seconds=seconds if dialect_of(name) == "melvin" else seconds / 10)
    assert result.words == words_of(pcm) and result.gaps == [] and result.connections == 1
    record_row(63, f"{name}, 3.5 s, {seconds} s per answer: {len(result.words)} words, none missing")


@pytest.mark.parametrize("name", ["melvin", "melvin that answers pings while it computes", "vosk"])
def test_row_63_audio_without_an_answer_is_a_gap(tmp_path: Path, record_row: Record, name: str) -> None:
    """The service needs longer for one answer than the longest silence."""
    pcm = audio_for(name, 3.5)
    stopped: list[Any] = []

    def serve(peer: Peer) -> None:
        server, more = SERVERS[name]
        stopped.append(server(peer, 0.0, **more))
        count = 0

        def compute() -> None:
            nonlocal count
            count += 1
            if count > 2:
                peer.over.wait(1.0)

        stopped[-1].compute = compute
        stopped[-1].run()

    write_wav(tmp_path / "asked.wav", pcm)
    result = transcribe(tmp_path / "asked.wav", serve, dialect=dialect_of(name), answer_seconds=0.6)
    assert result.lost(pcm) == [] and result.repeated == []
    if dialect_of(name) == "melvin":  # vosk-server answers the rest when it reads the end mark
        (gap,) = result.gaps
        assert gap.start_seconds + gap.seconds == pytest.approx(3.5) and gap.start_seconds in (2.0, 3.0)
        assert 0 < len(result.words) < len(words_of(pcm))
        record_row(63, f"{name}, no answer in time: {gap.seconds:.1f} s reported after {gap.start_seconds:.1f} s")


@pytest.mark.parametrize("seconds", [0.3, 0.7, 1.0, 2.3, 5.9, 6.0, 6.1, 11.8, 14.3])
@pytest.mark.parametrize("name", ["melvin", "melvin without word times"])
def test_row_64_each_word_of_a_service_that_takes_whole_seconds_arrives(
    tmp_path: Path, record_row: Record, name: str, seconds: float
) -> None:
    pcm = speech(seconds)
    result = run(tmp_path / "asked.wav", name, pcm)
    assert result.words == words_of(pcm) and result.words and result.gaps == []
    record_row(64, f"{name}, {seconds} s: {len(result.words)} words, none missing")


@pytest.mark.parametrize("name", [name for name in SERVERS if "current" not in name and "pings" not in name])
@pytest.mark.parametrize("step", [61, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_row_65_each_word_is_transcribed_once_after_a_reset_at_any_byte(
    tmp_path: Path, record_row: Record, name: str, step: int
) -> None:
    pcm = audio_for(name, 7.3)
    path = tmp_path / "asked.wav"
    whole = run(path, name, pcm)
    assert whole.words == words_of(pcm)
    wrong = []
    cuts = range(0, whole.first_bytes, step)
    for limit in cuts:
        result = run(path, name, pcm, limit)
        if result.words != whole.words or result.gaps:
            wrong.append((limit, result))
    assert wrong == []
    record_row(65, f"{name}: {len(cuts)} cuts, each of {len(whole.words)} words once, no gap")


@pytest.mark.slow
def test_row_65_words_of_finals_without_a_position_are_not_repeated(tmp_path: Path, record_row: Record) -> None:
    """The current melvin-asr sends finals whose end in the audio is unknown."""
    name, pcm = "current melvin", speech(7.3)
    path = tmp_path / "asked.wav"
    whole = run(path, name, pcm)
    cuts = range(0, whole.first_bytes, 97)
    for limit in cuts:
        result = run(path, name, pcm, limit)
        assert result.repeated == [] and result.lost(pcm) == [], limit
    record_row(65, f"{name}: {len(cuts)} cuts, no word twice, none lost")


@pytest.mark.parametrize("name", ["melvin", "vosk"])
def test_row_65_two_resets_in_one_file_repeat_no_word(tmp_path: Path, record_row: Record, name: str) -> None:
    pcm = audio_for(name, 14.3)
    path = tmp_path / "asked.wav"
    whole = run(path, name, pcm)
    count = 0
    for first in range(100, whole.first_bytes, 701):
        for second in range(50, 1500, 499):
            result = run(path, name, pcm, first, second)
            assert result.words == whole.words and result.gaps == [], (first, second)
            count += 1
    record_row(65, f"{name}: {count} pairs of cuts, each of {len(whole.words)} words once")
