from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pipeline.text.sentences import MAX_SENTENCE_CHARACTERS, SentenceSplitter


def cut(text: str, size: int | None = None) -> list[str]:
    sentences = SentenceSplitter()
    size = size or len(text) or 1
    found = [one for start in range(0, len(text), size) for one in sentences.feed(text[start : start + size])]
    return [*found, *sentences.flush()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello there. How are you? Fine!", ["Hello there.", "How are you?", "Fine!"]),
        ("Dr. Smith paid 3.14 to J. S. Bach, e.g. in gold.", ["Dr. Smith paid 3.14 to J. S. Bach, e.g. in gold."]),
        ("I said no. Then I left.", ["I said no.", "Then I left."]),
        ("At 3 p.m. we had tea, cake etc. and left.", ["At 3 p.m. we had tea, cake etc. and left."]),
        ("Tea, cake, etc. Then we left.", ["Tea, cake, etc.", "Then we left."]),
        ("Well... perhaps. Well... No.", ["Well... perhaps.", "Well...", "No."]),
        ("1. First\n2. Second", ["1. First", "2. Second"]),
        ('She said "Stop!" Then silence.', ['She said "Stop!"', "Then silence."]),
        ("What?! Really?", ["What?!", "Really?"]),
        ("你好。今天天气很好！“好吗？”好。", ["你好。", "今天天气很好！", "“好吗？”", "好。"]),
        ("नमस्ते। आप कैसे हैं। ठीक।", ["नमस्ते।", "आप कैसे हैं।", "ठीक।"]),
        ("a heading\nand a line", ["a heading", "and a line"]),
        ("one\r\n\r\ntwo", ["one", "two"]),
        ("  \n ", []),
        ("...", ["..."]),
        ("- \n* \nWord", ["- * Word"]),
    ],
)
def test_sentences_do_not_depend_on_the_pieces(text: str, expected: list[str]) -> None:
    assert cut(text) == expected
    assert cut(text, 1) == expected
    assert cut(text, 3) == expected


@pytest.mark.parametrize(
    "sentence",
    [
        "The U.S. Open starts at 9 a.m. on Monday.",
        "He left the U.S. Army in 1990.",
        "Rooms no. 5 and No. 7 are free.",
        "See fig. 3, vol. 2 and p. 55.",
        "It's on Mt. Everest, Ft. Worth",
        "I can see Mt. Fuji from St. Mary's Rd. at noon.",
        "Ph.D. students, B.Sc. holders.",
        "St. Mary's Rd. is closed.",
        "Mon. to Fri. 9-5.",
        "Open Sat. and Sun. from 10.",
        "10 sq. ft. wide.",
        "J. R. R. Tolkien met C. S. Lewis.",
        "Am 3. Oktober ist Feiertag.",
        "Vom 1. Mai bis zum 31. August ist das Bad geöffnet.",
        "Der 2. Weltkrieg endete am 8. Mai 1945.",
        "Das kostet ca. 5 Euro, z. B. im Laden, d. h. bar.",
        "M. Dupont et Mme. Durand arrivent.",
        "Mlle. Martin et le Dr. Petit sont là.",
        "La Sra. García y el Sr. López viven en la Av. Central.",
        "Il Dott. Rossi e la Sig. Bianchi arrivano.",
        "Dhr. Jansen komt om ca. 5 uur.",
        "ул. Ленина, д. 5 и г. Москва.",
        "She said (it was late.) and left.",
        "Yahoo! in the news.",
        "Wait... perhaps not.",
        "The meeting is in Rm. 12 and the fee is $5 million p.a. with tax.",
        "Gov. Smith, Sen. Jones and Rep. Brown met Gen. Lee.",
        "It weighs 5 lbs. 3 oz. and measures 10 in. by 5 ft.",
        "Die Temperatur beträgt min. 5 und max. 10 Grad.",
        "Das ist Hr. Müller, Abt. 3, Vgl. dazu Abs. 2.",
        "Le prof. Martin habite au no. 5, av. Foch, etc. et voilà.",
        "El Sr. Pérez vive en la pág. 5 del núm. 3.",
        "Kl. 5 wordt het, d.w.z. vroeg.",
        "Spotkanie jest o godz. 5 przy ul. Długiej nr. 3.",
        "Mötet är kl. 5, dvs. tidigt, bl.a. för oss.",
        "डॉ. शर्मा आए।",
        "The U.S. Senate voted at 10 a.m. Eastern time.",
        "Open Mon.-Fri. from 9 in Ste. 200.",
        "J.-C. Dupont et J.-P. Belmondo arrivent.",
        "L'Ing. Verdi, l'Avv. Neri e la Prof.ssa Gallo.",
        "EE. UU. ganó.",
        "Die Str. ist gesperrt, Goethestr. 5 auch.",
    ],
)
def test_abbreviations_ordinals_and_initials_do_not_end_a_sentence(sentence: str) -> None:
    assert cut(sentence) == cut(sentence, 1) == cut(sentence, 3) == [sentence]


@pytest.mark.parametrize(
    "first",
    ["The sky is dark.", "He was born in Ulm.", "Das ist das Haus.", "She has a cat.", "Le train est ici hier."],
)
def test_first_sentence_ends_with_its_last_word_if_words_bring_their_space(first: str) -> None:
    splitter = SentenceSplitter()
    *words, last = [f"{word} " for word in first.split()]
    assert [splitter.feed(word) for word in words] == [[]] * len(words)
    assert splitter.feed(last) == [first]
    # The first audio does not wait for later sentences, so that these wait for the next character.
    assert [splitter.feed(f"{word} ") for word in ["It", "was", "at", "Stat.", "5", "today"]] == [[]] * 6


