"""A Python client for the running daemon. This file also works as a copy, without the rest of the package.

Example::

    from agent.client import Client

    with Client() as agent:
        agent.say("Dinner is ready.", priority="important")

See ``docs/api.md`` for the methods, their parameters and the events.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple

MAX_LINE_BYTES = 64 * 1024
"""Maximum length of a request, which is one line. A text that does not fit is sent in pieces."""
MAX_TEXT_CHARACTERS = 100_000
"""Maximum length of a text. ``Client.say`` refuses a longer text, because the daemon would speak only its beginning."""
PIECE_CHARACTERS = 5000
"""Length of a piece. Even if JSON encodes each character as two escapes (12 bytes), the request is shorter than
``MAX_LINE_BYTES``."""
MAX_EVENTS = 1000
"""Maximum number of events that are queued for the iterator; then the oldest are dropped."""
_MAX_RESPONSE_BYTES = 4 * 1024 * 1024
_INVALID_PARAMS = -32602


class ClientError(Exception):
    """The base of all errors of this module."""


class NotRunning(ClientError):
    """No daemon listens at the socket, or this user may not connect to it (``is_forbidden``)."""

    def __init__(self, message: str, *, is_forbidden: bool = False) -> None:
        super().__init__(message)
        self.is_forbidden = is_forbidden


class ConnectionLost(ClientError):
    """The connection is closed, or the daemon does not read from it."""


class TimedOut(ClientError):
    """The daemon did not answer in time, or the utterance did not end in time."""


class Refused(ClientError):
    """The daemon refused a request.

    Args:
        code: The error code.
        message: The reason, as a sentence.
        name: The name of the code; ``None`` for the standard errors of JSON-RPC.
    """

    def __init__(self, code: int, message: str, name: str | None = None) -> None:
        super().__init__(message)
        self.code, self.name = code, name


class End(NamedTuple):
    """The recorded end of an utterance. Immutable.

    ``state`` is ``played``, ``cancelled``, ``failed``, ``expired``, ``dropped`` or ``interrupted``. ``reason`` explains
    the state. ``seconds`` is the length of the audio that was played.
    """

    id: str
    state: str
    reason: str
    seconds: float


class Speech:
    """An accepted utterance. Thread-safe.

    Attributes:
        id: The id of the utterance.
        durable: Whether the utterance survives a loss of power.
        troubles: Sentences that say what may delay the speech.
        warnings: Sentences that say why the user would not hear the speech.
        record: If the history already has an utterance with this ``id``, its record; then nothing new is spoken.
            ``None`` for a new utterance.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self.id = ""
        self.durable = False
        self.troubles: tuple[str, ...] = ()
        self.warnings: tuple[str, ...] = ()
        self.record: dict[str, Any] | None = None
        self.end: End | None = None
        """The end of the utterance. ``None`` until this client has received the end; it receives only while a method of
        the client waits."""

    def wait(self, timeout: float | None = None) -> End:
        """Wait until the utterance has ended.

        Args:
            timeout: Maximum time in seconds; ``None``: no limit.

        Raises:
            TimedOut: The utterance has not ended in time.
            ConnectionLost: The connection ended before the utterance.
        """
        self._client._wait(lambda: self.end is not None, timeout, "the utterance has not ended")
        assert self.end is not None
        return self.end

    def cancel(self) -> None:
        """Cancel the utterance. Raises ``ClientError``."""
        self._client.cancel(self.id)


class TextStream(Speech):
    """An utterance whose text is sent in pieces, while it is spoken. Thread-safe.

    At the end of a ``with`` block the text is completed; after an exception the utterance is cancelled. If there is a
    ``record``, the text is not sent, because the pieces would be added to the existing utterance.
    """

    def write(self, text: str) -> None:
        """Append to the text. Raises ``ConnectionLost``.

        An error response for a piece is not reported; the end of the utterance has the reason.
        """
        for start in range(0, len(text) if self.record is None else 0, PIECE_CHARACTERS):
            self._client.notify("say.append", id=self.id, text=text[start : start + PIECE_CHARACTERS])

    def finish(self) -> None:
        """Complete the text. Raises ``ConnectionLost``."""
        if self.record is None:
            self._client.notify("say.end", id=self.id)

    def __enter__(self) -> TextStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.finish()
            return
        with contextlib.suppress(ClientError):  # an error here must not replace the exception of the caller
            self.cancel()


