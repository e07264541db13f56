"""Entry point of ``voice-agent``: a signal sets the exit code at any time, also during the imports."""

from __future__ import annotations

import gc
import os
import signal
import sys

_COMMANDS_WITH_HANDLERS = ("run", "say", "transcribe", "demo", "server")
"""These commands install their own signal handlers; until then the handlers of this module stay in force. In the other
commands SIGINT raises ``KeyboardInterrupt``."""


def main() -> int:
    """Import and run the command line (``agent.cli.main``).

    A signal during the imports, which take a moment, ends the process with 130 (SIGINT) or 143 (SIGTERM) instead of a
    traceback.
    """
    if sys.argv[1:2] == ["run"]:
        gc.disable()  # the start creates no garbage; the daemon enables the collector when it is ready
    signal.signal(signal.SIGTERM, _exit)
    interrupt = signal.signal(signal.SIGINT, _exit)
    from agent.cli.main import main as run

    if sys.argv[1:2] not in ([name] for name in _COMMANDS_WITH_HANDLERS):
        signal.signal(signal.SIGINT, interrupt)
    return run()


def _exit(number: int, frame: object) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