@pytest.mark.parametrize("first", ["Use max. ", "See temp. ", "At Mt. ", "In 5 gal. ", "Ca. "])
def test_first_abbreviation_waits_for_the_next_character(first: str) -> None:
    splitter = SentenceSplitter()
    assert [splitter.feed(word) for word in re.findall(r"\S+ ", first)] == [[]] * len(first.split())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("I set a timer for 10 min.", "I will tell you."),
        ("It is 8849 m.", "It is the highest."),
        ("I like plan B.", "We start on Monday."),
        ("It has vitamin C.", "It helps."),
        ("It is 5 p.m.", "The shop is closed."),
        ("I live in the U.S.", "How about you?"),
        ("The answer is no.", "We stay."),
        ("It costs 5.", "We leave at 3."),
        ("The cat sat.", "The dog ran."),
        ("He works at Apple Inc.", "The company is big."),
        ("Es ist jetzt 5.", "Wir gehen."),
        ("Սա լավ է:", "Շատ լավ է:"),
        ("Πού είναι;", "Εδώ είναι."),
        ("كيف حالك؟", "بخير."),
        ("यह अच्छा है।", "धन्यवाद।"),
        ("今日は晴れ。", "明日は雨。"),
        ("《你好！世界》很好。", "我喜欢。"),
        ("It is so.[1][2]", "It is not."),
        ("1. Mix flour.", "2. Add eggs."),
        ("It is 20 °C.", "The wind is cold."),
        ("안녕하세요.", "반갑습니다."),
        ("এটা ভালো।", "ধন্যবাদ।"),
        ("ជំរាបសួរ។", "អរគុណ។"),
        ("He is 5 ft.", "He plays."),
        ("Go to Elm St.", "Then turn left."),
        ("Er wohnt in der Goethestr.", "Er ist nett."),
    ],
)
def test_sentence_ends_before_the_next_one(first: str, second: str) -> None:
    text = f"{first} {second}"
    assert cut(text) == cut(text, 1) == cut(text, 3) == [first, second]


def test_language_may_be_given() -> None:
    splitter = SentenceSplitter("de")
    assert [*splitter.feed("Der 3. Platz. Bzw. der 4. Platz."), *splitter.flush()] == [
        "Der 3. Platz.",
        "Bzw. der 4. Platz.",
    ]


def test_pause_returns_what_is_complete() -> None:
    splitter = SentenceSplitter()
    for text, complete in [
        ("One moment.", ["One moment."]),
        ("It is 3.", []),
        ("5. Dr.", ["It is 3.5."]),
        (" Who?", ["Dr. Who?"]),
        ('He said "Go!" ', ['He said "Go!"']),
        ("你好。", ["你好。"]),
        ("and", []),
    ]:
        assert [*splitter.feed(text), *splitter.pause()] == complete


def test_wrapped_line_continues_and_blank_line_ends_a_sentence() -> None:
    line = "this line is so long that it was probably wrapped by the editor"
    assert cut(f"{line}\nand goes on. Next") == [f"{line} and goes on.", "Next"]
    assert cut(f"{line}\n\nanother", 1) == [line, "another"]


def test_feed_returns_a_sentence_as_soon_as_it_is_complete() -> None:
    sentences = SentenceSplitter()
    assert sentences.feed("It is 3.") == []
    assert sentences.feed("5 degrees.") == []
    assert sentences.feed(" It") == ["It is 3.5 degrees."]
    assert sentences.flush() == ["It"]
    assert sentences.flush() == []


def test_long_sentence_is_cut_at_a_pause_or_a_space() -> None:
    pause = cut("word " * 40 + "pause, " + "word " * 40)
    assert pause[0].endswith("pause,")
    spaces = cut("word " * 200)
    assert all(len(one) <= MAX_SENTENCE_CHARACTERS and set(one.split()) == {"word"} for one in spaces)
    assert [len(one) for one in cut("x" * 700)] == [300, 300, 100]


def test_flush_starts_a_new_text() -> None:
    sentences = SentenceSplitter()
    sentences.feed("J. S. Bach wrote a very, very long")
    sentences.flush()
    assert sentences.feed("Hi. So") == ["Hi."]


@given(st.text(alphabet="aA1 .,!?…\n\"'。।é;:", max_size=700), st.integers(1, 50))
def test_only_white_space_is_lost(text: str, size: int) -> None:
    whole = cut(text)
    assert "".join("".join(whole).split()) == "".join(text.split())
    assert "".join("".join(cut(text, size)).split()) == "".join(text.split())
    assert all(0 < len(one) <= MAX_SENTENCE_CHARACTERS + 2 for one in whole)


@pytest.mark.parametrize("part", ["a", ". ", "A. ", "etc. ", "। ", "\n", " ", "...", '"', "Yes. "])
def test_run_time_is_linear(part: str) -> None:
    for length, size in ((80_000, None), (4_000, 1)):
        quarter, whole = (cost(part * (count // len(part)), size) for count in (length // 4, length))
        assert whole < 8 * quarter + 0.5


def cost(text: str, size: int | None) -> float:
    """CPU seconds of this thread."""
    began = time.thread_time()
    cut(text, size)
    return time.thread_time() - began
