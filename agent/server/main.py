"""The server as a process: its beginning, its signals, its end."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence

from agent.errors import AgentError, UsageError
from agent.server import recognition, speech
from agent.server.listener import Listener
from agent.server.options import Options, parse
from agent.server.wire import WireLog
from agent.service import hide, set_up_logging
from agent.threads import Deadline

log = logging.getLogger(__name__)

IDENTIFIER = "voice-agent-server"
"""Who it is in the journal, also where the daemon has started it."""

_ABORT_SECONDS = 2.0
_PARENT, _ENDED = b"\xfe", b"\xff"  # no signal has these numbers


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
    wake, waker = socket.socketpair()
    with wake, waker, _log_to(options):
        # A signal may be handed to any thread, and then wakes no other; but its number is written here at once, by
        # whichever thread got it, and the main thread always waits here and nowhere else.
        waker.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, _nothing)
            return _serve(options, wake, waker)
        finally:
            signal.set_wakeup_fd(-1)


def _serve(options: Options, wake: socket.socket, waker: socket.socket) -> int:
    recogniser = recognition.find(options.recognition, options.model_path, options.script)
    with WireLog(options.wire_log, options.keys.all()) as wire:
        listener = Listener(options, speech.find(options.speech), recogniser, wire)
        try:
            _tell(listener)
            recogniser.prepare()
            if options.with_parent:
                threading.Thread(target=_watch_parent, args=(waker,), name="parent", daemon=True).start()
        except BaseException:
            # The listener's thread would keep the process: a parent that died in these moments left a server behind.
            listener.stop(Deadline(0.0), Deadline(_ABORT_SECONDS))
            raise
        log.info("ending: %s", _reason(wake.recv(1)))
        ended: list[bool] = []
        ending = threading.Thread(target=_end, args=(listener, options.finish_seconds, ended, waker), name="ending")
        ending.start()
        while not ended:
            if wake.recv(1) not in (_PARENT, _ENDED):
                log.warning("a second signal: leaving at once")
                os._exit(1)
        ending.join()
    if not ended[0]:
        log.warning("a thread did not end in time")
    if not ended[0] or _is_loading():
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


def _end(listener: Listener, finish_seconds: float, ended: list[bool], waker: socket.socket) -> None:
    try:
        done = listener.stop(Deadline(finish_seconds), Deadline(finish_seconds + _ABORT_SECONDS))
    except BaseException:
        ended.append(False)
        raise
    else:
        ended.append(done)
    finally:
        waker.send(_ENDED)


def _reason(byte: bytes) -> str:
    return "the parent has gone" if byte == _PARENT else signal.Signals(byte[0]).name


def _nothing(number: int, frame: object) -> None:
    """There has to be a handler, or the signal would end the process; what is to be done is done where it is read."""


def _watch_parent(waker: socket.socket) -> None:
    """A parent that dies, in whatever way, closes its end of the pipe."""
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        while stdin.read(4096):
            pass
    waker.send(_PARENT)


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
            hide(key)
        # What strangers send is no reason for a warning here, let alone for a traceback.
        logging.getLogger("agent.server.websockets").setLevel(logging.ERROR)
        yield
