"""The account of what a transcription service has answered."""

from __future__ import annotations

import pytest

from agent.services.protocols.answers import BYTES_PER_SECOND, WINDOW_BYTES, FrameAnswers, LateAnswers, WindowAnswers


def test_vosk_owes_a_reply_for_each_message() -> None:
    answers = FrameAnswers()
    assert answers.is_complete and answers.padding_bytes == 0
    for size in (3200, 6400, 3200):
        answers.add_audio(size)
    answers.add_partial()
    assert (answers.is_complete, answers.answered_bytes, answers.final_bytes) == (False, 3200, 0)
    answers.add_final()
    assert (answers.is_complete, answers.answered_bytes, answers.final_bytes) == (False, 9600, 9600)
    answers.add_partial()
    assert answers.is_complete and answers.answered_bytes == 12800 and answers.final_bytes == 9600
    answers.add_final()  # of the end mark
    assert answers.final_bytes == 12800


def test_melvin_owes_a_final_for_each_six_seconds() -> None:
    answers = WindowAnswers()
    for _ in range(7):
        answers.add_audio(BYTES_PER_SECOND)
    assert not answers.is_complete and answers.padding_bytes == WINDOW_BYTES - BYTES_PER_SECOND
    for number in range(1, 4):
        answers.add_partial()
        assert answers.answered_bytes == number * BYTES_PER_SECOND
    answers.add_final()
    assert answers.final_bytes == answers.answered_bytes == WINDOW_BYTES and not answers.is_complete
    answers.add_audio(answers.padding_bytes)
    assert not answers.is_complete
    answers.add_final()
    assert answers.is_complete and answers.final_bytes == 2 * WINDOW_BYTES


def test_a_partial_without_words_answers_no_audio() -> None:
    answers = WindowAnswers()
    answers.add_audio(3 * BYTES_PER_SECOND)
    answers.add_partial(has_words=False)
    assert answers.answered_bytes == 0
    answers.add_partial()
    assert answers.answered_bytes == 2 * BYTES_PER_SECOND


def test_a_window_ends_with_the_message_that_completes_it() -> None:
    answers = WindowAnswers()
    answers.add_audio(WINDOW_BYTES - 2)
    answers.add_audio(BYTES_PER_SECOND)
    assert answers.padding_bytes == WINDOW_BYTES
    answers.add_final()
    assert answers.is_complete and answers.final_bytes == WINDOW_BYTES - 2 + BYTES_PER_SECOND


def test_a_partial_for_each_second_is_a_complete_answer_as_well() -> None:
    answers = WindowAnswers()
    answers.add_audio(BYTES_PER_SECOND + 3200)
    answers.add_partial()
    assert not answers.is_complete, "the rest of the second is not transcribed"
    answers.add_audio(answers.padding_bytes)
    for _ in range(5):
        assert not answers.is_complete
        answers.add_partial()
    assert answers.is_complete


@pytest.mark.parametrize("case", ["early", "from words", "many partials"])
def test_a_final_of_a_later_version_has_no_position(case: str) -> None:
    answers = WindowAnswers()
    answers.add_audio(WINDOW_BYTES // 2 if case == "early" else WINDOW_BYTES)
    for _ in range(7 if case == "many partials" else 1):
        answers.add_partial()
    answers.add_final(is_from_words=case == "from words")
    assert answers.final_bytes is None and not answers.is_complete


def test_a_service_that_answers_late_owes_nothing_before_the_end_mark() -> None:
    answers = LateAnswers()
    answers.add_audio(64000)
    assert answers.is_complete and answers.padding_bytes == 0 and answers.final_bytes is None
