"""Splits text that arrives in pieces into sentences, with own rules and the library ``sentencex``."""

from __future__ import annotations

import functools
import re
from typing import Any, Literal

from agent.pipeline.text.language import LanguageGuess
from agent.system.text import has_words

MAX_SENTENCE_CHARACTERS = 300
MIN_WRAPPED_CHARACTERS = 60
"""A line break after a shorter line ends a sentence: the line is a heading or a list item. A longer line was probably
wrapped, so that the sentence continues."""

# An end mark counts only when the next character is known: "3." may become "3.5", and a closing quote belongs to the
# sentence. Because of the look-behind, a run of marks is one candidate, and a run of dots is examined once.
_END = (
    r"""(?s)(?P<latin>(?<![.!?…‼⁇⁈⁉])[.!?…‼⁇⁈⁉]++(?P<closed>(?:["'”’»)\]“]|\[\d++\])*+)(?=\s))"""
    r"""|(?P<native>(?:(?<=[\u0530-\u058f])[:։]|(?<=[\u0370-\u03ff\u1f00-\u1fff])[;\u037e])(?=\s))"""  # Armenian, Greek
    r"""|(?P<own>[。！？｡।॥۔؟።፧။།។៕]++["'”’」』）]*+(?=.))"""
    r"""|(?P<blank>\n[^\S\n]*+\n)|(?P<line>\n)"""
)
# The same for ASCII text. To compile a set with characters beyond Latin-1 takes 1 to 2 ms.
_ASCII_END = (
    r"""(?s)(?P<latin>(?<![.!?])[.!?]++(?P<closed>(?:["')\]]|\[\d++\])*+)(?=\s))"""
    r"""|(?P<native>(?!))|(?P<own>(?!))|(?P<blank>\n[^\S\n]*+\n)|(?P<line>\n)"""
)
_OPENING = "\"'“‘«([„¿¡"
_DOTTED = r"(?:[^\W\d_]{1,3}\.)+[^\W\d_]{1,3}"  # an abbreviation of several words
_COMPOUND = r".*[-–'’](?=.)"  # the parts of "J.-P." and "L'Avv." before the last one
_LIST_NUMBER = r"\W*(\d{1,2})[.)]"
_PAUSES = r"[,;:–—](?=\s)|[，、；：]"
_ASCII_PAUSES = r"[,;:](?=\s)"

# Abbreviations that the library does not know, or knows in one language only. They do not end a sentence.
_ABBREVIATIONS = """
    mr mrs ms dr prof st gen col capt lt sgt rev sr vs cf ca approx fig vol al dept e.g i.e mme mmes mlle mlles mgr
    z.b d.h u.a o.ä bzw nr hr fr str evtl ggf inkl sog jan feb aug sept oct nov dec mt ft sq cu rd ave blvd hwy ph.d
    sen gov rep hon pres ste ee avv inż डॉ प्रो
    b.sc m.sc b.a m.a sra srta dott sig dra exc ing dhr mevr drs bijv blz av avda núm sta sto
"""
# Abbreviations that may end a sentence; the next word decides.
_DOUBTFUL = "etc a.m p.m u.s u.k inc ltd co corp usw jr no nos p pp sec uu"
_PLACES_AND_UNITS = "st rd ave blvd hwy ft"
_TIME_ZONES = "Eastern Central Mountain Pacific Atlantic Greenwich"
_WEEKDAYS = "Mon Tue Tues Wed Thu Thur Thurs Fri Sat Sun Mo Di Mi Do Fr Sa So"
# Words that often begin a sentence.
_FIRST_WORDS = """
    The This That These Those There Then They We I It He She You What When Where Who Why How Did Do Does Is Are Was Will
    Can Could Would Should But And So If In At On For My Your Our Their His Her Its No Yes Please Let Here After Before
"""
_MONTHS = "Januar Jänner Februar März April Mai Juni Juli August September Oktober November Dezember"
_BEFORE_ORDINALS = "am im vom zum beim der die das den dem des ein eine einen einem einer ab bis seit"
# Short words that are no abbreviations.
_SHORT_WORDS = """
    it that not now yes well good him her us them this then can all out right up on off did had has was is will what how
    when with been just much such soon at by if or as an am an do so
"""
# Abbreviations that look like words, because they contain a vowel.
_CLIPPED_WORDS = """
    abs abt apt art avg cal chap dist est ext gal gem hist incl int kap lat max min misc mod nat orig par pop reg sat
    sec tab tel temp ul ver
"""
_VOWELS = "aeiouyäöüàâéèêëîïôûáíóú"
_COMMON = frozenset(_SHORT_WORDS.split())
_CLIPPED = frozenset(_CLIPPED_WORDS.split())
_NEVER_FINAL = frozenset(_ABBREVIATIONS.split())
_SOMETIMES_FINAL = frozenset(_DOUBTFUL.split())
_PLACES = frozenset(_PLACES_AND_UNITS.split())
_ZONES = frozenset(_TIME_ZONES.split())
_DAYS = frozenset(_WEEKDAYS.split())
_STARTERS = frozenset(_FIRST_WORDS.split())
_GERMAN_MONTHS = frozenset(_MONTHS.split())
_GERMAN_ORDINALS = frozenset(_BEFORE_ORDINALS.split())
# Sample words after an end mark. If the library ends the sentence before each of them, the actual next word does not
# matter.
_PROBES = ("Zora", "The", "7")


