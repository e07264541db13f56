from __future__ import annotations

import random
import re

import pytest

from agent.pipeline.responders.intents.language import find_language
from agent.pipeline.responders.intents.recognizer import IntentRecognizer, recognizer_for
from agent.pipeline.responders.settings import INTENT_LANGUAGES

REQUESTS: dict[str, list[tuple[str, str, dict[str, object]]]] = {
    "en": [
        ("set a timer for ten minutes", "StartTimer", {"minutes": 10}),
        ("set a timer for two and a half hours", "StartTimer", {"hours": 2, "minutes": 30}),
        ("turn off the alarm", "CancelAlarm", {}),
        ("set a timer for an hour and a half", "StartTimer", {"hours": 1, "minutes": 30}),
        ("set a pizza timer for twelve minutes", "StartTimer", {"name": "pizza", "minutes": 12}),
        ("five minute timer", "StartTimer", {"minutes": 5}),
        ("how long is left on the pizza timer", "ListTimers", {"name": "pizza"}),
        ("what timers do I have", "ListTimers", {}),
        ("add five minutes to the timer", "IncreaseTimer", {"minutes": 5}),
        ("pause the timer", "PauseTimer", {}),
        ("resume the timer", "ResumeTimer", {}),
        ("cancel the pizza timer", "CancelTimer", {"name": "pizza"}),
        ("cancel all timers", "CancelAllTimers", {}),
        ("Wake me at 7:30 a.m. tomorrow.", "SetAlarm", {"hour": 7, "minute": 30, "half_day": "am", "day": 1}),
        ("set an alarm for half past six", "SetAlarm", {"hour": 6, "past": 30}),
        ("cancel the alarm", "CancelAlarm", {}),
        ("snooze", "Snooze", {}),
        ("what time is it?", "GetTime", {}),
        ("what day is it today", "GetDate", {}),
        ("Volume 40%", "SetVolume", {"volume": 40}),
        ("louder please", "VolumeUp", {}),
        ("Stop!", "Stop", {}),
        ("mute", "Mute", {}),
        ("repeat that", "Repeat", {}),
        ("what can I say", "Help", {}),
        ("set a timer for 120 minutes", "StartTimer", {"minutes": 120}),
        ("set a one hundred twenty minute timer", "StartTimer", {"minutes": 120}),
        ("set a timer for an hour and fifteen minutes", "StartTimer", {"hours": 1, "minutes": 15}),
        ("set a timer for a minute and a half", "StartTimer", {"minutes": 1, "seconds": 30}),
        ("add a minute to the timer", "IncreaseTimer", {"minutes": 1}),
        ("add an hour to my pizza timer", "IncreaseTimer", {"hours": 1, "name": "pizza"}),
        ("take a minute off the timer", "DecreaseTimer", {"minutes": 1}),
        ("wake me at twenty-five to eight", "SetAlarm", {"hour": 8, "before": 25}),
        ("wake me at seven oh five", "SetAlarm", {"hour": 7, "minute": 5}),
        ("Set a timer for 1.5 hours.", "StartTimer", {"hours": 1, "minutes": 30}),
        ("set a timer for 2 1/2 hours", "StartTimer", {"hours": 2, "minutes": 30}),
        ("set a timer for ½ hour", "StartTimer", {"minutes": 30}),
        ("set a timer for 1.25 minutes", "StartTimer", {"minutes": 1, "seconds": 15}),
        ("Set a 1.5-hour timer.", "StartTimer", {"hours": 1, "minutes": 30}),
        ("timer 10 mins", "StartTimer", {"minutes": 10}),
        ("set a timer for 2 hrs", "StartTimer", {"hours": 2}),
        ("set a timer for a hundred minutes", "StartTimer", {"minutes": 100}),
    ],
    "de": [
        ("weck mich in 20 Minuten", "StartTimer", {"minutes": 20}),
        ("Weck mich um 7:30 Uhr.", "SetAlarm", {"hour": 7, "minute": 30}),
        ("Lautstärke 40 %", "SetVolume", {"volume": 40}),
        ("erinnere mich in einer halben Stunde", "StartTimer", {"minutes": 30}),
        ("weck mich um fünf vor sieben", "SetAlarm", {"hour": 7, "before": 5}),
        ("weck mich noch mal in 5 Minuten", "Snooze", {"minutes": 5}),
        ("stell einen Timer auf zehn Minuten", "StartTimer", {"minutes": 10}),
        ("Stelle einen Timer auf 5 Minuten.", "StartTimer", {"minutes": 5}),
        ("stell einen Pizza Timer auf zwölf Minuten", "StartTimer", {"name": "Pizza", "minutes": 12}),
        ("stell einen Timer auf eine halbe Stunde", "StartTimer", {"minutes": 30}),
        ("lösche den Timer", "CancelTimer", {}),
        ("lösche den Pizza Timer", "CancelTimer", {"name": "Pizza"}),
        ("lösche alle Timer", "CancelAllTimers", {}),
        ("wie lange läuft der Timer noch", "ListTimers", {}),
        ("welche Timer laufen", "ListTimers", {}),
        ("verlängere den Timer um fünf Minuten", "IncreaseTimer", {"minutes": 5}),
        ("pausiere den Timer", "PauseTimer", {}),
        ("wie spät ist es", "GetTime", {}),
        ("welcher Tag ist heute", "GetDate", {}),
        ("weck mich um sieben Uhr", "SetAlarm", {"hour": 7}),
        ("weck mich morgen um halb acht", "SetAlarm", {"day": 1, "hour": 8, "before": 30}),
        ("stell den Wecker auf 6 Uhr 30", "SetAlarm", {"hour": 6, "minute": 30}),
        ("lösche den Wecker", "CancelAlarm", {}),
        ("lauter", "VolumeUp", {}),
        ("Lautstärke 40 Prozent", "SetVolume", {"volume": 40}),
        ("stopp", "Stop", {}),
        ("wiederhole das", "Repeat", {}),
        ("was kann ich sagen", "Help", {}),
        ("noch fünf Minuten", "Snooze", {}),
        ("stell einen Timer auf 120 Minuten", "StartTimer", {"minutes": 120}),
        ("verkürze den Timer um eine Viertelstunde", "DecreaseTimer", {"minutes": 15}),
        ("weck mich um zwanzig nach sieben", "SetAlarm", {"hour": 7, "past": 20}),
        ("weck mich um zwanzig vor sieben", "SetAlarm", {"hour": 7, "before": 20}),
        ("weck mich um fünf vor halb acht", "SetAlarm", {"hour": 8, "before": 35}),
        ("weck mich um fünf nach halb acht", "SetAlarm", {"hour": 8, "before": 25}),
        ("stell einen Timer auf 1,5 Stunden", "StartTimer", {"hours": 1, "minutes": 30}),
        ("Timer 10 Min.", "StartTimer", {"minutes": 10}),
    ],
    "fr": [
        ("Réveille-moi à 7h30.", "SetAlarm", {"hour": 7, "minute": 30}),
        ("Réveille-moi à 7h.", "SetAlarm", {"hour": 7}),
        ("mets un minuteur de dix minutes", "StartTimer", {"minutes": 10}),
        ("Mets un minuteur de 5 minutes.", "StartTimer", {"minutes": 5}),
        ("mets un minuteur pizza de douze minutes", "StartTimer", {"name": "pizza", "minutes": 12}),
        ("mets un minuteur d'une demi-heure", "StartTimer", {"minutes": 30}),
        ("annule le minuteur", "CancelTimer", {}),
        ("annule le minuteur pizza", "CancelTimer", {"name": "pizza"}),
        ("annule tous les minuteurs", "CancelAllTimers", {}),
        ("combien de temps reste-t-il sur le minuteur", "ListTimers", {}),
        ("quels minuteurs sont en cours", "ListTimers", {}),
        ("ajoute cinq minutes au minuteur", "IncreaseTimer", {"minutes": 5}),
        ("mets le minuteur en pause", "PauseTimer", {}),
        ("quelle heure est-il", "GetTime", {}),
        ("quel jour sommes-nous", "GetDate", {}),
        ("réveille-moi à sept heures", "SetAlarm", {"hour": 7}),
        ("réveille-moi demain à sept heures et demie", "SetAlarm", {"day": 1, "hour": 7, "past": 30}),
        ("mets le réveil à 6 heures 30", "SetAlarm", {"hour": 6, "minute": 30}),
        ("annule le réveil", "CancelAlarm", {}),
        ("plus fort", "VolumeUp", {}),
        ("volume à 40 pour cent", "SetVolume", {"volume": 40}),
        ("stop", "Stop", {}),
        ("répète", "Repeat", {}),
        ("qu'est-ce que je peux dire", "Help", {}),
        ("encore cinq minutes", "Snooze", {}),
        ("minuteur cent vingt minutes", "StartTimer", {"minutes": 120}),
        ("enlève une minute au minuteur", "DecreaseTimer", {"minutes": 1}),
        ("réveille-moi à huit heures moins cinq", "SetAlarm", {"hour": 8, "before": 5}),
        ("réveille-moi à huit heures moins vingt-cinq", "SetAlarm", {"hour": 8, "before": 25}),
        ("réveille-moi à midi et demi", "SetAlarm", {"fixed": 750}),
        ("mets un minuteur de 1,5 heure", "StartTimer", {"hours": 1, "minutes": 30}),
        ("mets un minuteur de 10 min", "StartTimer", {"minutes": 10}),
    ],
    "es": [
        ("despiértame a las doce de la noche", "SetAlarm", {"hour": 12, "half_day": "night"}),
        ("pon un temporizador de diez minutos", "StartTimer", {"minutes": 10}),
        ("Pon un temporizador de 5 minutos.", "StartTimer", {"minutes": 5}),
        ("pon un temporizador pizza de doce minutos", "StartTimer", {"name": "pizza", "minutes": 12}),
        ("pon un temporizador de media hora", "StartTimer", {"minutes": 30}),
        ("cancela el temporizador", "CancelTimer", {}),
        ("cancela el temporizador pizza", "CancelTimer", {"name": "pizza"}),
        ("cancela todos los temporizadores", "CancelAllTimers", {}),
        ("cuánto tiempo queda en el temporizador", "ListTimers", {}),
        ("qué temporizadores hay", "ListTimers", {}),
        ("añade cinco minutos al temporizador", "IncreaseTimer", {"minutes": 5}),
        ("pausa el temporizador", "PauseTimer", {}),
        ("qué hora es", "GetTime", {}),
        ("qué día es hoy", "GetDate", {}),
        ("despiértame a las siete", "SetAlarm", {"hour": 7}),
        ("despiértame mañana a las siete y media", "SetAlarm", {"day": 1, "hour": 7, "past": 30}),
        ("pon una alarma a las 6 30", "SetAlarm", {"hour": 6, "minute": 30}),
        ("cancela la alarma", "CancelAlarm", {}),
        ("más alto", "VolumeUp", {}),
        ("volumen al 40 por ciento", "SetVolume", {"volume": 40}),
        ("para", "Stop", {}),
        ("repite", "Repeat", {}),
        ("qué puedo decir", "Help", {}),
        ("cinco minutos más", "Snooze", {}),
        ("pon un temporizador de ciento veinte minutos", "StartTimer", {"minutes": 120}),
        ("quita un minuto al temporizador", "DecreaseTimer", {"minutes": 1}),
        ("despiértame a las ocho menos cinco", "SetAlarm", {"hour": 8, "before": 5}),
        ("despiértame a las ocho menos veinte", "SetAlarm", {"hour": 8, "before": 20}),
        ("cancela la alarma de la una", "CancelAlarm", {"hour": 1}),
        ("pon un temporizador de 1,5 horas", "StartTimer", {"hours": 1, "minutes": 30}),
        ("pon un temporizador de hora y media", "StartTimer", {"minutes": 90}),
        ("pon un temporizador de 10 min", "StartTimer", {"minutes": 10}),
    ],
    "hi": [
        ("रात बारह बजे का अलार्म लगाओ", "SetAlarm", {"hour": 12, "half_day": "night"}),
        ("दस मिनट का टाइमर लगाओ", "StartTimer", {"minutes": 10}),
        ("5 मिनट का टाइमर सेट करो", "StartTimer", {"minutes": 5}),
        ("पिज़्ज़ा के लिए बारह मिनट का टाइमर लगाओ", "StartTimer", {"name": "पिज़्ज़ा", "minutes": 12}),
        ("आधे घंटे का टाइमर लगाओ", "StartTimer", {"minutes": 30}),
        ("टाइमर बंद करो", "CancelTimer", {}),
        ("पिज़्ज़ा वाला टाइमर हटाओ", "CancelTimer", {"name": "पिज़्ज़ा"}),
        ("सारे टाइमर हटाओ", "CancelAllTimers", {}),
        ("टाइमर में कितना समय बचा है", "ListTimers", {}),
        ("कितने टाइमर चल रहे हैं", "ListTimers", {}),
        ("टाइमर में पाँच मिनट जोड़ो", "IncreaseTimer", {"minutes": 5}),
        ("टाइमर रोको", "PauseTimer", {}),
        ("कितने बजे हैं", "GetTime", {}),
        ("आज क्या तारीख है", "GetDate", {}),
        ("सुबह सात बजे उठा दो", "SetAlarm", {"hour": 7, "half_day": "am"}),
        ("कल सुबह साढ़े सात बजे का अलार्म लगाओ", "SetAlarm", {"day": 1, "hour": 7, "past": 30, "half_day": "am"}),
        ("6 बजकर 30 मिनट पर अलार्म लगाओ", "SetAlarm", {"hour": 6, "minute": 30}),
        ("अलार्म हटाओ", "CancelAlarm", {}),
        ("आवाज़ बढ़ाओ", "VolumeUp", {}),
        ("आवाज़ 40 प्रतिशत करो", "SetVolume", {"volume": 40}),
        ("रुको", "Stop", {}),
        ("दोहराओ", "Repeat", {}),
        ("मैं क्या कह सकता हूँ", "Help", {}),
        ("पाँच मिनट और", "Snooze", {}),
        ("पांच मिनट और", "Snooze", {}),
        ("पांच मिनट का टाइमर लगाओ", "StartTimer", {"minutes": 5}),
        ("१० मिनट का टाइमर लगाओ", "StartTimer", {"minutes": 10}),
        ("शाम छः बजे का अलार्म लगाओ", "SetAlarm", {"half_day": "pm", "hour": 6}),
        ("रात के दस बजे का अलार्म लगाओ", "SetAlarm", {"half_day": "night", "hour": 10}),
        ("एक सौ बीस मिनट का टाइमर लगाओ", "StartTimer", {"minutes": 120}),
        ("टाइमर से एक मिनट कम करो", "DecreaseTimer", {"minutes": 1}),
        ("1.5 घंटे का टाइमर लगाओ", "StartTimer", {"hours": 1, "minutes": 30}),
    ],
}

