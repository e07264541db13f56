"""Applies and stores the playback volume, the mutes and the choices, and restores them after a restart."""

from __future__ import annotations

import errno
import logging
import os
import threading
from pathlib import Path
from typing import Protocol

from agent.pipeline.events import Choose, Event, MicrophoneMute, Mute, Volume
from agent.system.files import AtomicFile
from agent.system.named_tuple import NamedTuple
from agent.system.text import escape
from agent.system.threads import Deadline

log = logging.getLogger(__name__)

CONFIGURATION = "the configuration"
RESTORED = "the setting from before the restart"
_MAX_FILE_BYTES = 4096
WRITE_DELAY_SECONDS = 0.5
"""A volume knob produces about twenty events per second; only the last value is written."""

PROBE_SECONDS = 0.5
"""Longest wait for the disk before it counts as unusable."""


class HasVolume(Protocol):
    """The part of the speaker that this module uses. Any thread may set the attributes."""

    volume: int
    muted: bool


class CanMute(Protocol):
    """The part of the microphone that this module uses. The methods are thread-safe and idempotent."""

    def mute(self) -> None: ...
    def unmute(self) -> None: ...


class _State(NamedTuple):
    """The stored values. Immutable.

    ``configured`` is the volume of the configuration when the other values were stored.
    """

    configured: int
    volume: int
    muted: bool = False
    microphone_muted: bool = False
    voice: str = ""
    wake_word: str = ""


