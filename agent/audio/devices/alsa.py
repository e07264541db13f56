"""ALSA without PortAudio: the cards of the kernel, and aliases that let PortAudio open any ALSA name.

PortAudio (19.6) opens only the devices of the list that it makes in ``Pa_Initialize``. It counts initializations: while
one direction has an open stream, terminating and initializing for the other direction keeps the old list. The list
contains neither ``plughw:CARD=Device,DEV=0`` nor a card that was plugged in later.

Therefore this module adds two names, the slots, to ALSA's configuration in memory, one for each direction. While
PortAudio makes its list, a slot is ALSA's ``null`` device, which always exists. Before a stream is opened, the slot
becomes an alias of the desired name, which ALSA resolves at that time. So every ALSA name works unchanged, and a card
that returns with another number is detected, without a file or an environment variable. (``PA_ALSA_PLUGHW`` applies
only to the cards of the list. A configuration file of our own must exist as long as each child process that inherits
its path.)
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

from agent.audio.devices.alsa_config import invalid_configuration
from agent.audio.devices.c_stderr import captured_messages
from agent.errors import DeviceError
from agent.system.named_tuple import NamedTuple

PROC = Path("/proc/asound")
SOURCE_SLOT = "voice_agent_source"
SINK_SLOT = "voice_agent_sink"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_CARD = re.compile(r"^ *(?P<number>\d+) \[(?P<id>[^\]]*)\]: (?P<driver>.*?) - (?P<name>.*)$")
_PCM = re.compile(r"^(?P<card>\d+)-(?P<device>\d+): (?P<id>.*?) : (?P<name>.*?) :(?P<streams>.*)$")


class CardPcm(NamedTuple):
    """One PCM of a sound card in the kernel. Immutable.

    ``card``: stable id of the card; ``number``: number of the card, which may change at boot; ``source`` and ``sink``:
    whether the PCM can record and play.
    """

    number: int
    card: str
    device: int
    name: str
    source: bool
    sink: bool

    @property
    def address(self) -> str:
        """The part of an ALSA name after ``hw:`` or ``plughw:``."""
        return f"CARD={self.card},DEV={self.device}"


def kernel_pcms(proc: Path = PROC) -> list[CardPcm]:
    """List the PCMs of the kernel's sound cards; empty without ALSA in the kernel."""
    cards: dict[int, tuple[str, str]] = {}
    number = -1
    for line in _read_lines(proc / "cards"):
        match = _CARD.match(line)
        if match:
            number = int(match["number"])
            cards[number] = (match["id"].strip(), match["name"].strip())
        elif number in cards and line.strip():
            card, name = cards[number]
            cards[number] = (card, f"{name} ({line.strip()})")  # the long name contains the port
    pcms = []
    for line in _read_lines(proc / "pcm"):
        match = _PCM.match(line)
        if match and int(match["card"]) in cards:
            card, name = cards[int(match["card"])]
            source, sink = "capture" in match["streams"], "playback" in match["streams"]
            pcms.append(CardPcm(int(match["card"]), card, int(match["device"]), name, source, sink))
    return pcms


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []


def set_slot(slot: str, name: str | None) -> None:
    """Make ``slot`` an alias of the ALSA name ``name``; ``None``: of the ``null`` device.

    Not thread-safe: the caller holds ``PORTAUDIO_LOCK``. Required before every initialization of PortAudio and before
    every open, because ALSA drops the alias when PortAudio terminates (``snd_config_update_free_global``) and when a
    configuration file changes.

    Raises:
        DeviceError: If ALSA's configuration is missing or invalid, or rejects the name.
    """
    if name is not None and not (0 < len(name) <= 200 and name.isprintable()):
        raise DeviceError(f"{name[:200]!r} is not the name of a sound device. `voice-agent devices` lists the names.")
    target = "{ type null }" if name is None else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    text = f"pcm.!{slot} {target}\n".encode()
    library = load_library()
    _update_config(library)
    top = ctypes.c_void_p.in_dll(library, "snd_config")
    # PortAudio assumes a PCM called "default": without one, listing the devices ends in an assertion (SIGABRT).
    if name is None and not any(_has(library, pcm) for pcm in ("default", "dmix")):
        raise DeviceError(
            "ALSA's configuration is missing or has no PCM called default. Install the package libasound2-data, "
            "and check ALSA_CONFIG_PATH and asound.conf."
        )
    source = ctypes.c_void_p()
    status = library.snd_input_buffer_open(ctypes.byref(source), text, len(text))
    if status >= 0:
        status = library.snd_config_load(top, source)
        library.snd_input_close(source)
    if status < 0:
        raise DeviceError(f"ALSA rejects the name {name!r}. `voice-agent devices` lists the names.")


def is_defined(name: str) -> bool:
    """Return whether ALSA's configuration defines the PCM ``name``. The caller holds ``PORTAUDIO_LOCK``."""
    if not _NAME.fullmatch(name):
        return False
    library = load_library()
    _update_config(library)
    return _has(library, name)


def _update_config(library: ctypes.CDLL) -> None:
    """Reread ALSA's configuration if it has changed.

    After a syntax error in any of the files, ALSA has no configuration at all, and a search would abort the process (an
    assertion in ``snd_config_search``).

    Raises:
        DeviceError: If the configuration is invalid.
    """
    if library.snd_config_update() < 0:
        raise invalid_configuration(captured_messages())


def _has(library: ctypes.CDLL, name: str) -> bool:
    node = ctypes.c_void_p()
    top = ctypes.c_void_p.in_dll(library, "snd_config")
    return int(library.snd_config_search(top, f"pcm.{name}".encode(), ctypes.byref(node))) >= 0


def load_library() -> ctypes.CDLL:
    """Return libasound.

    Raises:
        DeviceError: If it is missing.
    """
    # dlopen returns the copy that PortAudio is linked with, so both use the same configuration in memory.
    try:
        library = ctypes.CDLL("libasound.so.2")
    except OSError as error:
        raise DeviceError("libasound is missing. Install the package libasound2.") from error
    library.snd_input_buffer_open.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_char_p, ctypes.c_ssize_t]
    library.snd_config_load.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.snd_config_search.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p)]
    library.snd_input_close.argtypes = [ctypes.c_void_p]
    library.snd_pcm_format_name.restype = ctypes.c_char_p
    return library
