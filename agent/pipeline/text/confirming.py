"""Recognizes the answer to a confirmation question, and provides the sentences about tool calls."""

from __future__ import annotations

from collections.abc import Mapping

_YES = {
    "en": "yes yeah yep yup sure ok okay certainly absolutely confirm confirmed",
    "de": "ja jawohl jo klar okay ok gerne sicher natürlich bestätigt",
    "fr": "oui ouais ok okay d'accord certainement confirmé",
    "es": "sí si vale claro ok okay adelante confirmado",
    "it": "sì si certo ok okay confermo",
    "pt": "sim claro ok okay confirmo",
    "nl": "ja jazeker zeker ok okay prima",
    "hi": "हाँ हां जी ठीक",
}
# Words that may accompany a word of _YES.
_BESIDE_YES = {
    "en": "please do it go ahead that is right of course thanks thank you",
    "de": "bitte mach das tu es danke doch sehr",
    "fr": "s'il te plaît vous plait fais le vas-y merci bien sûr",
    "es": "por favor hazlo gracias supuesto",
    "it": "per favore fallo pure grazie",
    "pt": "por favor faça isso obrigado obrigada",
    "nl": "graag doe het maar alsjeblieft dank je",
    "hi": "है करो कीजिए कर दो धन्यवाद",
}
_NO = {
    "en": "no nope nah stop cancel don't",
    "de": "nein nee nö stopp abbrechen nicht",
    "fr": "non stop annule",
    "es": "no cancela para",
    "it": "no annulla",
    "pt": "não nao cancela",
    "nl": "nee neen niet stop",
    "hi": "नहीं ना मत रुको",
}

SENTENCES: Mapping[str, Mapping[str, str]] = {
    "en": {"ask": "{action}. Shall I do that?", "done": "Done.", "failed": "That did not work."},
    "de": {"ask": "{action}. Soll ich das tun?", "done": "Erledigt.", "failed": "Das hat nicht funktioniert."},
    "fr": {"ask": "{action}. Dois-je le faire ?", "done": "C'est fait.", "failed": "Cela n'a pas marché."},
    "es": {"ask": "{action}. ¿Lo hago?", "done": "Hecho.", "failed": "No ha funcionado."},
    "it": {"ask": "{action}. Devo farlo?", "done": "Fatto.", "failed": "Non ha funzionato."},
    "pt": {"ask": "{action}. Devo fazer isso?", "done": "Feito.", "failed": "Não funcionou."},
    "nl": {"ask": "{action}. Zal ik dat doen?", "done": "Klaar.", "failed": "Dat is niet gelukt."},
    "hi": {"ask": "{action}. क्या मैं यह करूँ?", "done": "हो गया।", "failed": "यह नहीं हो पाया।"},
}
"""Sentences by language: the question before a tool call, and the sentences after it if the model replies nothing."""


def sentence(name: str, language: str) -> str:
    """Return the sentence ``ask``, ``done`` or ``failed`` of ``SENTENCES``; in English for an unknown language."""
    return SENTENCES.get(language, SENTENCES["en"])[name]


def is_yes(text: str) -> bool:
    """Return whether a transcript agrees and contains nothing else, in any language.

    "Yes, please." agrees; "Yes, but not now." does not.
    """
    words = _words(text)
    yes, beside = _all(_YES), _all(_BESIDE_YES)
    return any(word in yes for word in words) and all(word in yes or word in beside for word in words)


def is_no(text: str) -> bool:
    """Return whether a transcript contains a word of refusal, in any language."""
    no = _all(_NO)
    return any(word in no for word in _words(text))


def _all(by_language: Mapping[str, str]) -> frozenset[str]:
    return frozenset(word for words in by_language.values() for word in words.split())


def _words(text: str) -> list[str]:
    text = text.casefold().replace("’", "'")
    return "".join(" " if character in ".,;:!?।¡¿…" else character for character in text).split()
