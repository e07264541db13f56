from __future__ import annotations

import pytest

from agent.audio.format import Format
from agent.pipeline.tts.position import SpokenPosition
from agent.server.tts import tone

FORMAT = Format(16000)
SENTENCES = ["One two three four five.", "Six seven eight nine ten.", "Red green blue."]


def spoken(*parts: str, pause_seconds: float = 0.0) -> bytes:
    """Tones of 0.2 s for each word, and silence between the parts."""
    return bytes(FORMAT.bytes_of(pause_seconds)).join(tone.pcm(part, FORMAT.rate) for part in parts)


@pytest.mark.parametrize(
    ("played_seconds", "rest"),
    [
        (0.0, ["One.", "Two.", "Three."]),
        (0.19, ["One.", "Two.", "Three."]),
        (0.25, ["One.", "Two.", "Three."]),  # the decoder may return the end of a passage after its mark
        (0.31, ["Two.", "Three."]),
        (0.55, ["Three."]),
        (9.0, ["Three."]),
    ],
)
def test_marks_of_the_service_are_exact(played_seconds: float, rest: list[str]) -> None:
    position = SpokenPosition(FORMAT)
    for number in (0, 1, 2):
        position.mark(number)
        position.add(spoken("word"))
    assert position.rest([["One."], ["Two."], ["Three."]], played_seconds) == rest


@pytest.mark.parametrize(
    ("played_seconds", "first"),
    [(0.5, 0), (0.95, 0), (1.05, 1), (1.5, 1), (2.15, 1), (2.25, 2), (2.9, 2)],
)
def test_boundary_of_sentences_is_the_pause_between_them(played_seconds: float, first: int) -> None:
    """The pauses start after 1.0 and 2.2 seconds."""
    position = SpokenPosition(FORMAT)
    position.add(spoken(*SENTENCES, pause_seconds=0.2))
    position.mark(1)
    assert position.rest([SENTENCES], played_seconds) == [" ".join(SENTENCES[first:])]


@pytest.mark.parametrize("played_seconds", [tenths / 10 for tenths in range(27)])
def test_no_sentence_that_was_not_heard_is_skipped_without_pauses(played_seconds: float) -> None:
    position = SpokenPosition(FORMAT)
    position.add(spoken(*SENTENCES))
    position.mark(1)
    (rest,) = position.rest([SENTENCES], played_seconds)
    heard = [sum(len(each.split()) for each in SENTENCES[:count]) * tone.WORD_SECONDS for count in (1, 2)]
    current = sum(played_seconds >= end for end in heard)
    assert rest in (" ".join(SENTENCES[current:]), " ".join(SENTENCES[max(0, current - 1) :]))


def test_pause_inside_a_sentence_does_not_end_it() -> None:
    position = SpokenPosition(FORMAT)
    position.add(spoken("One two three,", "four five.", "Six seven eight nine ten.", pause_seconds=0.2))
    position.mark(1)
    sentences = ["One two three, four five.", "Six seven eight nine ten."]
    assert position.rest([sentences], 0.9) == [" ".join(sentences)]
    assert position.rest([sentences], 1.3) == [sentences[1]]


def test_speech_continues_after_the_last_known_boundary_while_audio_is_missing() -> None:
    position = SpokenPosition(FORMAT)
    position.add(spoken("One."))
    position.mark(1)
    position.add(spoken("Two three. Four"))
    assert position.rest([["One."], ["Two three.", "Four five."]], 0.7) == ["Two three. Four five."]


def test_chime_is_not_part_of_the_first_sentence() -> None:
    position = SpokenPosition(FORMAT)
    position.add(bytes(FORMAT.bytes_of(2.0)), is_speech=False)
    position.add(spoken(*SENTENCES, pause_seconds=0.2))
    position.mark(1)
    assert position.rest([SENTENCES], 2.5) == [" ".join(SENTENCES)]
    assert position.rest([SENTENCES], 3.1) == [" ".join(SENTENCES[1:])]


def test_played_text_has_the_whole_sentences_and_the_begin_of_the_cut_one() -> None:
    position = SpokenPosition(FORMAT)
    position.add(spoken("word", "word", "word", "word", "word"))  # 1 s
    position.mark(1)
    position.add(bytes(FORMAT.bytes_of(2.0)))
    passages = [["One two three four five."], ["Six seven eight nine ten."]]
    assert position.played_sentences(passages, 0.0) == []
    assert position.played_sentences(passages, 0.6) == ["One two"]
    assert position.played_sentences(passages, 2.2) == ["One two three four five.", "Six seven eight"]
    assert position.played_sentences(passages, 9.0) == ["One two three four five.", "Six seven eight nine ten."]
