"""Judges from a partial transcript whether the user has finished the turn."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum

from agent.pipeline.text.language import LanguageGuess


class Completeness(Enum):
    """How likely the user has finished."""

    COMPLETE = "complete"
    UNSURE = "unsure"
    INCOMPLETE = "incomplete"


# Words that need another word after them, and sounds of hesitation. The table omits words that can also end a sentence:
# "on" (turn the light on), "an" (mach das Licht an), "is" (where it is), "es" (qué hora es).
_OPEN_WORDS = {
    "en": "the a an and or but because if when of to from with for at in into by about than as my your our their"
    " its every each between during without until while since whose which whether i i'm i'd i've i'll we'd we're we'll"
    " you're you'd they're he's she's it's that's there's let's what's who's where's uh um er hmm erm",
    "de": "der die das den dem des eine einen einem einer eines und oder aber weil wenn dass ob als wie von nach"
    " zum zur für bei in im ins am über unter zwischen gegen ohne durch bis seit während mein meine meinen meinem"
    " meiner dein deine deinen unser unsere ihre seine ich wir welche welcher welches sehr äh ähm hm",
    "fr": "le la les l un une des de du d et ou mais car parce que qu qui dont si à au aux en dans sur sous avec"
    " sans pour par chez vers entre depuis pendant mon ma mes ton ta tes son sa ses notre nos votre vos leurs ce cet"
    " cette ces je j quel quelle quels quelles très euh hum ben",
    "es": "el la los las un una unos unas de del y e u pero porque que si a al en con sin por entre desde hasta"
    " durante mi mis tu tus su sus me te se lo muy cuyo cuya eh mmm",
    "it": "il lo la i gli le l un una di del dello della dei degli delle e ed o ma perché che se a al allo alla ai"
    " agli alle in nel nella con senza per su sul sulla tra fra da dal dalla durante mio mia miei tuo tua suo sua"
    " nostro nostra mi ti molto eh ehm mmm",
    "pt": "o a os as um uma uns umas de do da dos das e ou mas porque que se ao à aos às em no na nos nas num numa"
    " com sem por pelo pela entre desde até durante meu minha meus minhas teu tua seu sua nosso nossa eu me te muito"
    " eh",
    "nl": "de het een en of maar want omdat als dat van naar met voor bij in tussen tegen zonder sinds tijdens mijn"
    " jouw uw onze hun ik wij welke heel erg eh uh uhm hm",
    "hi": "और या लेकिन मगर क्योंकि कि अगर तो का की के को से में पर तक लिए साथ बिना मेरा मेरी मेरे आपका आपकी हमारा"
    " उसका इस उस एक बहुत मैं हम कृपया जो जब अं उम",
}  # fmt: skip
_OPEN = {language: frozenset(words.split()) for language, words in _OPEN_WORDS.items()}
_DIGIT_WORDS = {
    "en": "zero oh one two three four five six seven eight nine double triple",
    "de": "null eins zwei zwo drei vier fünf sechs sieben acht neun",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve",
    "it": "zero uno due tre quattro cinque sei sette otto nove",
    "pt": "zero um dois três quatro cinco seis sete oito nove",
    "nl": "nul een twee drie vier vijf zes zeven acht negen",
    "hi": "शून्य एक दो तीन चार पाँच पांच छह सात आठ नौ",
}
_DIGITS = {language: frozenset(words.split()) for language, words in _DIGIT_WORDS.items()}
_WORD = re.compile(r"[\u0900-\u097f]+|[^\W_]+(?:['’-][^\W_]+)*['’]?")  # \w lacks the vowel signs of Hindi
_DICTATED_WORDS = (
    "number phone telephone code pin nummer telefonnummer handynummer numéro téléphone número teléfono código "
    "numero telefono codice telefone telefoonnummer नंबर"
)
_DICTATED = frozenset(_DICTATED_WORDS.split())
"""After one of these words, one digit at the end of the text means a dictated number. Without such a word, it takes two
digits."""
_ENGLISH_ENDS = frozenset(("me", "no", "do", "die", "son"))
"""Words that can end an English sentence, but are open words in another language."""
_ASKS = frozenset(("what", "where", "when", "who", "how", "which", "why", "what's"))
_AUXILIARIES = frozenset(("is", "are", "was", "were", "do", "does", "did", "can", "could", "will", "would", "should"))

_MIN_WORDS, _MIN_QUESTION_WORDS = 4, 3
"""Minimum number of words of a text that is complete because of the punctuation mark at its end. A recognizer that
punctuates ends every partial like a sentence. Measured on sentences with a pause after any word: 57 % were cut without
these limits, 29 % with them."""


def judge(text: str, matches: Callable[[str], bool] = lambda text: False) -> Completeness:
    """Judge a partial transcript.

    Args:
        text: The transcript, with or without punctuation.
        matches: Returns whether a text is a request that the responder knows.

    Returns:
        ``INCOMPLETE`` for a text that ends with a comma, with a word of a table that needs another word (English,
        German, French, Spanish, Italian, Portuguese, Dutch, Hindi), or within a dictated number. ``COMPLETE`` for a
        text that ends like a sentence and has at least four words (a question: three), and for a text that ``matches``.
        ``UNSURE`` for any other text. The words take precedence over the marks: "How do I get from?" is ``INCOMPLETE``.
    """
    stripped = text.rstrip(" \"'»”’)")
    words = [word.lower().replace("’", "'") for word in _WORD.findall(stripped)]
    if not words:
        return Completeness.UNSURE
    if stripped.endswith((",", ";", ":", "-", "–", "—", "...", "…")):
        return Completeness.INCOMPLETE
    if len(words) > 1 and (_needs_word(words) or _is_dictated(words)):
        return Completeness.INCOMPLETE
    is_question = stripped.endswith("?") and len(words) >= _MIN_QUESTION_WORDS
    is_sentence = stripped.endswith((".", "!", "।")) and len(words) >= _MIN_WORDS
    if is_question or is_sentence or matches(stripped):
        return Completeness.COMPLETE
    return Completeness.UNSURE


def _needs_word(words: list[str]) -> bool:
    last = words[-1].rstrip("'")
    if words[0] in _ASKS and last in _AUXILIARIES and len(words) < 5:
        return True  # for example "what time does"
    languages = {language for language, table in _OPEN.items() if last in table}
    if not languages:
        return False
    guess = LanguageGuess()
    guess.feed(" ".join(words[:-1]))
    # The words before the last one determine the language: "an" is open in English, but not in "mach das Licht an".
    evidence = max(guess.evidence(language) for language in languages)
    if not evidence and last in _ENGLISH_ENDS:
        return False
    return evidence >= max((guess.evidence(language) for language in guess.candidates), default=0)


def _is_dictated(words: list[str]) -> bool:
    digits = 0
    languages = set(_DIGITS)
    for word in reversed(words):
        if not (len(word) == 1 and word.isdecimal()):
            languages = {language for language in languages if word in _DIGITS[language]}
            if not languages:  # "um sechs" is a time in German, although "um" is a digit in Portuguese
                break
        digits += 1
    return digits > 1 or (digits == 1 and not _DICTATED.isdisjoint(words))