_Decision = bool | Literal["library"] | None
"""Whether a sentence ends; ``library``: the library decides; ``None``: that depends on text that has not arrived."""


class SentenceSplitter:
    """Splits a text that arrives in pieces into complete sentences.

    The sentences, joined by spaces, are the text apart from white space. They do not depend on how the text is divided
    into pieces, with one exception: a piece that consists of the last word of the first sentence and a space may end
    the first sentence.

    Abbreviations, initials, decimals, ordinals and list numbers do not end a sentence. A line break ends a sentence,
    unless the line is so long that it was probably wrapped. Most sentences are complete when the white space after them
    arrives; after an abbreviation the next word decides. A sentence longer than ``MAX_SENTENCE_CHARACTERS`` is cut
    after a mark such as a comma, otherwise at a space, so that no more text than this is buffered.

    Not thread-safe; owned by the thread that feeds it.

    Args:
        language: An ISO 639-1 code, or ``auto`` to guess it from the text.
    """

    def __init__(self, language: str = "auto") -> None:
        self._language = language
        self._buffer = ""
        self._scanned = 0  # number of characters at the start of the buffer that contain no end of a sentence
        self._guess = LanguageGuess()
        self._guessed = 0  # number of characters at the start of the buffer that the guess has counted
        self._is_pause = False
        self._last_piece = ""
        self._is_first = True  # no sentence is complete yet, so that a wait delays the first audio

    def feed(self, piece: str) -> list[str]:
        """Append text; return the sentences that it completes."""
        self._buffer += piece
        self._last_piece = piece
        return self._split(is_final=False)

    def pause(self) -> list[str]:
        """Return the buffered sentences if they are complete. Call it if no text arrives for some time."""
        end = self._buffer.rstrip()
        if not end or end[-1].isdigit() or end[-2:-1].isdigit():
            return []
        probe = SentenceSplitter(self._language)
        probe._buffer, probe._guess, probe._is_pause = f"{end} ", self._guess, True
        sentences = probe._split(is_final=False)
        if probe._buffer.strip():
            return []
        self._buffer, self._scanned, self._guessed = "", 0, 0
        return sentences

    def flush(self) -> list[str]:
        """Return the sentences in the rest of the text, and start with a new text."""
        sentences = self._split(is_final=True)
        rest = " ".join(self._buffer.split())
        self._buffer, self._scanned, self._guessed, self._guess = "", 0, 0, LanguageGuess()
        self._is_first = True
        return [*sentences, rest] if rest else sentences

    def _split(self, *, is_final: bool) -> list[str]:
        text = self._buffer
        sentences: list[str] = []
        start, position = 0, self._scanned
        while True:
            start = _skip_space(text, start)
            position = max(position, start)
            limit = start + MAX_SENTENCE_CHARACTERS
            # Search one character beyond the limit, because only the next character confirms an end.
            match = _end(text.isascii()).search(text, position, limit + 1)
            if match is not None:
                is_end = self._is_sentence_end(text, start, match, is_final)
                if is_end is False:
                    position = match.end()
                    continue
                if is_end is None and len(text) <= limit:
                    break
                end = match.end()
            elif len(text) > limit:
                end = self._pause_position(text, start)
            else:
                break
            self._count_words(text, end)
            self._is_first = False
            sentences.append(" ".join(text[start:end].split()))
            start = end
        self._buffer, self._scanned, self._guessed = text[start:], position - start, max(0, self._guessed - start)
        return sentences

    def _is_sentence_end(self, text: str, start: int, match: re.Match[str], is_final: bool) -> bool | None:
        """Return whether the match ends a sentence; ``None`` if that depends on text that has not arrived."""
        before = text[start : match.start()]
        if not has_words(before):
            return False  # the mark belongs to the following text, because there are no words before it
        if match["own"]:
            return before.count("《") <= before.count("》")  # a title in 《》 may contain an end mark
        if match["native"] or match["blank"]:
            return True
        if match["line"]:
            return len(before) - before.rfind("\n") - 1 < MIN_WRAPPED_CHARACTERS
        following = _skip_space(text, match.end())
        if "\n" in text[match.end() : following]:
            return not self._is_list_number(before)
        next_word = _next_word(text, following, is_final)
        mark = match["latin"][: len(match["latin"]) - len(match["closed"])]
        if mark == "." and self._is_list_number(before):
            return False
        if match["closed"] or mark.startswith(("..", "…")) or before[-1].isspace():
            if following == len(text):
                return is_final or self._is_pause or None
            return not (text[following].islower() or text[following] in ".…(")
        if mark not in (".", "!"):
            return True
        self._count_words(text, match.start())
        word = before.rsplit(maxsplit=1)[-1].lstrip(_OPENING)
        if mark == "." and _may_be_abbreviation(before, word):
            if following == len(text):
                if not (is_final or self._is_pause or self._is_word_of_first_sentence(word)):
                    return None
            elif text[following].islower():
                return False
            elif text[following].isdigit():
                return None if next_word is None else _is_next_list_number(before, next_word)
        if mark == "." and (decision := self._decide_by_rules(before, word, next_word)) != "library":
            return decision
        decision = self._decide_by_library(before, word + mark, next_word)
        if decision is False and _follows_number(before):
            # "in 10 min. Then" ends, but "10 in. by 5" does not.
            return (next_word or "").strip(_OPENING + ",.;:") in _STARTERS
        return decision

    def _is_word_of_first_sentence(self, word: str) -> bool:
        """Return whether the first sentence ends after ``word``, without a wait for the next character.

        Some programs send each word together with the space after it. The next word then arrives noticeably later, and
        words of this form are almost never abbreviations.
        """
        is_whole = self._last_piece[-1:].isspace() and self._last_piece.lstrip(_OPENING).startswith(f"{word}.")
        has_vowel = any(character in _VOWELS for character in word[:-1].lower())
        return self._is_first and is_whole and len(word) > 2 and has_vowel and word.lower() not in _CLIPPED

    def _decide_by_rules(self, before: str, word: str, next_word: str | None) -> _Decision:
        """Return whether a period after ``word`` ends the sentence; ``library`` if the rules do not decide."""
        if not word.isalnum():
            word = re.sub(_COMPOUND, "", word)
        if word.lower() in _PLACES:
            # "Elm St. Then turn left" ends, but "St. Mary" does not.
            return None if next_word is None else next_word.strip(_OPENING + ",.;:") in _STARTERS
        if word.lower() in _NEVER_FINAL:
            return False
        is_number = word.isdigit() and len(word) <= 2
        is_initial = len(word) == 1 and word.isupper()
        if is_number and self._language == "auto" and self._guess.is_surely_english:
            return True
        if not (
            is_number or is_initial or word in _DAYS or word.lower() in _SOMETIMES_FINAL or re.fullmatch(_DOTTED, word)
        ):
            return "library"
        if next_word is None:
            return None
        next_word = next_word.strip(_OPENING + ",.;:")
        if next_word[:1].islower() or (not is_number and next_word[:1].isdigit()):
            return False
        if word.lower() in ("a.m", "p.m") and next_word in _ZONES:
            return False
        if is_initial:
            return next_word in _STARTERS and not (word == "M" and "fr" in self._languages())
        if is_number:
            previous = before.rsplit(maxsplit=2)[-2:-1]
            is_ordinal = "de" in self._languages() and previous and previous[0].lower() in _GERMAN_ORDINALS
            return not (is_ordinal or next_word in _GERMAN_MONTHS)
        return True if next_word in _STARTERS else "library"

    def _decide_by_library(self, before: str, word: str, next_word: str | None) -> bool | None:
        """Return whether the library ends the sentence after ``word``; ``None`` if the next word has not arrived."""
        languages = self._languages()
        probes = [(language, probe) for language in languages for probe in _probes(language)]
        if probes and all(_cuts(language, word, probe) for language, probe in probes):
            return not (next_word or "").startswith(".")
        if next_word is None:
            return None
        if next_word.startswith(("¿", "¡")):
            return True
        return all(_cuts(language, f"{before[-80:]}{word[-1]}", next_word) for language in languages)

    def _languages(self) -> tuple[str, ...]:
        """Return the configured language; for ``auto`` the guessed language, or several that are equally likely."""
        return self._guess.languages if self._language == "auto" else (self._language,)

    def _count_words(self, text: str, end: int) -> None:
        if self._language == "auto" and end > self._guessed:
            self._guess.feed(text[self._guessed : end])
            self._guessed = end

    @staticmethod
    def _is_list_number(before: str) -> bool:
        """Return whether the sentence so far consists only of the number or character that marks a list item."""
        mark = before.strip(" \t\n•⁃*-([\"'")
        return mark.isdigit() or (len(mark) == 1 and mark.isalpha() and mark.islower())

    @staticmethod
    def _pause_position(text: str, start: int) -> int:
        """Return the position at which a sentence that is too long is cut."""
        window = text[start : start + MAX_SENTENCE_CHARACTERS]
        pauses = [
            pause.end()
            for pause in re.finditer(_ASCII_PAUSES if window.isascii() else _PAUSES, window)
            if pause.end() * 3 > MAX_SENTENCE_CHARACTERS
        ]
        if pauses:
            return start + pauses[-1]
        space = max(window.rfind(" "), window.rfind("\n"), window.rfind("\t"))
        return start + (space if space > 0 else MAX_SENTENCE_CHARACTERS)