NO_REQUESTS = {
    "en": ["turn the light on in ten minutes", "tell me a story about a timer", "who was the first man on the moon"],
    "de": ["erzähl mir eine Geschichte über einen Timer", "mach das Licht an"],
    "fr": ["raconte-moi une histoire", "allume la lumière"],
    "es": ["cuéntame una historia", "enciende la luz"],
    "hi": ["मुझे एक कहानी सुनाओ", "बत्ती जलाओ"],
}


@pytest.mark.parametrize(
    ("code", "text", "name", "slots"), [(code, *row) for code, rows in REQUESTS.items() for row in rows]
)
def test_request_is_recognized(code: str, text: str, name: str, slots: dict[str, object]) -> None:
    intent = recognizer_for(code).recognize(text)
    assert intent is not None and (intent.name, dict(intent.slots)) == (name, slots)


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, texts in NO_REQUESTS.items() for text in texts])
def test_other_text_is_no_request(code: str, text: str) -> None:
    assert recognizer_for(code).recognize(text) is None


def test_every_language_has_a_table() -> None:
    assert set(REQUESTS) == set(NO_REQUESTS) == {*INTENT_LANGUAGES}


@pytest.mark.parametrize("code", INTENT_LANGUAGES)
def test_every_reply_and_request_of_a_language_is_complete(code: str) -> None:
    language, english = find_language(code), find_language("en")
    fields = lambda text: set(re.findall(r"\{(\w+)\}", text))  # noqa: E731
    assert {name: fields(text) for name, text in language.replies.items()} == {
        name: fields(text) for name, text in english.replies.items()
    }
    assert english.sentences.keys() - language.sentences.keys() <= {"GetTime"}


@pytest.mark.parametrize("code", INTENT_LANGUAGES)
def test_words_in_any_order_raise_nothing(code: str) -> None:
    words = sorted({word for sentence, _, _ in REQUESTS[code] for word in sentence.split()})
    chance = random.Random(code)
    for _ in range(60):
        recognizer_for(code).recognize(" ".join(chance.choices(words, k=chance.randint(1, 12))))


def test_long_and_empty_texts_are_no_requests() -> None:
    assert recognizer_for("en").recognize("") is None
    assert recognizer_for("en").recognize("stop " * 1000) is None


def test_sentences_that_cannot_be_used_leave_the_others(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(IntentRecognizer):
        def shared_sentences(self) -> object:
            from hassil.intents import Intents

            return Intents.from_dict({"language": "en", "intents": {"A": {"data": [{"sentences": ["{unknown}"]}]}}})

    recognizer = Broken("en")
    for _ in range(2):
        intent = recognizer.recognize("louder")
        assert intent is not None and intent.name == "VolumeUp"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