class VolumeStore:
    """Applies volume and mutes, and stores them, the chosen voice and the chosen wake word in a file.

    If the volume in the configuration has changed since the file was written, the configured volume applies. Without a
    valid file the configuration applies. If the file cannot be written, a warning is logged, and a restart loses the
    values. A short-lived thread writes the file (atomically), because the disk may be slow.

    Not thread-safe, except for ``storage_problem``; owned by the main thread.

    Args:
        path: The file; ``None`` to store nothing.
        configured: The volume of the configuration, in percent.
        write_delay_seconds: Delay between a change and its write.
    """

    def __init__(self, path: Path | None, configured: int, *, write_delay_seconds: float = WRITE_DELAY_SECONDS) -> None:
        self._path = path
        self._write_delay_seconds = write_delay_seconds
        self._lock = threading.Lock()
        self._writer: threading.Thread | None = None
        self._closing = threading.Event()
        self._state = _State(configured, configured)
        stored = self._read()
        if stored is not None:
            is_current = stored.configured == configured
            self._state = stored._replace(configured=configured, volume=stored.volume if is_current else configured)

    def choice(self, setting: str) -> str:
        """Return the chosen value of the setting ``voice`` or ``wake_word``; empty without a choice."""
        return str(getattr(self._state, setting))

    def restored_events(self) -> list[Event]:
        """Return the stored values that differ from the configuration, as events for the start of the daemon."""
        now = self._state
        events: list[Event] = []
        if now.volume != now.configured:
            events.append(Volume(now.volume, RESTORED))
        if now.muted:
            events.append(Mute(True, RESTORED))
        if now.microphone_muted:
            events.append(MicrophoneMute(True, RESTORED))
        return events

    def apply(self, event: Event, speaker: HasVolume | None, microphone: CanMute | None) -> None:
        """Apply a ``Volume``, ``Mute`` or ``MicrophoneMute``, store a ``Choose``; ignore any other event."""
        match event:
            case Choose(setting, value, source):
                log.info("%s: set to %s, by %s", setting.replace("_", " "), escape(value, 100), escape(source))
                now = self._state
                self._store(now._replace(voice=value) if setting == "voice" else now._replace(wake_word=value))
            case Volume(percent, source) if speaker is not None:
                speaker.volume = percent
                log.info("volume: set to %d percent, by %s", percent, escape(source))
                configured = percent if source == CONFIGURATION else self._state.configured
                self._store(self._state._replace(volume=percent, configured=configured))
            case Mute(muted, source) if speaker is not None:
                speaker.muted = muted
                log.info("speaker: %s, by %s", "muted" if muted else "unmuted", escape(source))
                self._store(self._state._replace(muted=muted))
            case MicrophoneMute(muted, source) if microphone is not None:
                if muted:
                    microphone.mute()
                else:
                    microphone.unmute()
                log.info("microphone: %s, by %s", "muted" if muted else "unmuted", escape(source))
                self._store(self._state._replace(microphone_muted=muted))

    def storage_problem(self) -> str | None:
        """Return why a restart would lose the values, and how to fix it; ``None`` if they can be stored.

        Thread-safe. Tests the disk with a file without a name, and waits at most ``PROBE_SECONDS``.
        """
        if self._path is None:
            return None
        reasons: list[str] = []
        probe = threading.Thread(target=self._probe, args=[self._path, reasons], name="volume probe", daemon=True)
        try:
            probe.start()
        except RuntimeError as error:  # the thread limit of the system
            return str(error)
        probe.join(PROBE_SECONDS)
        return f"{self._path}: the disk does not answer" if probe.is_alive() else "".join(reasons) or None

    @staticmethod
    def _probe(path: Path, reasons: list[str]) -> None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with AtomicFile(path) as draft:
                draft.file.write(bytes(_MAX_FILE_BYTES))
                draft.file.flush()
        except OSError as error:
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            cure = "Free disk space" if is_full else f"Make {path.parent} writable for uid {os.geteuid()}"
            reasons.append(f"{path} cannot be written, {error.strerror}. {cure}")

    def close(self, deadline: Deadline) -> None:
        """Write the pending values without delay. Idempotent; later changes are still stored.

        Args:
            deadline: Limit of the wait for the disk. With a slower disk the last change may be lost.
        """
        self._closing.set()
        writer = self._writer
        if writer is not None:
            writer.join(deadline.remaining())

    def _store(self, state: _State) -> None:
        with self._lock:
            before, self._state = self._state, state
            if state == before or self._path is None or self._writer is not None:
                return
            # A daemon thread: a write that hangs in a dead disk must not keep the process alive.
            writer = threading.Thread(target=self._write_changes, args=[self._path], name="volume", daemon=True)
            try:
                writer.start()
            except RuntimeError as error:  # the thread limit of the system
                log.warning("volume: not stored, a restart loses it, %s", error)
            else:
                self._writer = writer

    def _write_changes(self, path: Path) -> None:
        written: _State | None = None
        while True:
            self._closing.wait(self._write_delay_seconds)
            with self._lock:
                now = self._state
                if now == written:
                    self._writer = None
                    return
            self._write(path, now)
            written = now

    @staticmethod
    def _write(path: Path, now: _State) -> None:
        import json  # imported late: most daemons never change the volume

        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with AtomicFile(path) as draft:
                draft.file.write(json.dumps(now._asdict()).encode("ascii") + b"\n")
                draft.commit(durable=True)
        except OSError as error:
            log.warning("volume: not stored, a restart loses it, path=%s, %s", path, error.strerror)

    def _read(self) -> _State | None:
        if self._path is None:
            return None
        try:
            with self._path.open("rb") as file:
                content = file.read(_MAX_FILE_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._log_unreadable(error)
            return None
        import json

        try:
            stored = json.loads(content)
        except (ValueError, RecursionError) as error:
            self._log_unreadable(error)
            return None
        if not isinstance(stored, dict) or not all(_is_percent(stored.get(name)) for name in ("configured", "volume")):
            log.warning("volume: no valid value stored, the configuration applies, path=%s", self._path)
            return None
        muted, microphone = stored.get("muted") is True, stored.get("microphone_muted") is True
        voice, word = (str(stored.get(name) or "") for name in ("voice", "wake_word"))
        return _State(stored["configured"], stored["volume"], muted, microphone, voice, word)

    def _log_unreadable(self, error: Exception) -> None:
        log.warning("volume: cannot read, the configuration applies, path=%s, %s", self._path, escape(str(error)))


def _is_percent(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 100
