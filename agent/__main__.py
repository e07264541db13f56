"""Entry point of ``voice-agent``: a signal sets the exit code at any time, also during the imports."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from typing import NoReturn

_COMMANDS_WITH_HANDLERS = ("run", "say", "transcribe", "demo", "server")
"""These commands install their own signal handlers; until then the handlers of this module stay in force. In the other
commands SIGINT raises ``KeyboardInterrupt``."""

_SHORT_COMMANDS = ("say", "hush", "cancel", "listen", "status", "volume", "mute", "unmute")
"""These commands end with ``os._exit``. The interpreter would free all modules first: 4 to 12 ms of CPU time."""


def main() -> int:
    """Import and run the command line (``agent.cli.main``).

    A signal during the imports, which take a moment, ends the process with 130 (SIGINT) or 143 (SIGTERM) instead of a
    traceback.
    """
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command in ("run", *_SHORT_COMMANDS):
        gc.disable()  # the start creates no garbage; a command that lasts enables the collector after it
    signal.signal(signal.SIGTERM, _exit)
    interrupt = signal.signal(signal.SIGINT, _exit)
    from agent.cli.main import main as run

    if command not in _COMMANDS_WITH_HANDLERS:
        signal.signal(signal.SIGINT, interrupt)
    code = run()
    if command in _SHORT_COMMANDS:
        _leave(code)
    return code


def _leave(code: int) -> NoReturn:
    """End the process as ``sys.exit`` does, without freeing its memory object by object."""
    if (threading := sys.modules.get("threading")) is not None:
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and not thread.daemon:
                thread.join()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # the command has reported it
            stream.flush()
    os._exit(code)


def _exit(number: int, frame: object) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
