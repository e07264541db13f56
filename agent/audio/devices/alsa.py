"""ALSA's own names: which cards there are now, and PCMs that PortAudio is made to list.

PortAudio opens only what it listed when it was initialised, and it is initialised once for a whole process: as long as
one side (the speaker) holds a stream, ending and starting it anew for the other side (the microphone) reads nothing
anew. It would neither list ``plughw:CARD=Device,DEV=0``, nor a card that came back after the list was made. So two
names of our own, the slots, are added to ALSA's configuration in memory, one for each direction. While PortAudio makes
its list they stand for ALSA's ``null`` device, which is always there; before a stream is opened, its slot is made an
alias of the wanted name, and ALSA looks that up at that moment. No file and no environment variable is touched, any
ALSA name is honoured as it is written, and a card that comes back under another number is found. (``PA_ALSA_PLUGHW``
knows only the cards of the list; a configuration file of our own would have to outlive every child process that
inherits its path.)
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from pathlib import Path

from agent.errors import DeviceError

PROC = Path("/proc/asound")
SOURCE_SLOT = "voice_agent_source"
SINK_SLOT = "voice_agent_sink"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_CARD = re.compile(r"^ *(?P<number>\d+) \[(?P<id>[^\]]*)\]: (?P<driver>.*?) - (?P<name>.*)$")
_PCM = re.compile(r"^(?P<card>\d+)-(?P<device>\d+): (?P<id>.*?) : (?P<name>.*?) :(?P<streams>.*)$")


@dataclass(frozen=True, slots=True)
class CardPcm:
    """One PCM of a sound card in the kernel. ``card`` is its id, which stays the same when ``number`` changes."""

    number: int
    card: str
    device: int
    name: str
    source: bool
    sink: bool

    @property
    def address(self) -> str:
        """What follows ``hw:`` or ``plughw:`` in an ALSA name."""
        return f"CARD={self.card},DEV={self.device}"


def kernel_pcms(proc: Path = PROC) -> list[CardPcm]:
    """The PCMs of the kernel's sound cards as they are now; none where there is no kernel sound."""
    known: dict[int, tuple[str, str]] = {}
    number = -1
    for line in _lines(proc / "cards"):
        match = _CARD.match(line)
        if match:
            number = int(match["number"])
            known[number] = (match["id"].strip(), match["name"].strip())
        elif number in known and line.strip():
            card, name = known[number]
            known[number] = (card, f"{name} ({line.strip()})")  # the long name says where it is plugged in
    found = []
    for line in _lines(proc / "pcm"):
        match = _PCM.match(line)
        if match and int(match["card"]) in known:
            card, name = known[int(match["card"])]
            source, sink = "capture" in match["streams"], "playback" in match["streams"]
            found.append(CardPcm(int(match["card"]), card, int(match["device"]), name, source, sink))
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []


def set_slot(slot: str, name: str | None) -> None:
    """Makes ``slot`` stand for the ALSA name ``name``, or for ALSA's ``null`` device.

    The caller holds PortAudio's lock. To be called before every initialisation of PortAudio and before every open:
    ALSA forgets it when PortAudio ends and when a file of its configuration changes. Raises ``DeviceError`` where that
    configuration cannot be read, or is such that PortAudio, which takes the PCM ``default`` for granted, would abort
    the process.
    """
    if name is not None and not (0 < len(name) <= 200 and name.isprintable()):
        raise DeviceError(f"{name[:200]!r} is no name of a sound device: see `voice-agent devices`")
    target = "{ type null }" if name is None else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    text = f"pcm.!{slot} {target}\n".encode()
    library = _library()
    _read(library)
    top = ctypes.c_void_p.in_dll(library, "snd_config")
    if name is None and not any(_has(library, pcm) for pcm in ("default", "dmix")):
        raise DeviceError(
            "ALSA's configuration is missing or has no PCM called default: install the package libasound2-data, "
            "and look at ALSA_CONFIG_PATH and asound.conf"
        )
    stream = ctypes.c_void_p()
    refused = library.snd_input_buffer_open(ctypes.byref(stream), text, len(text))
    if refused >= 0:
        refused = library.snd_config_load(top, stream)
        library.snd_input_close(stream)
    if refused < 0:
        raise DeviceError(f"ALSA does not take the name {name!r}: see `voice-agent devices`")


def is_defined(name: str) -> bool:
    """Whether ALSA's configuration has a PCM of that very name. The caller holds PortAudio's lock."""
    if not _NAME.fullmatch(name):
        return False
    library = _library()
    _read(library)
    return _has(library, name)


def _read(library: ctypes.CDLL) -> None:
    """Has ALSA read its configuration, where it has changed. One mistake in any of its files and there is none at all,
    and looking for something in none would abort the process."""
    if library.snd_config_update() < 0:
        raise DeviceError(
            "ALSA's configuration cannot be read: there is a mistake in /etc/asound.conf, in ~/.asoundrc, or where "
            "ALSA_CONFIG_PATH points to"
        )


def _has(library: ctypes.CDLL, name: str) -> bool:
    found = ctypes.c_void_p()
    top = ctypes.c_void_p.in_dll(library, "snd_config")
    return int(library.snd_config_search(top, f"pcm.{name}".encode(), ctypes.byref(found))) >= 0


def _library() -> ctypes.CDLL:
    # Loading it again gives the copy that PortAudio is linked with, so both see one configuration.
    try:
        library = ctypes.CDLL("libasound.so.2")
    except OSError as error:
        raise DeviceError("ALSA's library is missing: install the package libasound2") from error
    library.snd_input_buffer_open.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_char_p, ctypes.c_ssize_t]
    library.snd_config_load.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.snd_config_search.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p)]
    library.snd_input_close.argtypes = [ctypes.c_void_p]
    return library
