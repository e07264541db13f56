"""The local recogniser on human speech: LibriVox recordings with transcripts, from Debian's pocketsphinx-testdata."""

from __future__ import annotations

import json
import re
import time
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.local_server import Running
from websockets.sync.client import connect

SPEECH = Path("/usr/share/pocketsphinx/test/data/librivox")
HIGHEST_WORD_ERROR_RATE = 0.15
_LINE = re.compile(r"<s> (.*) </s> \((.*)\)")


@dataclass(frozen=True)
class Heard:
    finals: list[dict[str, object]]
    partials_before_the_end: list[str]
    code: int | None

    @property
    def text(self) -> str:
        return " ".join(str(final["text"]).strip() for final in self.finals)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("moonshine"), "--recognition", "moonshine", "--speech", "tone") as running:
        yield running


def _recordings() -> list[tuple[str, bytes]]:
    found = []
    for line in (SPEECH / "transcription").read_text().splitlines():
        match = _LINE.fullmatch(line.strip())
        assert match, line
        with wave.open(str(SPEECH / f"{match[2]}.wav")) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
            found.append((match[1], file.readframes(file.getnframes())))
    return found


def _hear(server: Running, pcm: bytes) -> Heard:
    """All but the last moment of the sound, then the first partial; then the rest and ``eof``."""
    with connect(f"{server.ws}/") as ws:
        last = (len(pcm) - 1) // 3200 * 3200
        for at in range(0, last, 3200):
            ws.send(pcm[at : at + 3200])
        partials = [json.loads(ws.recv(timeout=60))["partial"]]
        ws.send(pcm[last:])
        ws.send("eof")
        *told, _ = [str(message) for message in ws]
        return Heard([found for message in told if "text" in (found := json.loads(message))], partials, ws.close_code)


def _words(text: str) -> list[str]:
    return re.sub(r"[^a-z' ]+", " ", text.lower().replace("mr.", "mister")).split()


def _errors(wanted: list[str], heard: list[str]) -> int:
    row = list(range(len(heard) + 1))
    for i, word in enumerate(wanted, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]


def test_human_speech_is_understood_and_partials_come_before_its_end(
    server: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = total = 0
    for wanted, pcm in _recordings():
        began = time.monotonic()
        heard = _hear(server, pcm)
        took = time.monotonic() - began
        wrong = _errors(_words(wanted), _words(heard.text))
        errors, total = errors + wrong, total + len(_words(wanted))
        with capsys.disabled():
            print(f"\n  {len(pcm) / 32000:4.1f} s in {took:4.2f} s, {wrong} wrong: {heard.text}", end="")
        assert heard.partials_before_the_end[0].strip()
        assert heard.code == 1000
    with capsys.disabled():
        print(f"\n  word error rate: {errors}/{total} = {errors / total:.1%}")
    assert errors / total <= HIGHEST_WORD_ERROR_RATE


def test_words_have_times_within_their_sound(server: Running) -> None:
    wanted, pcm = _recordings()[0]
    words = [word for final in _hear(server, pcm).finals for word in final["result"]]  # type: ignore[attr-defined]
    assert len(words) >= len(wanted.split()) * 0.8
    starts = [word["start"] for word in words]
    assert starts == sorted(starts)
    assert all(0 <= word["start"] < word["end"] <= len(pcm) / 32000 + 1 for word in words)


def test_two_pieces_of_speech_with_a_pause_are_two_finals(server: Running) -> None:
    recordings = _recordings()
    pause = bytes(32000 * 2)
    heard = _hear(server, recordings[1][1] + pause + recordings[4][1] + pause)
    assert len(heard.finals) >= 2
    assert "young" in str(heard.finals[0]["text"]).lower()
    assert "himself" in str(heard.finals[-1]["text"]).lower()


def test_silence_is_no_speech(server: Running) -> None:
    with connect(f"{server.ws}/") as ws:
        for _ in range(30):
            ws.send(bytes(3200))
        ws.send("eof")
        told = list(ws)
    assert len(told) == 1  # the export ID and nothing else
