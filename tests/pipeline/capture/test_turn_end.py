"""Whether a partial transcript shows that the user has finished."""

from __future__ import annotations

import pytest

from agent.pipeline.capture.pauses import PauseChooser
from agent.pipeline.capture.turn_end import Completeness, judge

COMPLETE, UNSURE, INCOMPLETE = Completeness.COMPLETE, Completeness.UNSURE, Completeness.INCOMPLETE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What time is it?", COMPLETE),
        ("Turn the light on.", COMPLETE),
        ("Turn it on.", UNSURE),
        ("Who are you?", COMPLETE),
        ("And you?", UNSURE),
        ("Where are you from?", INCOMPLETE),
        ("How do I get from?", INCOMPLETE),
        ("Wake me", UNSURE),
        ("What time does?", INCOMPLETE),
        ("the code is four", INCOMPLETE),
        ("quiero saber si", INCOMPLETE),
        ("llama a mi", INCOMPLETE),
        ("turn the light on", UNSURE),
        ("what time is it", UNSURE),
        ("stop", UNSURE),
        ("the", UNSURE),
        ("", UNSURE),
        ("...", UNSURE),
        ("turn on the", INCOMPLETE),
        ("Set a timer for.", INCOMPLETE),
        ("I would like to", INCOMPLETE),
        ("I would like, um,", INCOMPLETE),
        ("two tickets, one bicycle,", INCOMPLETE),
        ("the first one is...", INCOMPLETE),
        ("when does the train leave and", INCOMPLETE),
        ("my number is five five", INCOMPLETE),
        ("my number is 0 1 7", INCOMPLETE),
        ("the train from platform five.", COMPLETE),
        ("Wie spät ist es?", COMPLETE),
        ("mach das Licht an", UNSURE),
        ("schalte das Licht ein", UNSURE),
        ("weck mich um sechs", UNSURE),
        ("ich möchte eine Fahrkarte nach Berlin und", INCOMPLETE),
        ("wann fährt der nächste Zug von", INCOMPLETE),
        ("meine Nummer ist null eins", INCOMPLETE),
        ("Quelle heure est-il ?", COMPLETE),
        ("je voudrais un billet pour", INCOMPLETE),
        ("est-ce que tu peux me dire le", INCOMPLETE),
        ("¿Qué hora es?", COMPLETE),
        ("qué hora es", UNSURE),
        ("quiero un billete para el", INCOMPLETE),
        ("dov'è la stazione", UNSURE),
        ("vorrei un biglietto per la", INCOMPLETE),
        ("que horas são", UNSURE),
        ("eu queria uma passagem com", INCOMPLETE),
        ("doe het licht aan", UNSURE),
        ("ik wil graag een kaartje naar de", INCOMPLETE),
        ("समय क्या हुआ है।", COMPLETE),
        ("मुझे दिल्ली के लिए", INCOMPLETE),
    ],
)
def test_partial_is_judged_by_its_last_words(text: str, expected: Completeness) -> None:
    assert judge(text) is expected


def test_known_request_is_complete_unless_its_last_word_is_open() -> None:
    def knows_time(text: str) -> bool:
        return "time" in text

    assert judge("what time is it", knows_time) is COMPLETE
    assert judge("what time is it in the", knows_time) is INCOMPLETE


def test_chooser_returns_the_pause_of_the_text() -> None:
    chooser = PauseChooser(0.3, 0.7, 1.2, lambda text: False)
    texts = ("Hello over there, you.", "hello there", "hello and")
    assert [chooser.choose(text) for text in texts] == [0.3, 0.7, 1.2]
