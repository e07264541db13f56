"""The directories of the daemon: runtime, state and cache."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_NAME = "voice-agent"
_SYSTEM_RUNTIME = Path("/run") / _NAME


class Paths(NamedTuple):
    """The directories of the daemon, which need not exist. Immutable.

    Args:
        run: Control socket; removed at a restart of the machine.
        state: Data that must be kept.
        cache: Data that may be deleted at any time.
    """

    run: Path
    state: Path
    cache: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Paths:
        """Choose systemd's directories, else those of the system if writable, else those of the user (XDG)."""
        home = _absolute(environ, "HOME")
        temporary = (_absolute(environ, "TMPDIR") or Path("/tmp")) / f"{_NAME}-{os.getuid()}"
        private = home / ".local" / "state" / _NAME if home else temporary
        xdg_state, xdg_cache = _absolute(environ, "XDG_STATE_HOME"), _absolute(environ, "XDG_CACHE_HOME")
        xdg_run = _absolute(environ, "XDG_RUNTIME_DIR")
        state = xdg_state / _NAME if xdg_state else private
        cache = xdg_cache / _NAME if xdg_cache else home / ".cache" / _NAME if home else private / "cache"
        return cls(
            run=_from_systemd(environ, "RUNTIME_DIRECTORY")
            or _if_writable(_SYSTEM_RUNTIME)
            or (xdg_run / _NAME if xdg_run else state / "run"),
            state=_from_systemd(environ, "STATE_DIRECTORY") or _if_writable(Path("/var/lib") / _NAME) or state,
            cache=_from_systemd(environ, "CACHE_DIRECTORY") or _if_writable(Path("/var/cache") / _NAME) or cache,
        )

    @property
    def control_socket(self) -> Path:
        """Path of the control socket of this daemon."""
        return self.run / "control.sock"

    def candidate_sockets(self) -> tuple[Path, ...]:
        """Return the sockets of a possibly running daemon: the user's own, then the system's."""
        return tuple(dict.fromkeys((self.control_socket, _SYSTEM_RUNTIME / "control.sock")))


def _from_systemd(environ: Mapping[str, str], name: str) -> Path | None:
    """Return the first of the colon-separated directories (systemd.exec(5))."""
    first = environ.get(name, "").partition(":")[0]
    return Path(first) if first.startswith("/") else None


def _absolute(environ: Mapping[str, str], name: str) -> Path | None:
    value = environ.get(name, "")
    return Path(value) if value.startswith("/") else None  # relative paths must be ignored (XDG Base Directory)


def _if_writable(path: Path) -> Path | None:
    # os.path.isdir, not Path.is_dir: with DynamicUser= the state is below a directory that other users cannot enter,
    # and Path.is_dir raises PermissionError there.
    directory = path if os.path.isdir(path) else path.parent
    return path if os.access(directory, os.W_OK | os.X_OK) else None
