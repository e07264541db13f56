from __future__ import annotations

import pytest

from agent.pipeline.responders.intents.device_sentences import device_sentences
from agent.pipeline.responders.settings import INTENT_LANGUAGES

DEVICES = {
    "en": [
        "Turn on the kitchen light.",
        "turn off all lights",
        "set the bedroom to 21 degrees",
        "open the garage door",
        "activate movie night",
        "is the front door locked",
        "how warm is it in the kitchen",
        "add milk to the shopping list",
        "play some jazz",
        "what's the weather",
        "set the brightness of the desk lamp to 30%",
        "set the brightness of the desk lamp to min",
    ],
    "de": [
        "Schalte das Licht in der Küche ein.",
        "Küchenlicht an",
        "ist die Haustür abgeschlossen",
        "öffne die Rollläden",
        "stelle die Heizung auf 21 Grad",
    ],
    "fr": ["allume la lumière de la cuisine", "éteins toutes les lumières", "ouvre les volets"],
    "es": ["enciende la luz de la cocina", "apaga todas las luces", "abre las persianas"],
    "hi": ["रसोई की लाइट चालू करो", "सारी लाइटें बंद करो", "पंखा चालू करो"],
}
OTHER = {
    "en": [
        "what is the meaning of life",
        "who is the president of France",
        "tell me a story about a dragon who lives in a cave",
        "how do I turn on Bluetooth on my phone",
        "good morning",
        "who are you",
        "set a timer for five minutes",
    ],
    "de": ["was ist der Sinn des Lebens", "erzähl mir einen Witz", "wie hoch ist der Mount Everest"],
    "fr": ["quel est le sens de la vie", "raconte-moi une blague", "qui es-tu"],
    "es": ["cuál es el sentido de la vida", "cuéntame un chiste", "quién eres"],
    "hi": ["जीवन का अर्थ क्या है", "एक चुटकुला सुनाओ", "तुम कौन हो"],
}


@pytest.mark.parametrize(("code", "text"), [(code, text) for code in INTENT_LANGUAGES for text in DEVICES[code]])
def test_request_for_a_device_is_recognized(code: str, text: str) -> None:
    assert device_sentences(code).matches(text)


@pytest.mark.parametrize(("code", "text"), [(code, text) for code in INTENT_LANGUAGES for text in OTHER[code]])
def test_other_text_is_none(code: str, text: str) -> None:
    assert not device_sentences(code).matches(text)


def test_empty_and_long_texts_are_none() -> None:
    assert not device_sentences("en").matches(" ") and not device_sentences("en").matches("turn on the lamp " * 50)
