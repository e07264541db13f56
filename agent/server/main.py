"""Process of the local server: start, signals and shutdown."""

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
from agent.server.options import ServerOptions, parse
from agent.server.stt import registry as stt_registry
from agent.server.stt.engine import SttOptions
from agent.server.tts import registry as tts_registry
from agent.server.wire_log import WireLog
from agent.system.log import hide_secret, set_up_logging
from agent.system.signals import Signals
from agent.system.threads import Deadline

log = logging.getLogger(__name__)

IDENTIFIER = "voice-agent-server"
"""Name of this process in the journal, also when the daemon has started it."""

_ABORT_SECONDS = 2.0
"""Limit for the threads to end after the sessions were aborted. No part of the daemon's shutdown, which ends the server
process at its own deadline (``LocalServer.stop``)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``voice-agent server`` until SIGTERM or SIGINT and return the exit code.

    Prints ``listening on HOST:PORT`` on stdout as soon as it accepts connections. The first signal finishes the
    sessions, a second one ends the process immediately.
    """
    try:
        return serve(parse(sys.argv[1:] if argv is None else argv))
    except AgentError as error:
        print(f"voice-agent server: {error}", file=sys.stderr)
        return error.exit_code


def serve(options: ServerOptions) -> int:
    """Serve until a signal arrives. Must run in the main thread.

    Raises:
        AgentError: The server cannot start.
    """
    reasons: queue.SimpleQueue[str] = queue.SimpleQueue()
    with _log_to(options):
        signals = Signals({signal.SIGTERM: reasons.put, signal.SIGINT: reasons.put})
        try:
            return _serve(options, reasons)
        finally:
            signals.restore()


def _serve(options: ServerOptions, reasons: queue.SimpleQueue[str]) -> int:
    stt_engine = stt_registry.create(options.recognition, SttOptions(options.model_path, options.script))
    with WireLog(options.wire_log, tuple(options.keys.values())) as wire_log:
        listener = Listener(options, tts_registry.create(options.speech), stt_engine, wire_log)
        try:
            _print_address(listener)
            stt_engine.prepare()
            if options.with_parent:
                threading.Thread(target=_watch_parent, args=(reasons,), name="parent", daemon=True).start()
        except BaseException:
            # The acceptor is not a daemon thread: without stop() the process would stay after a parent that died here.
            listener.stop(Deadline(0.0), Deadline(_ABORT_SECONDS))
            raise
        log.info("speech server: stopping, reason=%s", reasons.get())
        seconds = options.finish_seconds
        has_ended = listener.stop(Deadline(seconds), Deadline(seconds + _ABORT_SECONDS))
    if not has_ended:
        log.warning("speech server: a thread did not end within the shutdown timeout")
    if not has_ended or _is_loading_model():
        sys.stdout.flush()
        os._exit(0)
    return 0


def _is_loading_model() -> bool:
    """Return whether a model is loading: its C++ code crashes or prints errors while the interpreter shuts down."""
    return any(thread.name.endswith("-model") for thread in threading.enumerate())


def _print_address(listener: Listener) -> None:
    host, port = listener.address
    try:
        print(f"listening on {f'[{host}]' if ':' in host else host}:{port}", flush=True)
    except BrokenPipeError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes stdout again at exit
        raise UsageError(
            "cannot print the server's address: the parent process has ended. Start the server again"
        ) from error


def _watch_parent(reasons: queue.SimpleQueue[str]) -> None:
    """Report the end of standard input: the kernel closes the parent's end of the pipe also if the parent is killed."""
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        while stdin.read(4096):
            pass
    reasons.put("the parent process has ended")


@contextlib.contextmanager
def _log_to(options: ServerOptions) -> Iterator[None]:
    """Set up the log like the daemon's: for the journal if it reads stderr, otherwise for a terminal or a file."""
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
        for key in tuple(options.keys.values()):
            hide_secret(key)
        # The library logs a traceback for each invalid request, which any client can send.
        logging.getLogger("agent.server.websockets").setLevel(logging.ERROR)
        yield
