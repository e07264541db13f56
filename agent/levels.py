"""How loud the speaker is and what is muted, while the daemon runs and after a restart."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol

from agent.events import Event, MicrophoneMute, Mute, Volume
from agent.records import dataclass
from agent.safe import safe

log = logging.getLogger(__name__)

CONFIGURATION = "the configuration"
LAST_TIME = "what was set before the restart"
_MOST_BYTES = 4096


class Loud(Protocol):
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


class Levels:
    """Sets volume and mutes as the events say, and keeps them in the file ``path``, which is always whole.

    At a start what was kept is set again (``kept``); but where the configuration names another volume than it did
    then, somebody has changed that since, and it counts. A mute stays until somebody ends it. A file that is missing or
    holds nonsense is as none; one that cannot be written is told in the log, and everything works until a restart.
    Without a ``path`` nothing is kept.
    """

    def __init__(self, path: Path | None, configured: int) -> None:
        self._path = path
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

    def note(self, event: Event, speaker: Loud | None, microphone: Mutable | None) -> None:
        """Does what a ``Volume``, ``Mute`` or ``MicrophoneMute`` asks for; every other event means nothing."""
        match event:
            case Volume(percent, by) if speaker is not None:
                speaker.volume = percent
                log.info("volume: %d percent, by %s", percent, safe(by))
                configured = percent if by == CONFIGURATION else self._now.configured
                self._keep(replace(self._now, volume=percent, configured=configured))
            case Mute(muted, by) if speaker is not None:
                speaker.muted = muted
                log.info("the speaker is %s, by %s", "muted" if muted else "not muted any more", safe(by))
                self._keep(replace(self._now, muted=muted))
            case MicrophoneMute(muted, by) if microphone is not None:
                if muted:
                    microphone.mute()
                else:
                    microphone.unmute()
                log.info("the microphone is %s, by %s", "muted" if muted else "not muted any more", safe(by))
                self._keep(replace(self._now, microphone_muted=muted))

    def _keep(self, now: _Kept) -> None:
        if now == self._now:
            return
        self._now = now
        if self._path is None:
            return
        import json  # where nothing was ever set, nobody needs it

        new = self._path.with_name(f"{self._path.name}.new")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with new.open("w", encoding="ascii") as file:
                file.write(json.dumps(asdict(now)) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self._path)
        except OSError as error:
            log.warning("the volume is not kept over a restart: %s: %s", self._path, error.strerror)

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
        log.warning("%s cannot be read, so the volume is as configured: %s", self._path, safe(str(error)))


def _percent(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 100
