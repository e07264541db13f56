"""Lists the voices of the local speech engines on this machine and checks a configured voice."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

from agent.server.tts.engine import LANGUAGE_NAMES
from agent.server.tts.espeak import VOICE_PATTERN
from agent.server.tts.flite import VOICES as FLITE_VOICES
from agent.server.tts.hibari import NATURAL_VOICE, is_installed
from agent.system.named_tuple import NamedTuple

_TIMEOUT_SECONDS = 10.0


class Voice(NamedTuple):
    """A voice. Immutable.

    Attributes:
        name: The value of ``synthesis.local.voice``, such as ``espeak:de``.
        language: The code of its language, such as ``de`` or ``en-us``.
        about: A description, such as the name of the language.
        aliases: Other language codes and file names that select the voice.
    """

    name: str
    language: str
    about: str
    aliases: tuple[str, ...] = ()


def list_voices() -> list[Voice]:
    """Return the voices of the installed engines. Runs flite and espeak-ng, each for at most 10 s."""
    natural = [Voice(f"hibari:{NATURAL_VOICE}", "en", "English, natural")] if is_installed() else []
    return list({voice.name: voice for voice in (*natural, *_flite_voices(), *_espeak_voices())}.values())


def find_voice_problem(voice: str) -> str | None:
    """Check whether ``voice``, a value of ``synthesis.local.voice``, selects a voice of this machine.

    Returns:
        The problem and the expected values; ``None`` if the voice exists, or if no engine is installed, so that the
        voice cannot be checked.
    """
    voices = list_voices()
    if not voices or any(voice == each.name for each in voices):
        return None
    engine, colon, name = voice.partition(":")
    if colon and engine == "espeak" and VOICE_PATTERN.fullmatch(name):
        base, _, variant = name.partition("+")
        if base.lower() in _espeak_codes(voices) and (not variant or variant in _espeak_variants()):
            return None
    if not colon and _is_language(voice, voices):
        return None
    what = f'there is no voice "{voice}" on this machine'
    return f"{what}, expected a language such as en or a name that voice-agent voices lists"


def _is_language(language: str, voices: list[Voice]) -> bool:
    language = language.strip().lower()
    code = LANGUAGE_NAMES.get(language) or language.replace("_", "-").partition("-")[0]
    if len(code) != 2:  # VoiceOptions.code accepts no other length
        return False
    return code in _espeak_codes(voices) or any(voice.language == code for voice in voices)


def _espeak_codes(voices: list[Voice]) -> set[str]:
    codes = {code.lower() for voice in voices if voice.name.startswith("espeak:") for code in _codes(voice)}
    return codes | {code.partition("-")[0] for code in codes}


def _codes(voice: Voice) -> tuple[str, ...]:
    return (voice.language, *voice.aliases)


def _flite_voices() -> Iterator[Voice]:
    output = _output("flite", "-lv").partition(":")[2].split()
    for name in FLITE_VOICES:
        if name in output:
            yield Voice(f"flite:{name}", "en", "English")


def _espeak_voices() -> Iterator[Voice]:
    for fields in _espeak_table("--voices"):
        if len(fields) < 5 or not VOICE_PATTERN.fullmatch(fields[1]):
            continue
        # The table lists another language as "(zh 5)", with its priority, and the file as "sit/cmn".
        others = [word.lstrip("(") for word in fields[5:] if word.startswith("(")]
        file = fields[4].rpartition("/")[2]
        yield Voice(f"espeak:{fields[1]}", fields[1], fields[3].replace("_", " ").strip(), (file, *others))


def _espeak_variants() -> set[str]:
    return {fields[4].rpartition("/")[2] for fields in _espeak_table("--voices=variant") if len(fields) >= 5}


def _espeak_table(option: str) -> list[list[str]]:
    return [line.replace(")", ") ").split() for line in _output("espeak-ng", option).splitlines()[1:]]


def _output(*command: str) -> str:
    """Return the output of a program; empty if the program is not installed or takes too long."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")