def _may_be_abbreviation(before: str, word: str) -> bool:
    """Return whether a word may be a unit or an unlisted abbreviation, so that the next character decides."""
    if word.lower() == word.upper() or word.lower() in _COMMON:
        return False
    return _follows_number(before) or word.endswith("str") or (len(word) <= 4 and word[-1].lower() not in "aeiouy")


def _follows_number(before: str) -> bool:
    """Return whether the last word follows a number, like a unit."""
    previous = before.rsplit(maxsplit=2)[-2:-1]
    return bool(previous) and previous[0][-1].isdigit()


def _is_next_list_number(before: str, next_word: str) -> bool:
    """Return whether the sentence is a list item, and the next word is the number of the next item."""
    number = re.match(_LIST_NUMBER, before)
    return number is not None and next_word.rstrip(".)") == str(int(number[1]) + 1)


@functools.cache
def _library() -> Any:
    """Return the module ``sentencex``; ``None`` if it is not installed, such as with Debian's packages only.

    Without it, the rules of this module decide alone.
    """
    try:
        import sentencex
    except ImportError:
        return None
    return sentencex


@functools.cache
def _probes(language: str) -> tuple[str, ...]:
    """Return the probes before which the library ends a sentence of the language; in German not before a number."""
    return tuple(probe for probe in _PROBES if _cuts(language, "wordena.", probe))


