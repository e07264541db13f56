"""moonshine on human speech: LibriVox recordings with transcripts, from Debian's pocketsphinx-testdata."""

from __future__ import annotations

import json
import re
import time
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.local_server import LocalServerProcess
from support.timing import MAX_TRIES
from websockets.sync.client import connect

SPEECH = Path("/usr/share/pocketsphinx/test/data/librivox")
MAX_WORD_ERROR_RATE = 0.15
_LINE = re.compile(r"<s> (.*) </s> \((.*)\)")


@dataclass(frozen=True)
class Recognition:
    finals: list[dict[str, object]]
    early_partials: list[str]
    code: int | None

    @property
    def text(self) -> str:
        return " ".join(str(final["text"]).strip() for final in self.finals)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServerProcess]:
    with LocalServerProcess(
        tmp_path_factory.mktemp("moonshine"), "--recognition", "moonshine", "--speech", "tone"
    ) as running:
        yield running


def _recordings() -> list[tuple[str, bytes]]:
    recordings = []
    for line in (SPEECH / "transcription").read_text().splitlines():
        match = _LINE.fullmatch(line.strip())
        assert match, line
        with wave.open(str(SPEECH / f"{match[2]}.wav")) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
            recordings.append((match[1], file.readframes(file.getnframes())))
    return recordings


def _recognize(server: LocalServerProcess, pcm: bytes) -> Recognition:
    """Send all but the last chunk, wait for the first partial, then send the rest and ``eof``."""
    with connect(f"{server.ws}/") as ws:
        last = (len(pcm) - 1) // 3200 * 3200
        for at in range(0, last, 3200):
            ws.send(pcm[at : at + 3200])
        answers = (str(ws.recv(timeout=60)) for _ in range(MAX_TRIES))
        # While recognition falls behind, a client is asked to wait, in words.
        partials = [json.loads(next(answer for answer in answers if answer.startswith("{")))["partial"]]
        ws.send(pcm[last:])
        ws.send("eof")
        *messages, _ = [str(message) for message in ws]
        finals = [final for message in messages if "text" in (final := json.loads(message))]
        return Recognition(finals, partials, ws.close_code)


def _words(text: str) -> list[str]:
    return re.sub(r"[^a-z' ]+", " ", text.lower().replace("mr.", "mister")).split()


def _errors(wanted: list[str], heard: list[str]) -> int:
    row = list(range(len(heard) + 1))
    for i, word in enumerate(wanted, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]


def test_human_speech_is_recognized_with_early_partials(
    server: LocalServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = total = 0
    for wanted, pcm in _recordings():
        began = time.monotonic()
        heard = _recognize(server, pcm)
        took = time.monotonic() - began
        wrong = _errors(_words(wanted), _words(heard.text))
        errors, total = errors + wrong, total + len(_words(wanted))
        with capsys.disabled():
            print(f"\n  {len(pcm) / 32000:4.1f} s in {took:4.2f} s, {wrong} wrong: {heard.text}", end="")
        assert heard.early_partials[0].strip()
        assert heard.code == 1000
    with capsys.disabled():
        print(f"\n  word error rate: {errors}/{total} = {errors / total:.1%}")
    assert errors / total <= MAX_WORD_ERROR_RATE


def test_word_times_are_within_the_audio(server: LocalServerProcess) -> None:
    wanted, pcm = _recordings()[0]
    words = [word for final in _recognize(server, pcm).finals for word in final["result"]]  # type: ignore[attr-defined]
    assert len(words) >= len(wanted.split()) * 0.8
    starts = [word["start"] for word in words]
    assert starts == sorted(starts)
    assert all(0 <= word["start"] < word["end"] <= len(pcm) / 32000 + 1 for word in words)


def test_a_pause_separates_two_finals(server: LocalServerProcess) -> None:
    recordings = _recordings()
    pause = bytes(32000 * 2)
    heard = _recognize(server, recordings[1][1] + pause + recordings[4][1] + pause)
    assert len(heard.finals) >= 2
    assert "young" in str(heard.finals[0]["text"]).lower()
    assert "himself" in str(heard.finals[-1]["text"]).lower()


def test_silence_gives_no_transcript(server: LocalServerProcess) -> None:
    with connect(f"{server.ws}/") as ws:
        for _ in range(30):
            ws.send(bytes(3200))
        ws.send("eof")
        messages = list(ws)
    assert len(messages) == 1  # only the export ID
