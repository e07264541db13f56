"""Chooses the directories of the daemon: runtime, state and cache."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from agent.system.named_tuple import NamedTuple

if TYPE_CHECKING:  # a command that sends a request to the daemon has to start fast
    from pathlib import Path

_NAME = "voice-agent"
_SOCKET = "control.sock"

SYSTEM_CONFIG = "/etc/voice-agent/config.yaml"
"""The configuration file that is used without ``--config``, if it exists."""
_SYSTEM_RUNTIME = f"/run/{_NAME}"


class Paths(NamedTuple):
    """The directories of the daemon; they need not exist. Immutable.

    Args:
        run: Contains the control socket. A restart of the machine may delete it.
        state: Contains data that must be kept.
        cache: Contains data that may be deleted at any time.
    """

    run: Path
    state: Path
    cache: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Paths:
        """Choose each directory: the one from systemd, else the system's if it is writable, else the user's (XDG)."""
        from pathlib import Path

        return cls(*map(Path, _directories(environ)))

    @property
    def control_socket(self) -> Path:
        """Path of the control socket of this daemon."""
        return self.run / _SOCKET


def candidate_sockets(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the control sockets at which a daemon may listen: that of this user, then that of the system."""
    run, _, _ = _directories(environ)
    return tuple(dict.fromkeys((f"{run}/{_SOCKET}", f"{_SYSTEM_RUNTIME}/{_SOCKET}")))


def _directories(environ: Mapping[str, str]) -> tuple[str, str, str]:
    """Return the runtime, state and cache directories."""
    home = _absolute(environ, "HOME")
    temporary = f"{_absolute(environ, 'TMPDIR') or '/tmp'}/{_NAME}-{os.getuid()}"
    private = f"{home}/.local/state/{_NAME}" if home else temporary
    xdg_state, xdg_cache = _absolute(environ, "XDG_STATE_HOME"), _absolute(environ, "XDG_CACHE_HOME")
    xdg_run = _absolute(environ, "XDG_RUNTIME_DIR")
    state = f"{xdg_state}/{_NAME}" if xdg_state else private
    cache = f"{xdg_cache}/{_NAME}" if xdg_cache else f"{home}/.cache/{_NAME}" if home else f"{private}/cache"
    return (
        _from_systemd(environ, "RUNTIME_DIRECTORY")
        or _if_writable(_SYSTEM_RUNTIME)
        or (f"{xdg_run}/{_NAME}" if xdg_run else f"{state}/run"),
        _from_systemd(environ, "STATE_DIRECTORY") or _if_writable(f"/var/lib/{_NAME}") or state,
        _from_systemd(environ, "CACHE_DIRECTORY") or _if_writable(f"/var/cache/{_NAME}") or cache,
    )


def _from_systemd(environ: Mapping[str, str], name: str) -> str | None:
    """Return the first of the colon-separated directories (systemd.exec(5)); ``None`` if it is not absolute."""
    first = environ.get(name, "").partition(":")[0]
    return first if first.startswith("/") else None


def _absolute(environ: Mapping[str, str], name: str) -> str | None:
    value = environ.get(name, "")
    return value if value.startswith("/") else None  # relative paths must be ignored (XDG Base Directory)


def _if_writable(path: str) -> str | None:
    directory = path if os.path.isdir(path) else os.path.dirname(path)
    return path if os.access(directory, os.W_OK | os.X_OK) else None
