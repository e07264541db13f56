"""Speech engine flite: English, with voices that sound more natural than espeak-ng."""

from __future__ import annotations

import os
import re
import subprocess
import unicodedata
from array import array
from collections.abc import Iterator

from agent.errors import AudioError
from agent.server.tts import sentences
from agent.server.tts.engine import SynthesizedAudio, TtsEngine, VoiceOptions
from agent.server.work_slots import WorkSlots

VOICES = ("slt", "awb", "rms", "kal16", "kal")
_WAV_HEADER_BYTES = 44
_CHUNK_BYTES = 8192
_TIMEOUT_SECONDS = 60.0
_SLOTS = WorkSlots(len(os.sched_getaffinity(0)))
"""flite uses one core. More processes than cores would delay the first audio of all clients."""

_LETTER = re.compile(r"[0-9A-Za-z]")
SILENCE_LEVEL = 300
"""Highest absolute sample (s16) that counts as silence."""

_PAUSE_SECONDS = 0.04
"""Silence that is kept at the beginning of a clause. flite puts 0.2 s of silence at the beginning and at the end of a
clause (measured). The silence at the end is kept as the pause at a comma."""

_REPLACEMENTS: dict[int, str | None] = {
    ord(character): ascii_text
    for character, ascii_text in [
        ("ß", "ss"), ("æ", "ae"), ("Æ", "Ae"), ("œ", "oe"), ("Œ", "Oe"), ("ø", "o"), ("Ø", "O"), ("ł", "l"), ("Ł", "L"),
        ("đ", "d"), ("ð", "d"), ("þ", "th"), ("ı", "i"), ("°", " degrees "), ("×", " times "), ("⁄", "/"),
    ]
}  # fmt: skip


def transliterate(text: str) -> str:
    """Return ``text`` with accents removed and common signs spelled out.

    flite reads ASCII only and omits every other character silently. Characters without an ASCII form stay unchanged.
    """
    decomposed = unicodedata.normalize("NFKD", text)
    base = "".join(character for character in decomposed if not unicodedata.combining(character))
    return base.translate(_REPLACEMENTS)


def can_pronounce(text: str) -> bool:
    """Return whether flite speaks every letter, digit and currency sign of ``text``."""
    return all(
        each.isascii() or not (each.isalnum() or unicodedata.category(each) == "Sc") for each in transliterate(text)
    )


def without_lead(pcm: bytes, rate: int, seconds: float = _PAUSE_SECONDS) -> bytes:
    """Return mono s16le at ``rate`` Hz with the silence at its beginning shortened to at most ``seconds``."""
    samples = array("h", pcm)
    first = next((at for at, sample in enumerate(samples) if abs(sample) > SILENCE_LEVEL), 0)
    return samples[max(0, first - round(seconds * rate)) :].tobytes()


class FliteEngine:
    """Runs the program flite with the voice ``slt``, or with the voice that ``flite:NAME`` selects. Thread-safe.

    flite seeks in its input and its output and therefore rejects pipes. Both are anonymous files in memory, which the
    kernel removes with their last descriptor. flite writes no audio before it has synthesized the whole text, which
    takes 0.1 to 0.2 s for a long sentence (measured). A long sentence is therefore synthesized clause by clause.
    """

    def speak(self, text: str, options: VoiceOptions) -> SynthesizedAudio:
        text = transliterate(text)
        if not _LETTER.search(text):
            # For a text without words, some versions of flite fail and others write silence.
            return SynthesizedAudio(16000, iter(()))
        requested = options.voice.removeprefix("flite:")
        argv = ["flite", "-voice", requested if requested in VOICES else "slt"]
        if abs(options.speed - 1.0) > 0.01:
            argv += ["--setf", f"duration_stretch={1 / min(max(options.speed, 0.3), 3.0):.3f}"]
        first, *rest = filter(_LETTER.search, sentences.clauses(text))
        audio = _synthesize(argv, first)
        return SynthesizedAudio(audio.rate, _continue(audio, argv, rest))


def create() -> TtsEngine:
    """Create the engine; the entry point of the registry."""
    return FliteEngine()


def _continue(audio: SynthesizedAudio, argv: list[str], clauses: list[str]) -> Iterator[bytes]:
    yield from _chunks(without_lead(b"".join(audio.chunks), audio.rate))
    for clause in clauses:
        yield from _chunks(without_lead(b"".join(_synthesize(argv, clause).chunks), audio.rate))


def _synthesize(argv: list[str], text: str) -> SynthesizedAudio:
    text_fd = os.memfd_create("text", os.MFD_CLOEXEC)
    audio_fd = os.memfd_create("audio", os.MFD_CLOEXEC)
    try:
        with open(text_fd, "wb", closefd=False) as file:
            file.write(text.replace("\0", " ").encode("utf-8", "replace"))
        files = ["-f", f"/proc/self/fd/{text_fd}", "-o", f"/proc/self/fd/{audio_fd}"]
        _run([*argv, *files], (text_fd, audio_fd))
        with open(audio_fd, "rb", closefd=False) as file:
            wav = file.read()
    finally:
        os.close(text_fd)
        os.close(audio_fd)
    if len(wav) < _WAV_HEADER_BYTES or not wav.startswith(b"RIFF"):
        raise AudioError(
            "flite produced no audio: its installation may be damaged. "
            "Reinstall the package flite, or set server.speech to espeak"
        )
    return SynthesizedAudio(int.from_bytes(wav[24:28], "little"), _chunks(wav[_WAV_HEADER_BYTES:]))


def _run(argv: list[str], descriptors: tuple[int, int]) -> None:
    try:
        with _SLOTS:
            subprocess.run(
                argv, pass_fds=descriptors, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, timeout=_TIMEOUT_SECONDS, check=True,
            )  # fmt: skip
    except OSError as error:
        raise AudioError(f"flite cannot be started: {error.strerror}. Install the package flite") from error
    except subprocess.SubprocessError as error:
        raise AudioError(f"flite failed during synthesis: {type(error).__name__}") from error


def _chunks(pcm: bytes) -> Iterator[bytes]:
    for at in range(0, len(pcm), _CHUNK_BYTES):
        yield pcm[at : at + _CHUNK_BYTES]
