"""The engine flite: English, with a human sound."""

from __future__ import annotations

import os
import re
import subprocess
import unicodedata
from collections.abc import Iterator

from agent.errors import AudioError
from agent.server.tts.engine import Speech, VoiceOptions

_VOICES = ("slt", "awb", "rms", "kal16", "kal")
_WAV_HEADER_BYTES = 44
_CHUNK_BYTES = 8192
_PATIENCE_SECONDS = 60.0
_PLAIN: dict[int, str | None] = {
    ord(letter): plain
    for letter, plain in [
        ("ß", "ss"), ("æ", "ae"), ("Æ", "Ae"), ("œ", "oe"), ("Œ", "Oe"), ("ø", "o"), ("Ø", "O"), ("ł", "l"), ("Ł", "L"),
        ("đ", "d"), ("ð", "d"), ("þ", "th"), ("ı", "i"), ("°", " degrees "), ("×", " times "), ("⁄", "/"),
    ]
}  # fmt: skip


def plain(text: str) -> str:
    """The text for a program that knows ASCII alone, and leaves every other letter out without a word: accents are
    taken off, as English does. What has no such form stays as it is."""
    apart = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in apart if not unicodedata.combining(letter)).translate(_PLAIN)


def passes_over(text: str) -> bool:
    """Whether the text has letters, digits or currencies that flite leaves out."""
    return any(not each.isascii() and (each.isalnum() or unicodedata.category(each) == "Sc") for each in plain(text))


class Flite:
    """Speaks English through the program flite, voice ``slt`` unless ``flite:NAME`` names another.

    flite goes back and forth in both of its files and so takes no pipes: text and sound are files in memory, without a
    name and gone with their last descriptor. A sentence is there as a whole, about 0.1 s after it was asked for.
    """

    def speak(self, text: str, manner: VoiceOptions) -> Speech:
        text = plain(text)
        if not re.search(r"[0-9A-Za-z]", text):
            return Speech(16000, iter(()))  # nothing that it pronounces: some versions fail at that, some give silence
        wanted = manner.voice.removeprefix("flite:")
        argv = ["flite", "-voice", wanted if wanted in _VOICES else "slt"]
        if abs(manner.speed - 1.0) > 0.01:
            argv += ["--setf", f"duration_stretch={1 / min(max(manner.speed, 0.3), 3.0):.3f}"]
        return _spoken(argv, text)


def _spoken(argv: list[str], text: str) -> Speech:
    words = os.memfd_create("text", os.MFD_CLOEXEC)
    sound = os.memfd_create("sound", os.MFD_CLOEXEC)
    try:
        with open(words, "wb", closefd=False) as file:
            file.write(text.replace("\0", " ").encode("utf-8", "replace"))
        files = ["-f", f"/proc/self/fd/{words}", "-o", f"/proc/self/fd/{sound}"]
        _run([*argv, *files], (words, sound))
        with open(sound, "rb", closefd=False) as file:
            wav = file.read()
    finally:
        os.close(words)
        os.close(sound)
    if len(wav) < _WAV_HEADER_BYTES or not wav.startswith(b"RIFF"):
        raise AudioError("flite gave no sound: install the package flite anew, or set server.speech to espeak")
    return Speech(int.from_bytes(wav[24:28], "little"), _chunks(wav[_WAV_HEADER_BYTES:]))


def _run(argv: list[str], descriptors: tuple[int, int]) -> None:
    try:
        subprocess.run(
            argv, pass_fds=descriptors, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, timeout=_PATIENCE_SECONDS, check=True,
        )  # fmt: skip
    except OSError as error:
        raise AudioError(f"flite cannot be started ({error.strerror}): install the package flite") from error
    except subprocess.SubprocessError as error:
        raise AudioError(f"flite failed while it spoke ({type(error).__name__})") from error


def _chunks(pcm: bytes) -> Iterator[bytes]:
    for at in range(0, len(pcm), _CHUNK_BYTES):
        yield pcm[at : at + _CHUNK_BYTES]
