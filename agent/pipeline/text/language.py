"""Guesses the language of a text, so that the sentence splitter knows its abbreviations."""

from __future__ import annotations

import re
from collections import Counter

_FUNCTION_WORDS = {
    "en": "the a an and of to in is are it you that this with for on was have has not but be i my your what how will"
    " can we they he she there here at from as or if do does would please me about",
    "de": "der die das und ist nicht ein eine einen mit von zu den dem im am auf für sich sie er es ich wir ihr auch"
    " als wie bei nach aus hat haben sind war wird noch nur oder aber wenn kann zum zur vom des uhr heute",
    "fr": "le la les de des du et est un une en que qui dans pour pas sur avec ce cette il elle nous vous je ne se"
    " au aux sont être mais ou où plus par à très bien",
    "es": "a el la los las de del y es un una en que por para con no se su lo al como más pero sus le ya o este sí"
    " porque"
    " esta entre cuando muy sin sobre también me hay está qué cuál dónde cuándo dos quiero puedo puedes",
    "it": "a il lo la gli le di del della e è un una in che per con non si sono da al ma come più anche questo"
    " questa nel"
    " alla dei delle ha ho mi ti ci molto",
    "pt": "o a os as de do da dos das e é um uma em no na que por para com não se mais como mas ao à foi são está você"
    " seu sua ou muito também",
    "nl": "de het een en van is in dat op te zijn met voor niet aan er om ook als bij of dan maar uit naar wordt ik je"
    " hij zij we deze dit heeft nog wel geen",
    "pl": "i w na nie się z do to jest że o jak po co tak za od ale przez dla czy być są ma już tylko oraz który roku",
    "da": "og i at det er en et den til på som med for af de ikke der har jeg var han hun vi kan skal fra eller men om",
    "sv": "och i att det är en ett den till på som med för av de inte där har jag var han hon vi kan ska från eller",
    "fi": "ja on ei se että hän ovat oli mutta kun niin kuin myös tai joka sen minä sinä me te he ole olla vain nyt",
    "cs": "a je v se na že to s z o do ve jsem jsou jako ale by za po pro si tak byl bylo nebo není který",
    "sk": "a je v sa na že to s z o do vo som sú ako ale by za po pre si tak bol bolo alebo nie ktorý",
}
_LANGUAGES_OF: dict[str, tuple[str, ...]] = {}
for _language, _words in _FUNCTION_WORDS.items():
    for _word in _words.split():
        _LANGUAGES_OF[_word] = (*_LANGUAGES_OF.get(_word, ()), _language)

_MARKS = {
    "ß": "de", "ä": "de", "ö": "de", "ü": "de", "ñ": "es", "¿": "es", "¡": "es", "ç": "fr", "œ": "fr", "ã": "pt",
    "õ": "pt", "ł": "pl", "ż": "pl", "ą": "pl", "ę": "pl", "ø": "da", "æ": "da", "å": "sv", "ř": "cs", "ě": "cs",
    "ľ": "sk", "ô": "sk",
}  # fmt: skip

_SCRIPTS = (
    (0x0370, 0x03FF, "el"), (0x0400, 0x052F, "ru"), (0x0530, 0x058F, "hy"), (0x0590, 0x05FF, "he"),
    (0x0600, 0x077F, "ar"), (0x0900, 0x097F, "hi"), (0x0980, 0x09FF, "bn"), (0x0A00, 0x0A7F, "pa"),
    (0x0A80, 0x0AFF, "gu"), (0x0B00, 0x0B7F, "or"), (0x0B80, 0x0BFF, "ta"), (0x0C00, 0x0C7F, "te"),
    (0x0C80, 0x0CFF, "kn"), (0x0D00, 0x0D7F, "ml"), (0x1000, 0x109F, "my"), (0x10A0, 0x10FF, "ka"),
    (0x1200, 0x139F, "am"), (0x3040, 0x30FF, "ja"), (0x3400, 0x9FFF, "zh"), (0xAC00, 0xD7AF, "ko"),
)  # fmt: skip
_CHARACTERS_OF = {"і": "uk", "ї": "uk", "є": "uk", "ґ": "uk", "ў": "be", "қ": "kk", "ң": "kk", "ү": "kk", "ғ": "kk",
               "ѝ": "bg", "ہ": "ur", "ے": "ur", "ٹ": "ur", "پ": "fa", "گ": "fa", "چ": "fa"}  # fmt: skip
_WORD = r"[^\W\d_]+"


class LanguageGuess:
    """Guesses by function words, typical characters and scripts. Not thread-safe; owned by the thread that feeds it.

    A wrong guess has little effect: only the rules for abbreviations and ordinals depend on the language.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._scripts: Counter[str] = Counter()

    def feed(self, text: str) -> None:
        """Count the words of ``text``, which must consist of whole words."""
        for match in re.finditer(_WORD, text):
            word = match[0].lower()
            if script := _script_of(word[0]):
                self._scripts[script] += 1
                self._scripts.update(_CHARACTERS_OF[character] for character in word if character in _CHARACTERS_OF)
                continue
            self._scripts["latin"] += 1
            self._counts.update(_LANGUAGES_OF.get(word, ()))
            if not word.isascii():
                self._counts.update(_MARKS[character] for character in word if character in _MARKS)

    @property
    def languages(self) -> tuple[str, ...]:
        """The ``candidates``; only English if it is one of them."""
        return ("en",) if "en" in self.candidates else self.candidates

    def evidence(self, language: str) -> int:
        """Return the number of function words and characters that are typical of a language in the Latin script."""
        return self._counts[language]

    @property
    def candidates(self) -> tuple[str, ...]:
        """The most likely language (ISO 639-1), or all that are equally likely; English if there is no evidence."""
        script = self._scripts.most_common(1)[0][0] if self._scripts else "latin"
        if script != "latin":
            variants = [name for name in self._scripts if name in _CHARACTERS_OF.values()]
            if variants and script in ("ru", "ar"):
                script = max(variants, key=lambda name: self._scripts[name])
            return (script,)
        most = max(self._counts.values(), default=0)
        return tuple(name for name, count in self._counts.items() if count == most) or ("en",)

    @property
    def is_surely_english(self) -> bool:
        """Whether English has more evidence than every other language."""
        others = [count for name, count in self._counts.items() if name != "en"]
        return not (self._scripts.keys() - {"latin"}) and self._counts["en"] > max(others, default=0)


def _script_of(character: str) -> str | None:
    code = ord(character)
    if code < 0x370:
        return None
    return next((language for low, high, language in _SCRIPTS if low <= code <= high), None)
