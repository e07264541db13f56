"""The server as a process: its beginning, its signals, its end."""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Sequence

from agent.errors import AgentError, UsageError
from agent.server import recognition, speech
from agent.server.listener import Listener
from agent.server.options import Options, parse
from agent.server.wire import WireLog
from agent.threads import Deadline

log = logging.getLogger(__name__)

_ABORT_SECONDS = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """``voice-agent server``: serves until SIGTERM or SIGINT, then lets everybody finish, and returns the exit code.

    Prints ``listening on HOST:PORT`` on standard output once it accepts. A second signal leaves at once.
    """
    try:
        return serve(parse(sys.argv[1:] if argv is None else argv))
    except AgentError as error:
        print(f"voice-agent server: {error}", file=sys.stderr)
        return error.exit_code


def serve(options: Options) -> int:
    """Serves with ``options`` until a signal; call it in the main thread. ``AgentError`` where it cannot begin."""
    _log_to(options.log)
    reasons: queue.SimpleQueue[str] = queue.SimpleQueue()  # the one kind of queue a signal handler may put into
    seen: list[int] = []

    def leave(number: int, frame: object) -> None:
        seen.append(number)
        if len(seen) > 1:
            os._exit(1)
        reasons.put(signal.Signals(number).name)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    recogniser = recognition.find(options.recognition, options.model_path, options.script)
    with WireLog(options.wire_log, options.keys.all()) as wire:
        listener = Listener(options, speech.find(options.speech), recogniser, wire)
        host, port = listener.address
        print(f"listening on {f'[{host}]' if ':' in host else host}:{port}", flush=True)
        recogniser.prepare()
        if options.with_parent:
            threading.Thread(target=_watch_parent, args=(reasons,), name="parent", daemon=True).start()
        log.info("ending: %s", reasons.get())
        finish = Deadline(options.finish_seconds)
        ended = listener.stop(finish, Deadline(options.finish_seconds + _ABORT_SECONDS))
    if not ended:
        log.warning("a thread did not end in time")
        sys.stdout.flush()
        os._exit(0)
    return 0


def _watch_parent(reasons: queue.SimpleQueue[str]) -> None:
    """A parent that dies, in whatever way, closes its end of the pipe."""
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        while stdin.read(4096):
            pass
    reasons.put("the parent has gone")


def _log_to(path: str | None) -> None:
    handler: logging.Handler
    try:
        handler = logging.FileHandler(path, encoding="utf-8") if path else logging.StreamHandler()
    except OSError as error:
        raise UsageError(f"the log {path} cannot be written ({error.strerror}): name another file") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    own = logging.getLogger("agent")
    own.addHandler(handler)
    own.setLevel(logging.INFO)
    # What strangers send is no reason for a warning here, let alone for a traceback.
    logging.getLogger("agent.server.websockets").setLevel(logging.ERROR)
