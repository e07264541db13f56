"""The file of a phrase: the same audio comes back, and damage is found."""

from __future__ import annotations

import pytest

from agent.audio.format import Format
from agent.pipeline.tts.phrase_file import Phrase, PhraseKey, decode, encode, normalize

KEY = PhraseKey("fish", "(voice='anna')", "Zug fährt ab.\nNow.")
PHRASE = Phrase(KEY, "anna", Format(22050, 2), bytes(range(256)) * 4 + b"\n")


def test_the_audio_and_the_properties_come_back() -> None:
    assert decode(encode(PHRASE)) == PHRASE


@pytest.mark.parametrize("at", [0, 20, 30, 53, 60, 200, 600, -1])
def test_a_changed_byte_is_found(at: int) -> None:
    data = bytearray(encode(PHRASE))
    data[at] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        decode(bytes(data))


@pytest.mark.parametrize("size", [0, 1, 40, 54, 100, 700])
def test_a_shorter_file_is_found(size: int) -> None:
    with pytest.raises(ValueError, match="checksum"):
        decode(encode(PHRASE)[:size])


@pytest.mark.parametrize(
    "other",
    [KEY._replace(service="local"), KEY._replace(sound="(voice='otto')"), KEY._replace(text="Zug fährt ab.  Now.")],
)
def test_each_part_of_the_key_changes_the_name(other: PhraseKey) -> None:
    assert other.name != KEY.name and len(other.name) == len(KEY.name)


def test_spaces_and_composed_characters_do_not_change_the_key_but_passages_do() -> None:
    assert normalize(["Zug  fa\u0308hrt\n ab. ", "Now."]) == "Zug f\u00e4hrt ab.\nNow."
    assert normalize(["Zug", "ab"]) != normalize(["Zug ab"])