class Client:
    """A connection to the running daemon. Thread-safe, but only one iterator of events can be in use.

    The client has no thread of its own. A thread that waits in one of its methods also receives the messages for the
    other threads.

    The client does not reconnect. The daemon closes a connection after 30 s without a request, unless the connection
    waits for an end or for events. A program that rarely speaks should create a client for each text.

    Args:
        path: The path of the socket, or several paths, of which the first with a listening daemon is used; ``None``:
            ``default_paths()``.
        timeout: Maximum time in seconds to wait for a response.

    Attributes:
        path: The path of the connected socket.

    Raises:
        NotRunning: No daemon accepts a connection.
    """

    def __init__(self, path: str | os.PathLike[str] | Sequence[str] | None = None, *, timeout: float = 10.0) -> None:
        if path is None:
            paths = default_paths()
        else:
            paths = [os.fspath(path)] if isinstance(path, str | os.PathLike) else list(path)
        self._timeout = timeout
        self._socket, self.path = _connect(paths)
        self._socket.settimeout(timeout)
        self._ids = itertools.count(1)
        self._send_lock = threading.Lock()
        self._changed = threading.Condition()  # guards all attributes below
        self._is_receiving = False  # a thread waits for the socket; it has released the lock
        self._data = bytearray()
        self._calls: dict[int, _Call] = {}
        self._speeches: dict[str, list[Speech]] = {}
        self._events: deque[dict[str, Any]] = deque()
        self._lost = 0
        self._end: ClientError | None = None
        self._is_closed = False

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. Idempotent.

        Waits in other threads end with ``ConnectionLost``. Accepted utterances are still spoken.
        """
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            is_receiving = self._is_receiving
        with contextlib.suppress(OSError):  # the daemon may have closed the connection before
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that receives
        if not is_receiving:
            self._socket.close()

    # --- speaking

    def say(self, text: str, *, wait: bool = False, **options: Any) -> Speech:
        """Speak a text.

        Args:
            text: The text.
            wait: Whether to wait for the end of the utterance, without a timeout.
            options: ``priority`` (``"important"``, ``"message"``, ``"notification"`` or a rank), ``ttl_seconds``,
                ``id`` and the other parameters of the API method ``say``.

        Returns:
            The accepted utterance.

        Raises:
            Refused: The daemon does not accept the text, or the text is longer than ``MAX_TEXT_CHARACTERS``.
            TimedOut: The daemon did not answer in time.
            ConnectionLost: The connection ended.
        """
        if len(text) > MAX_TEXT_CHARACTERS:
            raise Refused(_INVALID_PARAMS, f"text has at most {MAX_TEXT_CHARACTERS} characters")
        speech = Speech(self)
        if len(json.dumps(text)) + len(json.dumps(options)) + 200 <= MAX_LINE_BYTES:
            self._call("say", {"text": text, "wait": True, **options}, speech)
        else:
            with self.stream(**options) as speech:
                speech.write(text)
        if wait:
            speech.wait()
        return speech

    def stream(self, **options: Any) -> TextStream:
        """Begin a text that is sent in pieces. ``options`` and errors are those of ``say``."""
        stream = TextStream(self)
        self._call("say.begin", {"wait": True, **options}, stream)
        return stream

    def cancel(self, id: str) -> None:
        """Cancel one utterance, current or queued."""
        self.call("cancel", id=id)

    def hush(self) -> None:
        """Cancel the current and all queued utterances."""
        self.call("hush")

    # --- control

    def listen(self) -> None:
        """Cancel the speech and start a turn of the user."""
        self.call("listen")

    def mute(self, device: str = "speaker") -> None:
        """Mute the ``speaker``, or close the ``microphone``."""
        self.call("mute", device=device)

    def unmute(self, device: str = "speaker") -> None:
        """Unmute the ``speaker``, or open the ``microphone``."""
        self.call("unmute", device=device)

    def volume(self, percent: int) -> None:
        """Set the playback volume, 0 to 100."""
        self.call("volume", percent=percent)

    def reload(self) -> None:
        """Make the daemon read its configuration again. Errors of the configuration appear in ``status``."""
        self.call("reload")

    def status(self) -> dict[str, Any]:
        """Return the status of the daemon."""
        return self.call("status")

    def timers(self) -> list[dict[str, Any]]:
        """Return the timers and alarms, the next one first."""
        return list(self.call("timers.list")["timers"])

    def set_timer(self, seconds: float, name: str = "") -> dict[str, Any]:
        """Start a timer and return it."""
        return dict(self.call("timers.set", seconds=seconds, name=name)["timer"])

    def cancel_timer(self, timer: str | int) -> None:
        """Cancel a timer or an alarm by its name or its number."""
        self.call("timers.cancel", timer=str(timer))

    def history(self, limit: int = 1000) -> list[dict[str, Any]]:
        """Return at most ``limit`` (1 to 1000) records of the last utterances, newest first.

        They include utterances that are queued or being spoken.
        """
        records: dict[str, dict[str, Any]] = {}  # by id: pages overlap if an utterance is added between the requests
        offset = 0
        while offset < limit:
            page = self.call("history", limit=limit - offset, offset=offset)
            records.update((str(record["id"]), record) for record in page["records"])
            offset += len(page["records"])
            if not page.get("more") or not page["records"]:
                break
        return list(records.values())

    def events(self, *names: str, texts: bool = False) -> Iterator[dict[str, Any]]:
        """Subscribe, and return an iterator over the events from now on. It ends when ``close`` is called.

        A dictionary with ``event`` = ``lost`` reports how many events were dropped because the iterator was too slow.
        A further call replaces the subscription.

        Args:
            names: The names of the events; without names, all events.
            texts: Whether to include transcripts and the texts of utterances.

        Raises:
            Refused: The daemon does not accept the subscription.
            ConnectionLost: The connection ended. The iterator raises it too.
        """
        self.call("subscribe", texts=texts, **({"events": list(names)} if names else {}))
        return self._iterate_events()

    def _iterate_events(self) -> Iterator[dict[str, Any]]:
        while True:
            try:
                self._wait(lambda: bool(self._events), None, "")
            except ConnectionLost:
                if self._is_closed:
                    return
                raise
            with self._changed:
                lost, self._lost = self._lost, 0
                event = self._events.popleft()
            if lost:
                yield {"event": "lost", "lost": lost}
            yield event

    # --- requests

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method and return its result.

        Raises:
            Refused: The daemon returned an error.
            TimedOut: The daemon did not answer in time.
            ConnectionLost: The connection ended.
        """
        return self._call(method, params)

    def notify(self, method: str, **params: Any) -> None:
        """Call a method as a notification, which has no response.

        Raises:
            ConnectionLost: The daemon does not read, or the connection is closed.
        """
        if (error := self._send({"jsonrpc": "2.0", "method": method, "params": params})) is not None:
            raise error

    def _call(self, method: str, params: dict[str, Any], speech: Speech | None = None) -> dict[str, Any]:
        call = _Call(speech, is_subscription=method == "subscribe")
        with self._changed:
            number = next(self._ids)
            self._calls[number] = call
        try:
            # Receive even after an error: before the daemon closes a connection that it refuses, it sends the reason.
            error = self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
            try:
                self._wait(lambda: call.response is not None, self._timeout, "the daemon does not answer")
            except ConnectionLost as lost:
                raise error or lost from None
        finally:
            with self._changed:
                self._calls.pop(number, None)
        assert call.response is not None
        if isinstance(call.response, ClientError):
            raise call.response
        return call.response

    def _send(self, request: dict[str, Any]) -> ClientError | None:
        line = json.dumps(request).encode("ascii") + b"\n"
        try:
            with self._send_lock:
                self._socket.sendall(line)
        except OSError as error:
            return ConnectionLost(f"the daemon no longer reads ({_reason(error)})")
        return None

    # --- messages

    def _wait(self, is_done: Callable[[], bool], timeout: float | None, what: str) -> None:
        """Wait until ``is_done()`` is true. Receive messages meanwhile, unless another thread does.

        Args:
            is_done: The condition, called with the lock held.
            timeout: Maximum time in seconds; ``None``: no limit.
            what: The beginning of the error message after the timeout.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not is_done():
                if self._end is not None or self._is_closed:
                    raise self._end or ConnectionLost("the connection is closed")
                remaining = None if ends is None else ends - time.monotonic()
                if remaining is not None and remaining <= 0:
                    raise TimedOut(f"{what} within {timeout:g} s")
                if self._is_receiving:
                    self._changed.wait(remaining)
                else:
                    self._receive(remaining)

    def _receive(self, timeout: float | None) -> None:
        """Receive data once, with the lock released, and process the complete messages with the lock held."""
        self._is_receiving = True
        self._changed.release()
        data: bytes | None = b""
        end: ClientError | None = None
        try:
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            data = self._socket.recv(65536) if poll.poll(None if timeout is None else timeout * 1000 + 1) else None
            end = ConnectionLost("the daemon has closed the connection") if data == b"" else None
        except OSError as error:
            end = ConnectionLost(f"the connection to the daemon was lost ({_reason(error)})")
        finally:
            self._changed.acquire()
            self._is_receiving = False
            if self._is_closed:
                self._socket.close()
            self._changed.notify_all()
        self._data += data or b""
        while (at := self._data.find(b"\n")) >= 0:
            line = bytes(self._data[:at])
            del self._data[: at + 1]
            end = self._pass_on(line) or end
        if len(self._data) > _MAX_RESPONSE_BYTES:
            end = ConnectionLost("the peer at the socket is no daemon: its line does not end")
        self._end = self._end or end

    def _pass_on(self, line: bytes) -> ClientError | None:
        """Process one message. Returns an error if the connection can no longer be used."""
        try:
            message = json.loads(line)
            method, params = message.get("method"), message.get("params")
        except (ValueError, RecursionError, AttributeError):
            return ConnectionLost("the peer at the socket is no daemon: it sends no JSON object")
        if method == "event" and isinstance(params, dict):
            if len(self._events) >= MAX_EVENTS:
                self._events.popleft()
                self._lost += 1
            self._events.append(params)
        elif method == "ended" and isinstance(params, dict):
            end = End(*(params.get(field) for field in End._fields))  # type: ignore[arg-type]
            for speech in self._speeches.pop(end.id, ()) if isinstance(end.id, str) else ():
                speech.end = end
        elif method is None:
            return self._pass_response_on(message)
        return None

    def _pass_response_on(self, message: dict[str, Any]) -> ClientError | None:
        response: dict[str, Any] | ClientError
        error, response = message.get("error"), message.get("result") or {}
        if isinstance(error, dict):
            data = error.get("data")
            name = data.get("name") if isinstance(data, dict) else None
            response = Refused(error.get("code", 0), str(error.get("message", "")), name)
        id = message.get("id")
        call = self._calls.get(id) if isinstance(id, int) else None
        if call is None:  # an error without an id concerns the connection: the daemon closes it
            is_late = id is not None  # the response to a request that has timed out
            return response if isinstance(response, ClientError) and not is_late else None
        call.response = response
        if call.is_subscription and isinstance(response, dict):
            self._events.clear()  # events of the previous subscription
            self._lost = 0
        if call.speech is not None and isinstance(response, dict):
            call.speech.id = str(response.get("id"))
            call.speech.durable = response.get("durable") is True
            call.speech.troubles = tuple(response.get("troubles") or ())
            call.speech.warnings = tuple(response.get("warnings") or ())
            call.speech.record = response.get("record")
            # Here and not in the thread of the call: the next message may be the end of this utterance.
            self._speeches.setdefault(call.speech.id, []).append(call.speech)
        return None


class _Call:
    """A request without a response yet. Not thread-safe; guarded by the lock of the client."""

    def __init__(self, speech: Speech | None, *, is_subscription: bool) -> None:
        self.speech, self.is_subscription = speech, is_subscription
        self.response: dict[str, Any] | ClientError | None = None


def default_paths() -> list[str]:
    """Return the paths of the sockets at which a daemon usually listens: a daemon of this user first, then the system
    service."""
    home, run = os.environ.get("HOME", ""), os.environ.get("XDG_RUNTIME_DIR", "")
    state = os.environ.get("XDG_STATE_HOME") or (f"{home}/.local/state" if home else "")
    directories = [
        os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0],
        f"{run}/voice-agent" if run else f"{state}/voice-agent/run",
        "/run/voice-agent",
    ]
    return [f"{directory}/control.sock" for directory in directories if directory.startswith("/")]


def _connect(paths: Sequence[str]) -> tuple[socket.socket, str]:
    reasons = []
    is_forbidden = False
    for path in paths:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            # Without a timeout, because with one connect(2) on a Unix socket fails immediately with EAGAIN while the
            # backlog is full (unix(7)). If a daemon never accepts, its watchdog restarts it, which ends this call.
            connected.connect(path)
            return connected, path
        except OSError as error:
            connected.close()
            reasons.append(f"{path}: {_reason(error, path)}")
            is_forbidden = is_forbidden or isinstance(error, PermissionError)
    details = "; ".join(reasons) if reasons else "control.socket is none"
    cure = "" if is_forbidden else ": start one with voice-agent run"
    raise NotRunning(f"no daemon can be reached ({details}){cure}", is_forbidden=is_forbidden)


def _reason(error: OSError, path: str | None = None) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no socket"
    if isinstance(error, ConnectionRefusedError):
        return "no process listens any more"
    if isinstance(error, PermissionError):
        return f"you may not connect; use sudo, or become a member of {_group(path)}"
    return error.strerror or str(error) or "no answer in time"


def _group(path: str | None) -> str:
    """Return the name of the group whose members may connect, for an error message."""
    import grp

    try:
        return f"the group {grp.getgrgid(os.stat(path).st_gid).gr_name}" if path else "the socket's group"
    except (OSError, KeyError):
        return "the socket's group"
