"""Connects commands to the running daemon, before the rest of the package is imported.

In almost every case ``control.socket`` is set neither in the file nor in the environment. Then the path of the socket
is known without loading the configuration. Otherwise the configuration is loaded. Its errors are only warnings here,
because an operator has to reach a running daemon even if the file on disk is invalid.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING

from agent.cli.daemon_errors import DaemonUnreachable, print_warnings, service_errors
from agent.cli.notice import notice
from agent.client import Client, ConnectionLost
from agent.system.paths import SYSTEM_CONFIG, candidate_sockets
from agent.system.signals import CANCEL_SIGNALS
from agent.system.text import validate_text

if TYPE_CHECKING:
    import argparse
    from types import SimpleNamespace

_SECTION = "control"
_MAX_FILE_BYTES = 64 * 1024
"""A longer file is not searched for the section: it is loaded."""
_WARNING_CHARACTERS = 500


def socket_paths(setting: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the paths at which a daemon may listen, for a value of ``control.socket``."""
    if setting == "none":
        return ()
    return candidate_sockets(environ) if setting == "auto" else (setting,)


def connect(path: str | None) -> Client:
    """Connect to the running daemon. Print a warning if the configuration was loaded and is invalid.

    Args:
        path: The value of ``--config``.

    Raises:
        DaemonUnreachable: No daemon can be reached.
    """
    warning = None
    with service_errors():
        if (paths := _default_paths(path)) is None:
            setting, warning = _load(path)
            client = Client(socket_paths(setting, os.environ))
        else:
            client = Client(paths)
            if _is_newer(path or SYSTEM_CONFIG, client.path):  # the daemon may not have read this version
                warning = _load(path)[1]
    if warning is not None:
        notice(warning, _WARNING_CHARACTERS)
    return client


def require_daemon(path: str | None) -> Client:
    """Connect to the running daemon, like ``connect``, for a command that cannot work without it.

    If no daemon is found and the configuration is invalid, print a warning: the error in the configuration may be the
    reason.
    """
    try:
        return connect(path)
    except DaemonUnreachable:
        if (warning := _load(path)[1]) is not None:
            notice(warning, _WARNING_CHARACTERS)
        raise


def say(options: argparse.Namespace | SimpleNamespace) -> int | None:
    """Let the running daemon speak.

    Returns:
        The exit code; ``None`` if no daemon runs.

    Raises:
        ServiceError: The daemon did not speak the text.
        UsageError: The text or an option is invalid.
    """
    text = None if options.text == ["-"] else validate_text(" ".join(options.text))
    from agent.cli.delivery_options import delivery_options  # no other command needs it

    delivery = delivery_options(options)
    # Block the signals until the handlers are installed that cancel the utterance. A signal before that would end only
    # this process, and the daemon would still speak.
    signal.pthread_sigmask(signal.SIG_BLOCK, CANCEL_SIGNALS)
    try:
        try:
            client = connect(options.config)
        except DaemonUnreachable:
            return None
        with client:
            speech = None
            if text is not None:
                with service_errors():
                    try:
                        speech = client.say(text, **delivery)
                    except ConnectionLost as error:
                        raise ConnectionLost(f"the daemon ended before it accepted the text: {error}") from error
                print_warnings(speech.troubles, speech.warnings)
                if not options.wait:
                    return 0
            from agent.cli.say_via_daemon import wait_for_daemon

            return wait_for_daemon(client, speech, delivery, waits=options.wait)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CANCEL_SIGNALS)


def _default_paths(path: str | None) -> tuple[str, ...] | None:
    """Return the paths for the default of ``control.socket``; ``None`` if the configuration has to be loaded for it."""
    if path == "" or any(name.startswith("VOICE_AGENT_CONTROL") for name in os.environ):
        return None
    try:
        with open(path or SYSTEM_CONFIG, "rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return socket_paths("auto", os.environ) if path is None else None
    except OSError:
        return None
    # An escape (\x63ontrol) or UTF-16 may hide the name of the section.
    is_readable = len(data) <= _MAX_FILE_BYTES and b"\\" not in data and b"\0" not in data
    lines = (line.strip() for line in data.splitlines())
    if not is_readable or any(_SECTION.encode() in line for line in lines if not line.startswith(b"#")):
        return None
    return socket_paths("auto", os.environ)


def _is_newer(path: str, socket: str) -> bool:
    """Return whether the file was changed after the daemon opened its socket."""
    try:
        return os.stat(path).st_mtime >= os.stat(socket).st_mtime
    except OSError:
        return False


def _load(path: str | None) -> tuple[str, str | None]:
    """Return ``control.socket``, and a warning if the configuration is invalid."""
    from agent.config.errors import ConfigIssues
    from agent.settings.loader import load
    from agent.settings.model import Config

    try:
        return load(path, os.environ).control.socket, None
    except ConfigIssues as error:
        more = f" (and {len(error.issues) - 1} more)" if len(error.issues) > 1 else ""
        warning = (
            f"warning: the configuration is invalid, {error.issues[0]}{more}; the command uses only control.socket"
        )
        control = (error.usable or Config()).control
        return "auto" if any(control.check()) else control.socket, warning
