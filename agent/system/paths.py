"""Where the daemon keeps its socket, what it must remember, and what it may forget."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_NAME = "voice-agent"
_SYSTEM_RUN = Path("/run") / _NAME


@dataclass(frozen=True)
class Paths:
    """``run`` (the control socket; gone after a restart), ``state`` (kept), ``cache`` (may be deleted at any time).
    Nothing is created: who puts something there makes the directory.
    """

    run: Path
    state: Path
    cache: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Paths:
        """systemd's directories where it gave some; else the system's where this user may write there; else the
        user's own (XDG Base Directory)."""
        home = _absolute(environ, "HOME")
        nowhere = (_absolute(environ, "TMPDIR") or Path("/tmp")) / f"{_NAME}-{os.getuid()}"
        private = home / ".local" / "state" / _NAME if home else nowhere
        xdg_state, xdg_cache = _absolute(environ, "XDG_STATE_HOME"), _absolute(environ, "XDG_CACHE_HOME")
        xdg_run = _absolute(environ, "XDG_RUNTIME_DIR")
        state = xdg_state / _NAME if xdg_state else private
        cache = xdg_cache / _NAME if xdg_cache else home / ".cache" / _NAME if home else private / "cache"
        return cls(
            run=_given(environ, "RUNTIME_DIRECTORY")
            or _system(_SYSTEM_RUN)
            or (xdg_run / _NAME if xdg_run else state / "run"),
            state=_given(environ, "STATE_DIRECTORY") or _system(Path("/var/lib") / _NAME) or state,
            cache=_given(environ, "CACHE_DIRECTORY") or _system(Path("/var/cache") / _NAME) or cache,
        )

    @property
    def control_socket(self) -> Path:
        """Where this daemon listens for commands."""
        return self.run / "control.sock"

    def candidate_sockets(self) -> tuple[Path, ...]:
        """Where a running daemon may be found: one of this user's own, then the system's."""
        return tuple(dict.fromkeys((self.control_socket, _SYSTEM_RUN / "control.sock")))


def _given(environ: Mapping[str, str], name: str) -> Path | None:
    """systemd lists several directories with colons between them; the unit's first is ours."""
    first = environ.get(name, "").partition(":")[0]
    return Path(first) if first.startswith("/") else None


def _absolute(environ: Mapping[str, str], name: str) -> Path | None:
    value = environ.get(name, "")
    return Path(value) if value.startswith("/") else None  # relative ones are to be ignored, says XDG


def _system(path: Path) -> Path | None:
    # os.path: systemd keeps the state of its service where others may not even look, and that is no error here.
    here = path if os.path.isdir(path) else path.parent
    return path if os.access(here, os.W_OK | os.X_OK) else None
