"""Finds the files of ALSA's configuration that are invalid or define a PCM."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Sequence
from pathlib import Path

from agent.errors import DeviceError, DeviceProblem

SYSTEM_FILE = Path("/usr/share/alsa/alsa.conf")
# /etc/alsa/conf.d/99-pulse.conf loads it if a PulseAudio server runs.
_PULSE_FILE = Path("/usr/share/alsa/pulse-alsa.conf")
_FOLDERS = (Path("/var/lib/alsa/conf.d"), Path("/usr/etc/alsa/conf.d"), Path("/etc/alsa/conf.d"))
_SYSTEM_WIDE = Path("/etc/asound.conf")
_POSITION = re.compile(r"^(?P<file>.+?):(?P<line>\d+):\d+:(?P<reason>.+)$")
_INVALID_FILE = re.compile(r"^(?P<file>/.+) may be old or corrupted")


def config_files() -> list[Path]:
    """Return the existing files in the order in which ALSA loads them (the ``load`` hook of ``alsa.conf``)."""
    named = os.environ.get("ALSA_CONFIG_PATH")
    files = [Path(each) for each in named.split(":")] if named else [SYSTEM_FILE]
    if any(str(_SYSTEM_WIDE) in _read(file) for file in files):
        files.append(_PULSE_FILE)
        for folder in _FOLDERS:
            files += sorted(folder.glob("*.conf"))
        config_home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        files += [_SYSTEM_WIDE, Path.home() / ".asoundrc", config_home / "alsa" / "asoundrc"]
    return [file for file in files if file.is_file()]


def defining_file(library: ctypes.CDLL, name: str) -> Path | None:
    """Return the last file that defines the PCM ``name``, or ``None``. The caller holds ``PORTAUDIO_LOCK``."""
    return next((file for file in reversed(config_files()) if _defines(library, file, name)), None)


def file_with(word: str) -> Path | None:
    """Return the last file that contains ``word``, or ``None``."""
    pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
    return next((file for file in reversed(config_files()) if pattern.search(_read(file))), None)


def invalid_configuration(messages: Sequence[str]) -> DeviceError:
    """Return the error for a configuration that ALSA cannot read.

    Args:
        messages: ALSA's messages.
    """
    file = next((match["file"] for each in messages if (match := _INVALID_FILE.match(each))), None)
    position = next((match for each in messages if (match := _POSITION.match(each))), None)
    if file is None:
        names = ", ".join(str(each) for each in config_files()) or "the file that ALSA_CONFIG_PATH names"
        reason, cure = "syntax error", f"Check the braces and quotes in {names}."
    elif position is None:
        reason, cure = f"syntax error in {file}", f"Correct or remove {file}."
    else:
        if not position["file"].startswith("_"):  # an included file; "_toplevel_" is the file itself
            file = position["file"]
        reason = f"syntax error in {file}, found at line {position['line']}: {position['reason'].strip()}"
        cure = f"Check the braces and quotes before this line, or remove {file}."
    return DeviceError(
        f"ALSA's configuration cannot be read: {reason}.", cure=cure, problem=DeviceProblem.CONFIGURATION
    )


def _defines(library: ctypes.CDLL, file: Path, name: str) -> bool:
    top, source, node = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    if library.snd_config_top(ctypes.byref(top)) < 0:
        return False
    try:
        if library.snd_input_stdio_open(ctypes.byref(source), os.fsencode(file), b"r") < 0:
            return False
        status = library.snd_config_load(top, source)
        library.snd_input_close(source)
        return bool(status >= 0 and library.snd_config_search(top, f"pcm.{name}".encode(), ctypes.byref(node)) >= 0)
    finally:
        library.snd_config_delete(top)


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
