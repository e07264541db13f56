"""Answers to a question of the device."""

from __future__ import annotations

import pytest

from agent.pipeline.text.confirming import SENTENCES, is_no, is_yes, sentence

YES = ["Yes.", "Yes, please.", "OK, do it!", "Ja, mach das.", "D’accord.", "¡Sí, claro!", "Sì, grazie.", "जी हाँ।"]
NO = ["No.", "No, thanks.", "Yes... no!", "Nein, nicht.", "Don’t do it.", "नहीं।"]
NEITHER = ["", "...", "Please.", "Yes, but not now.", "Yesterday.", "What time is it?"]


@pytest.mark.parametrize("text", YES)
def test_agreement_is_a_yes(text: str) -> None:
    assert is_yes(text) and not is_no(text)


@pytest.mark.parametrize("text", NO)
def test_refusal_is_a_no_also_beside_a_yes(text: str) -> None:
    assert is_no(text) and not is_yes(text)


@pytest.mark.parametrize("text", NEITHER)
def test_other_text_does_not_agree(text: str) -> None:
    assert not is_yes(text) and not is_no(text)


def test_every_language_has_each_sentence_and_another_one_uses_english() -> None:
    assert {frozenset(each) for each in SENTENCES.values()} == {frozenset(("ask", "done", "failed"))}
    assert all("{action}" in each["ask"] for each in SENTENCES.values())
    assert sentence("done", "fi") == SENTENCES["en"]["done"]
