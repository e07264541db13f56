"""Finds the reason and the remedy if a sound device cannot be opened."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path

from agent.audio.devices.alsa import kernel_pcms, load_library
from agent.audio.devices.alsa_config import SYSTEM_FILE, defining_file, file_with
from agent.audio.devices.c_stderr import StderrCapture
from agent.audio.devices.pcm import query_pcm
from agent.audio.format import MAX_CHANNELS
from agent.errors import DeviceError, DeviceProblem

DROP_IN = "/etc/systemd/system/voice-agent.service.d/pipewire.conf"
LIST_HINT = "`voice-agent devices` lists the devices."
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_PLUGIN = re.compile(r"libasound_module_pcm_(?P<type>\w+)\.so")
_LIBRARY = re.compile(r"Cannot open shared library (?P<path>\S+)")
_PLUGIN_PACKAGES = {"pipewire": "pipewire-alsa", "pulse": "libasound2-plugins", "jack": "libasound2-plugins"}
_LOOPS = ("Too many definition levels", "refers to itself")
_MISSING_CARD = ("Cannot get card index", "cannot find card")
_UNREACHABLE = (errno.ECONNREFUSED, errno.EHOSTDOWN)  # of the plugins of PulseAudio and PipeWire
_ABSENT = (errno.ENOENT, errno.ENODEV, errno.ENXIO)
_WORD_OF_MESSAGE = re.compile(r"(?:Unknown PCM|Unknown field) (?P<word>[\w.-]+)$")


def format_error(name: str, target: str, output: bool) -> DeviceError:
    """Return the error for a device that opens but has no usable format. The caller holds ``PORTAUDIO_LOCK``.

    Args:
        name: Name of the device in the configuration.
        target: Its ALSA name.
        output: Whether it is a speaker.
    """
    pcm = query_pcm(target, output)
    if pcm.channels and min(pcm.channels) > MAX_CHANNELS:
        reason = f"it has only {_list(pcm.channels)} channels, and 1 to {MAX_CHANNELS} can be used"
    elif pcm.samples and not pcm.formats:
        reason = f"it has only the sample formats {', '.join(pcm.samples[:5])} at {_list(pcm.rates)} Hz"
    elif pcm.channels and pcm.rates:
        reason = f"it refuses its own formats of {_list(pcm.channels)} channels at {_list(pcm.rates)} Hz"
    else:
        reason = "it supports none of the requested formats, and ALSA reports no others"
    converting = converting_name(target, output)
    if converting is None and not pcm.channels:
        cure = f"Set {_key(output)} to another device: {LIST_HINT}"
    elif converting is None:
        cure = f"Define a PCM of type plug with the slave {target!r} in /etc/asound.conf, and set {_key(output)} to it."
    else:
        cure = f'Set {_key(output)} to "{converting}": ALSA then converts.'
    return DeviceError(f"{_subject(name, output)}: {reason}.", cure=cure, problem=DeviceProblem.NO_FORMAT)


def converting_name(target: str, output: bool) -> str | None:
    """Return an ALSA name that converts to a supported format of ``target``; ``None`` if no such name can be opened."""
    if target.startswith("hw:"):
        name = f"plug{target}"
    else:
        name = f"plug:{target}" if _NAME.fullmatch(target) else f"plug:'{target}'"
    return name if query_pcm(name, output).formats else None


def open_error(name: str, target: str, output: bool, messages: Sequence[str], fallback: str) -> DeviceError:
    """Return the error for a device that ALSA does not open. The caller holds ``PORTAUDIO_LOCK``.

    Args:
        name: Name of the device in the configuration.
        target: Its ALSA name.
        output: Whether it is a speaker.
        messages: ALSA's messages about the failed open; the later ones are consequences of the first.
        fallback: The reason, if ALSA gives none.
    """
    pcm = query_pcm(target, output)
    message = messages[0] if messages else ""
    subject = _subject(name, output)
    if message.startswith(("PulseAudio:", "PipeWire:")) or pcm.error in _UNREACHABLE:
        return _unreachable_server(subject, target, output, message or os.strerror(pcm.error))
    if library := _LIBRARY.match(message):
        return _missing_plugin(subject, target, output, library["path"])
    file = _own_file(target)
    is_absent = message.startswith(_MISSING_CARD) or (not message and pcm.error in _ABSENT)
    if is_absent and file is not None:
        detail = f" ({message})" if message else ""
        return _invalid(subject, target, output, file, f"names a sound card that is missing{detail}")
    if is_absent:
        return _absent(subject, target, output, message)
    if message and pcm.error not in (0, errno.EBUSY) and message != f"Unknown PCM {target}":
        word = _WORD_OF_MESSAGE.search(message)
        file = (file_with(word["word"]) if word and file is not None else None) or file
        if file is not None:
            is_loop = any(text in message for text in _LOOPS)
            return _invalid(subject, target, output, file, "refers to itself" if is_loop else f"is invalid: {message}")
    # A missing or busy card may return, so it is "lost"; a name that ALSA does not know is probably misspelled.
    is_unknown = message.startswith(("Unknown PCM", "Unknown parameter"))
    reason = message or ("another program uses it" if pcm.error == errno.EBUSY else fallback)
    return DeviceError(f"{subject}: {reason}.", cure=LIST_HINT, lost=not is_unknown, unknown=is_unknown)


def default_error(messages: StderrCapture) -> DeviceError | None:
    """Return the error of ALSA's PCM ``default`` if a file or a sound server is the reason that it does not open.

    The caller holds ``PORTAUDIO_LOCK``.

    Args:
        messages: The current ``capture_stderr``.
    """
    for output in (True, False):
        messages.reset()
        if query_pcm("default", output).error:
            error = open_error("default", "default", output, messages.messages, "unknown reason")
            if error.problem in (DeviceProblem.SERVER, DeviceProblem.CONFIGURATION):
                return error
    return None


def _unreachable_server(subject: str, target: str, output: bool, message: str) -> DeviceError:
    file = defining_file(load_library(), target) if _NAME.fullmatch(target) else None
    server = "PulseAudio" if message.startswith("PulseAudio:") else "PipeWire"
    where = f" (pcm.{target} in {file})" if file is not None else ""
    address = os.environ.get("PULSE_SERVER") if server == "PulseAudio" else os.environ.get("PIPEWIRE_REMOTE")
    at = f" at {address}" if address else ""
    detail = message.rpartition(": ")[2]
    return DeviceError(
        f"{subject}: it is a device of {server}{where}, and user {os.geteuid()} cannot reach the server{at}: {detail}.",
        cure=(
            f"Start the server in this user's session, install the drop-in {DROP_IN} for the service, or set "
            f"{_key(output)} to a sound card."
        ),
        lost=True,
        problem=DeviceProblem.SERVER,
    )


def _missing_plugin(subject: str, target: str, output: bool, path: str) -> DeviceError:
    plugin = _PLUGIN.search(path)
    own = _own_file(target)
    file = file_with(plugin["type"] if plugin and own is not None and "/" not in path else path) or own or SYSTEM_FILE
    package = _PLUGIN_PACKAGES.get(plugin["type"]) if plugin else None
    if package is not None:
        cure = f"Install the package {package}, or correct {file}."
    else:
        cure = f"Correct the type in {file}."
    return DeviceError(
        f"{subject}: ALSA cannot load its plugin {path}, which {file} requires.",
        cure=cure,
        lost=True,
        problem=DeviceProblem.CONFIGURATION,
    )


def _invalid(subject: str, target: str, output: bool, file: Path, reason: str) -> DeviceError:
    return DeviceError(
        f"{subject}: pcm.{target} in {file} {reason}.",
        cure=f"Correct {file}, or set {_key(output)} to a name from `voice-agent devices`.",
        lost=True,
        problem=DeviceProblem.CONFIGURATION,
    )


def _absent(subject: str, target: str, output: bool, message: str) -> DeviceError:
    reason = f"there is no such sound card ({message})" if message else "there is no such sound card"
    present = [card for card in kernel_pcms() if (card.sink if output else card.source)]
    cure = LIST_HINT
    if target == "default" and present:
        line = f"plughw:{present[0].address}"
        cure = f"Set {_key(output)} to {line}, or defaults.pcm.card to {present[0].number} in /etc/asound.conf."
    return DeviceError(f"{subject}: {reason}.", cure=cure, lost=True, problem=DeviceProblem.ABSENT)


def _own_file(target: str) -> Path | None:
    """Return the local configuration file that defines the PCM; ``None`` for one of ALSA's own files."""
    file = defining_file(load_library(), target) if _NAME.fullmatch(target) else None
    return None if file is None or file.is_relative_to(SYSTEM_FILE.parent) else file


def _subject(name: str, output: bool) -> str:
    return f"the {'speaker' if output else 'microphone'} {name!r} cannot be opened"


def _key(output: bool) -> str:
    return "speaker.device" if output else "microphone.device"


def _list(values: Sequence[int]) -> str:
    texts = [str(value) for value in values[:8]]
    return " or ".join(filter(None, (", ".join(texts[:-1]), *texts[-1:])))
