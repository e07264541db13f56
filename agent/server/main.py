"""The server as a process: its beginning, its signals, its end."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

from agent.errors import AgentError, UsageError
from agent.server.listener import Listener
from agent.server.options import Options, parse
from agent.server.stt import registry as stt_registry
from agent.server.stt.engine import SttOptions
from agent.server.tts import registry as tts_registry
from agent.server.wire_log import WireLog
from agent.system.log import hide_secret, set_up_logging
from agent.system.signals import Signals
from agent.system.threads import Deadline

log = logging.getLogger(__name__)

IDENTIFIER = "voice-agent-server"
"""Who it is in the journal, also where the daemon has started it."""

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
    reasons: queue.SimpleQueue[str] = queue.SimpleQueue()
    with _log_to(options):
        signals = Signals({signal.SIGTERM: reasons.put, signal.SIGINT: reasons.put})
        try:
            return _serve(options, reasons)
        finally:
            signals.restore()


def _serve(options: Options, reasons: queue.SimpleQueue[str]) -> int:
    recogniser = stt_registry.create(options.recognition, SttOptions(options.model_path, options.script))
    with WireLog(options.wire_log, options.keys.all()) as wire:
        listener = Listener(options, tts_registry.create(options.speech), recogniser, wire)
        try:
            _tell(listener)
            recogniser.prepare()
            if options.with_parent:
                threading.Thread(target=_watch_parent, args=(reasons,), name="parent", daemon=True).start()
        except BaseException:
            # The listener's thread would keep the process: a parent that died in these moments left a server behind.
            listener.stop(Deadline(0.0), Deadline(_ABORT_SECONDS))
            raise
        log.info("ending: %s", reasons.get())
        seconds = options.finish_seconds
        ended = listener.stop(Deadline(seconds), Deadline(seconds + _ABORT_SECONDS))
    if not ended:
        log.warning("a thread did not end in time")
    if not ended or _is_loading():
        sys.stdout.flush()
        os._exit(0)
    return 0


def _is_loading() -> bool:
    """Whether a recogniser's model is on its way: its C++ complains where the process is taken down around it."""
    return any(thread.name.endswith("-model") for thread in threading.enumerate())


def _tell(listener: Listener) -> None:
    host, port = listener.address
    try:
        print(f"listening on {f'[{host}]' if ':' in host else host}:{port}", flush=True)
    except BrokenPipeError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise UsageError("whoever started this has gone before it could be told where to find it") from error


def _watch_parent(reasons: queue.SimpleQueue[str]) -> None:
    """A parent that dies, in whatever way, closes its end of the pipe."""
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        while stdin.read(4096):
            pass
    reasons.put("the parent has gone")


@contextlib.contextmanager
def _log_to(options: Options) -> Iterator[None]:
    """The log as the daemon has it: the journal's own where that reads it, else lines for a person."""
    with contextlib.ExitStack() as stack:
        stream = None
        if options.log is not None:
            try:
                stream = stack.enter_context(open(options.log, "a", encoding="utf-8"))
            except OSError as error:
                raise UsageError(
                    f"the log {options.log} cannot be written ({error.strerror}): name another file"
                ) from error
        set_up_logging(options.log_level, os.environ, stream, IDENTIFIER)
        for key in options.keys.all():
            hide_secret(key)
        # What strangers send is no reason for a warning here, let alone for a traceback.
        logging.getLogger("agent.server.websockets").setLevel(logging.ERROR)
        yield
