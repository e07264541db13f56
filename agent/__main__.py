"""How ``voice-agent`` begins: from the first line on a signal is an exit code, and not a traceback."""

from __future__ import annotations

import gc
import os
import signal
import sys

_HAVE_THEIR_OWN = ("run", "say", "transcribe", "demo", "server")
"""The commands that soon have handlers of their own; until then these here stay."""


def main() -> int:
    """As ``agent.cli.main``, which takes a moment to be imported: whoever is ended in that moment ends by 130 (SIGINT)
    or 143 (SIGTERM)."""
    if sys.argv[1:2] == ["run"]:
        gc.disable()  # a start only makes what stays; the daemon turns it on again when it is ready
    before = {number: signal.signal(number, _leave) for number in (signal.SIGINT, signal.SIGTERM)}
    from agent.cli.main import main as run

    if sys.argv[1:2] not in ([name] for name in _HAVE_THEIR_OWN):
        for number, handler in before.items():
            signal.signal(number, handler)
    return run()


def _leave(number: int, frame: object) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
