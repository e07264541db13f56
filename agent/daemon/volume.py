"""How loud the speaker is and what is muted, while the daemon runs and after a restart."""

from __future__ import annotations

import logging
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from agent.pipeline.events import Event, MicrophoneMute, Mute, Volume
from agent.system.files import AtomicFile
from agent.system.text import escape
from agent.system.threads import Deadline

log = logging.getLogger(__name__)

CONFIGURATION = "the configuration"
LAST_TIME = "what was set before the restart"
_MOST_BYTES = 4096
PAUSE_SECONDS = 0.5
"""Somebody who turns a knob sets twenty volumes a second; the one where it comes to rest is kept."""

LAST_SECONDS = 1.0
"""A disk that is slower than that at the end costs what was set last."""


class HasVolume(Protocol):
    """What has a loudness: the speaker."""

    volume: int
    muted: bool


class Mutable(Protocol):
    """What may be closed for a while: the microphone. From any thread, and twice."""

    def mute(self) -> None: ...
    def unmute(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Kept:
    """``configured`` is the volume that the configuration named when the rest was set."""

    configured: int
    volume: int
    muted: bool = False
    microphone_muted: bool = False


class VolumeStore:
    """Sets volume and mutes as the events say, and keeps them in the file ``path``, which is always whole.

    At a start what was kept is set again (``kept``); but where the configuration names another volume than it did
    then, somebody has changed that since, and it counts. A mute stays until somebody ends it. A file that is missing or
    holds nonsense is as none; one that cannot be written is told in the log, and everything works until a restart.
    Without a ``path`` nothing is kept.

    A disk may be slow: the file is written a moment after the last change, by a thread that lives no longer, and
    ``close`` writes what has not been written yet.
    """

    def __init__(self, path: Path | None, configured: int) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._writer: threading.Thread | None = None
        self._closing = threading.Event()
        self._now = _Kept(configured, configured)
        found = self._read()
        if found is not None:
            same = found.configured == configured
            self._now = replace(found, configured=configured, volume=found.volume if same else configured)

    def kept(self) -> list[Event]:
        """What differs from the configuration, as events to begin with."""
        now = self._now
        events: list[Event] = []
        if now.volume != now.configured:
            events.append(Volume(now.volume, LAST_TIME))
        if now.muted:
            events.append(Mute(True, LAST_TIME))
        if now.microphone_muted:
            events.append(MicrophoneMute(True, LAST_TIME))
        return events

    def note(self, event: Event, speaker: HasVolume | None, microphone: Mutable | None) -> None:
        """Does what a ``Volume``, ``Mute`` or ``MicrophoneMute`` asks for; every other event means nothing."""
        match event:
            case Volume(percent, by) if speaker is not None:
                speaker.volume = percent
                log.info("volume: %d percent, by %s", percent, escape(by))
                configured = percent if by == CONFIGURATION else self._now.configured
                self._keep(replace(self._now, volume=percent, configured=configured))
            case Mute(muted, by) if speaker is not None:
                speaker.muted = muted
                log.info("the speaker is %s, by %s", "muted" if muted else "not muted any more", escape(by))
                self._keep(replace(self._now, muted=muted))
            case MicrophoneMute(muted, by) if microphone is not None:
                if muted:
                    microphone.mute()
                else:
                    microphone.unmute()
                log.info("the microphone is %s, by %s", "muted" if muted else "not muted any more", escape(by))
                self._keep(replace(self._now, microphone_muted=muted))

    def close(self) -> None:
        """Safe twice; what is set after it is kept too."""
        self._closing.set()
        writer = self._writer
        if writer is not None:
            writer.join(Deadline(LAST_SECONDS).remaining())

    def _keep(self, now: _Kept) -> None:
        with self._lock:
            known, self._now = self._now, now
            if now == known or self._path is None or self._writer is not None:
                return
            # One that hangs in a dead disk must not keep the process.
            writer = threading.Thread(target=self._write_on, args=[self._path], name="levels", daemon=True)
            try:
                writer.start()
            except RuntimeError as error:  # the system gives us no more threads
                log.warning("the volume is not kept over a restart: %s", error)
            else:
                self._writer = writer

    def _write_on(self, path: Path) -> None:
        written: _Kept | None = None
        while True:
            self._closing.wait(PAUSE_SECONDS)
            with self._lock:
                now = self._now
                if now == written:
                    self._writer = None
                    return
            self._write(path, now)
            written = now

    @staticmethod
    def _write(path: Path, now: _Kept) -> None:
        import json  # where nothing was ever set, nobody needs it

        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with AtomicFile(path) as draft:
                draft.file.write(json.dumps(asdict(now)).encode("ascii") + b"\n")
                draft.commit(durable=True)
        except OSError as error:
            log.warning("the volume is not kept over a restart: %s: %s", path, error.strerror)

    def _read(self) -> _Kept | None:
        if self._path is None:
            return None
        try:
            with self._path.open("rb") as file:
                kept = file.read(_MOST_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._unread(error)
            return None
        import json

        try:
            found = json.loads(kept)
        except (ValueError, RecursionError) as error:
            self._unread(error)
            return None
        if not isinstance(found, dict) or not all(_percent(found.get(name)) for name in ("configured", "volume")):
            log.warning("%s holds no volume, so it is as configured", self._path)
            return None
        muted, microphone = found.get("muted") is True, found.get("microphone_muted") is True
        return _Kept(found["configured"], found["volume"], muted, microphone)

    def _unread(self, error: Exception) -> None:
        log.warning("%s cannot be read, so the volume is as configured: %s", self._path, escape(str(error)))


def _percent(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 100
