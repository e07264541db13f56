"""Encodes and decodes the file of a phrase: a line with the checksum, a line with the properties, and the audio."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Sequence

from agent.audio.format import Format
from agent.errors import AudioError
from agent.system.distinct import distinct
from agent.system.named_tuple import NamedTuple

MAGIC = b"voice-agent phrase 1 "
DIGEST_BYTES = 16
_FIRST_LINE_BYTES = len(MAGIC) + 2 * DIGEST_BYTES + 1


@distinct
class PhraseKey(NamedTuple):
    """The identity of a phrase. Immutable.

    ``service`` is the name of the service, ``sound`` is its ``Sound.settings``, and ``text`` is the result of
    ``normalize``.
    """

    service: str
    sound: str
    text: str

    @property
    def name(self) -> str:
        """The name of the file."""
        words = json.dumps(self, ensure_ascii=True).encode()
        return f"{hashlib.blake2b(words, digest_size=DIGEST_BYTES).hexdigest()}.phrase"


@distinct
class Phrase(NamedTuple):
    """The audio of a text, from its first sample to the end mark of the service. Immutable.

    ``voice`` is the name of the voice, for display. ``pcm`` is s16le in ``format``.
    """

    key: PhraseKey
    voice: str
    format: Format
    pcm: bytes

    @property
    def seconds(self) -> float:
        return self.format.seconds_of(len(self.pcm))


def normalize(passages: Sequence[str]) -> str:
    """Return the text of a key: one line for each passage, in NFC, with single spaces.

    The lines keep the boundaries of the passages, which change the sound: the service gets the passages one by one.
    """
    return "\n".join(" ".join(unicodedata.normalize("NFC", passage).split()) for passage in passages)


def encode(phrase: Phrase) -> bytes:
    """Return the content of the file."""
    properties = {
        **phrase.key._asdict(),
        "voice": phrase.voice,
        "rate": phrase.format.rate,
        "channels": phrase.format.channels,
    }
    rest = json.dumps(properties, ensure_ascii=True).encode() + b"\n" + phrase.pcm
    return MAGIC + _digest(rest) + b"\n" + rest


def decode(data: bytes) -> Phrase:
    """Return the phrase of a file.

    Raises:
        ValueError: The file is not a phrase, or it is damaged.
    """
    rest = memoryview(data)[_FIRST_LINE_BYTES:]
    if data[:_FIRST_LINE_BYTES] != MAGIC + _digest(rest) + b"\n":
        raise ValueError("the checksum differs")
    end = data.index(b"\n", _FIRST_LINE_BYTES)
    properties = json.loads(data[_FIRST_LINE_BYTES:end])
    try:
        key = PhraseKey(properties["service"], properties["sound"], properties["text"])
        format = Format(properties["rate"], properties["channels"])
        return Phrase(key, properties["voice"], format, data[end + 1 :])
    except (AudioError, KeyError, TypeError) as error:
        raise ValueError(f"the properties are not readable ({error})") from error


def _digest(rest: bytes | memoryview) -> bytes:
    return hashlib.blake2b(rest, digest_size=DIGEST_BYTES).hexdigest().encode()
