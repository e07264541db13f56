"""Runs the local speech server as a process: start, signals and shutdown."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from agent.errors import AgentError, ConfigError, UsageError
from agent.server.listener import Listener
from agent.server.options import ServerOptions, parse
from agent.server.recognition_load import RecognitionLoad
from agent.server.stt import registry as stt_registry
from agent.server.stt.engine import SttEngine, SttOptions
from agent.server.tts import registry as tts_registry
from agent.server.tts.engine import TtsEngine
from agent.server.wire_log import WireLog
from agent.system.log import hide_secret, set_up_logging
from agent.system.signals import Signals
from agent.system.threads import Deadline

if TYPE_CHECKING:
    from agent.server.announcement import Announcement
    from agent.server.wyoming_listener import WyomingListener

log = logging.getLogger(__name__)

IDENTIFIER = "voice-agent-server"
"""Name of this process in the journal, also if the daemon started it."""

_ABORT_SECONDS = 2.0
"""Maximum time for the threads to end after the sessions were aborted. The daemon's shutdown does not depend on it: the
daemon kills the server process at its own deadline (``LocalServer.stop``)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``voice-agent server`` until SIGTERM or SIGINT and return the exit code.

    Prints ``listening on HOST:PORT`` on stdout as soon as the server accepts connections, and ``wyoming on HOST:PORT``
    for the Wyoming listener. After the first signal, the server finishes its sessions; a second signal ends the process
    immediately.
    """
    try:
        return serve(parse(sys.argv[1:] if argv is None else argv))
    except AgentError as error:
        print(f"voice-agent server: {error}", file=sys.stderr)
        return error.exit_code


def serve(options: ServerOptions) -> int:
    """Serve until a signal arrives, or with ``options.with_parent`` until the parent process ends.

    Must run in the main thread.

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
        tts_engine, load = tts_registry.create(options.speech), RecognitionLoad(len(os.sched_getaffinity(0)))
        listeners: list[Listener | WyomingListener] = []
        announcement: Announcement | None = None
        try:
            listeners.append(listener := Listener(options, tts_engine, stt_engine, wire_log, load=load))
            if options.wyoming is not None:
                listeners += _listen_for_wyoming(options, tts_engine, stt_engine, load, wire_log)
            _print_address("listening", listener)
            for wyoming in listeners[1:]:
                from agent.server.announcement import announce

                _print_address("wyoming", wyoming)
                announcement = announce(*wyoming.address)
            stt_engine.prepare()
            if options.with_parent:
                threading.Thread(target=_watch_parent, args=(reasons,), name="parent", daemon=True).start()
        except BaseException:
            # The threads of the acceptors are not daemon threads: without stop() this process would not end, for
            # example after the death of its parent.
            if announcement is not None:
                announcement.withdraw()
            stop_listeners(listeners, 0.0)
            raise
        log.info("speech server: stopping, reason=%s", reasons.get())
        if announcement is not None:
            announcement.withdraw()
        has_ended = stop_listeners(listeners, options.finish_seconds)
    if not has_ended:
        log.warning("speech server: a thread did not end within the shutdown timeout")
    if not has_ended or _is_loading_model():
        sys.stdout.flush()
        os._exit(0)
    return 0


def _listen_for_wyoming(
    options: ServerOptions, tts_engine: TtsEngine, stt_engine: SttEngine, load: RecognitionLoad, wire_log: WireLog
) -> list[WyomingListener]:
    from agent.server.wyoming_listener import WyomingListener

    try:
        return [WyomingListener(options, tts_engine, stt_engine, load, wire_log)]
    except ConfigError as error:
        if not options.with_parent:
            raise
        log.error("wyoming server: %s", error)  # the daemon still needs the speech server
        return []


def stop_listeners(listeners: Sequence[Listener | WyomingListener], finish_seconds: float) -> bool:
    """Stop all listeners at the same time; return whether all their threads have ended.

    Args:
        listeners: The running listeners.
        finish_seconds: Time for the sessions to finish before they are aborted.
    """
    finish, abort = Deadline(finish_seconds), Deadline(finish_seconds + _ABORT_SECONDS)
    results: list[bool] = []

    def stop(listener: Listener | WyomingListener) -> None:
        results.append(listener.stop(finish, abort))

    threads = [threading.Thread(target=stop, args=(each,), name="stop") for each in listeners[1:]]
    for thread in threads:
        thread.start()
    for each in listeners[:1]:
        stop(each)
    for thread in threads:
        thread.join(abort.remaining())
    return len(results) == len(listeners) and all(results)  # a thread that is still alive has no result


def _is_loading_model() -> bool:
    """Return whether an engine is loading its model.

    The C++ code that loads a model crashes or prints errors if the interpreter shuts down meanwhile.
    """
    return any(thread.name.endswith("-model") for thread in threading.enumerate())


def _print_address(what: str, listener: Listener | WyomingListener) -> None:
    host, port = listener.address
    try:
        print(f"{what} on {f'[{host}]' if ':' in host else host}:{port}", flush=True)
    except BrokenPipeError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes stdout again at exit
        raise UsageError(
            "cannot print the server's address: the parent process has ended. Start the server again"
        ) from error


def _watch_parent(reasons: queue.SimpleQueue[str]) -> None:
    """Put a stop reason into ``reasons`` at the end of standard input, a pipe from the parent process.

    The kernel closes the parent's end of the pipe also if the parent is killed.
    """
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        while stdin.read(4096):
            pass
    reasons.put("the parent process has ended")


@contextlib.contextmanager
def _log_to(options: ServerOptions) -> Iterator[None]:
    """Set up the log in the daemon's format: that of the journal if the journal reads stderr, otherwise plain lines.

    Raises:
        UsageError: The log file cannot be opened.
    """
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