@functools.lru_cache(maxsize=4096)
def _cuts(language: str, head: str, tail: str) -> bool:
    """Return whether the library ends a sentence between two texts."""
    library = _library()
    if library is None:
        # A single character or a word of _SOMETIMES_FINAL does not end the sentence here. The rules have already
        # handled a next word that often begins a sentence.
        word = head.rsplit(maxsplit=1)[-1]
        return word[-1] != "." or not (len(word) == 2 or word.strip(".").lower() in _SOMETIMES_FINAL)
    # Versions of the library keep different white space, so only the other characters are counted.
    length = sum(not character.isspace() for character in head)
    position = 0
    for segment in library.segment(language, f"{head} {tail}"):
        position += sum(not character.isspace() for character in segment)
        if position >= length:
            return position == length
    return False


def _next_word(text: str, start: int, is_final: bool) -> str | None:
    """Return the word at ``start``; ``None`` if more of it may follow."""
    end = start
    while end < len(text) and not text[end].isspace():
        end += 1
    if end == len(text) and not is_final:
        return None
    return text[start:end]


@functools.cache
def _end(is_ascii: bool) -> re.Pattern[str]:
    return re.compile(_ASCII_END if is_ascii else _END)


def _skip_space(text: str, start: int) -> int:
    while start < len(text) and text[start].isspace():
        start += 1
    return start
