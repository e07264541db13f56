"""A TCP server that follows a script byte by byte: valid, silent, slow or broken WebSocket peers."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
TIMEOUT_SECONDS = 60.0


def frame(
    opcode: int, payload: bytes = b"", *, fin: int = 1, rsv: int = 0, mask: bool = False, length: int | None = None
) -> bytes:
    """Encode a server frame; ``length`` overrides the length in the header."""
    size = len(payload) if length is None else length
    head = bytes([fin << 7 | rsv << 4 | opcode])
    bit = 0x80 if mask else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", size)
    return head + (b"\0\0\0\0" if mask else b"") + payload


def close_frame(code: int, reason: str | bytes = "") -> bytes:
    text = reason.encode() if isinstance(reason, str) else reason
    return frame(CLOSE, struct.pack("!H", code) + text)


class Peer:
    """One accepted connection, for a script. Every wait is bounded. Not thread-safe; owned by the script's thread."""

    def __init__(
        self, sock: socket.socket, index: int, over: threading.Event, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self.sock, self.index, self.over = sock, index, over
        self._timeout_seconds = timeout_seconds
        self.request = ""
        self._bytes = b""

    @property
    def has_input(self) -> bool:
        """Whether received bytes are not read yet; more may wait in the socket."""
        return bool(self._bytes)

    def read_request(self) -> str:
        """Read and return the head of the request; return it again on later calls."""
        if self.request:
            return self.request
        while b"\r\n\r\n" not in self._bytes:
            self._bytes += self._receive()
        head, _, self._bytes = self._bytes.partition(b"\r\n\r\n")
        self.request = head.decode("latin-1")
        return self.request

    def header(self, name: str) -> str | None:
        for line in self.request.split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None

    def accept_key(self) -> str:
        """Return the value of Sec-WebSocket-Accept for the request (RFC 6455, 4.2.2)."""
        key = (self.header("Sec-WebSocket-Key") or "") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        return base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()

    def accept(self, *headers: str, then: bytes = b"") -> None:
        """Read the request and complete the upgrade; ``then`` goes into the same segment."""
        self.read_request()
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", *headers]
        self.send("\r\n".join([*lines, f"Sec-WebSocket-Accept: {self.accept_key()}", "", ""]).encode() + then)

    def answer(self, status: str, *headers: str, body: bytes = b"") -> None:
        """Read the request and answer it with an HTTP status."""
        self.read_request()
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
        self.send("\r\n".join(lines).encode() + body)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def text(self, text: str) -> None:
        self.send(frame(TEXT, text.encode()))

    def read_frame(self) -> tuple[int, bytes]:
        """Return opcode and payload of the client's next frame; (-1, b"") after the end of the stream."""
        try:
            first, second = self._exactly(2)
            size = second & 127
            if size == 126:
                (size,) = struct.unpack("!H", self._exactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", self._exactly(8))
            key = self._exactly(4)
            data = self._exactly(size)
        except (EOFError, ConnectionError):
            return -1, b""
        whole = (key * (size // 4 + 1))[:size]
        return first & 15, (int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")).to_bytes(size, "big")

    def read_all(self) -> list[tuple[int, bytes]]:
        """Read all frames until the end of the stream."""
        frames = []
        while (received := self.read_frame())[0] >= 0:
            frames.append(received)
        return frames

    def wait(self) -> None:
        """Neither read nor write until the test ends."""
        self.over.wait(self._timeout_seconds)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _receive(self) -> bytes:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        return data

    def _exactly(self, size: int) -> bytes:
        while len(self._bytes) < size:
            self._bytes += self._receive()
        data, self._bytes = self._bytes[:size], self._bytes[size:]
        return data


Script = Callable[[Peer], object]


class Scripted:
    """Listens on 127.0.0.1 and runs one script for each connection, the last script for all further ones.

    ``with Scripted(script) as server``: the exit ends all threads and raises the first exception of a script, except
    network errors. Thread-safe.

    Args:
        tls: Context of the server; may be replaced while no connection is open.
        timeout_seconds: A script ends after this time without a byte from its client.
    """

    def __init__(
        self,
        *scripts: Script,
        tls: ssl.SSLContext | None = None,
        receive_bytes: int | None = None,
        port: int = 0,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._scripts, self.tls = scripts, tls
        self._timeout_seconds = timeout_seconds
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_bytes is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen(64)
        self.port = int(self._listener.getsockname()[1])
        self.over = threading.Event()
        self.peers: list[Peer] = []
        self.arrived = threading.Semaphore(0)
        self._errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._accepter = threading.Thread(target=self._accept, name="scripted")

    @property
    def url(self) -> str:
        return f"{'ws' if self.tls is None else 'wss'}://127.0.0.1:{self.port}/path?api_key=s3cret"

    @property
    def requests(self) -> list[str]:
        return [peer.request for peer in self.peers]

    def __enter__(self) -> Scripted:
        self._accepter.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepter.join(TIMEOUT_SECONDS)
        self._listener.close()
        for peer in self.peers:
            with self._lock, contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(TIMEOUT_SECONDS)
        for peer in self.peers:
            peer.sock.close()
        if self._errors:
            raise self._errors[0]

    def discard_finished(self) -> None:
        """Forget the connections and threads that have ended, so that a long test does not grow."""
        with self._lock:
            self.peers[:] = [peer for peer in self.peers if peer.sock.fileno() >= 0]
            self._threads[:] = [thread for thread in self._threads if thread.is_alive()]

    def join(self) -> None:
        """Wait until all running scripts are done."""
        with self._lock:
            begun = list(self._threads)
        for thread in begun:
            thread.join(TIMEOUT_SECONDS)

    def _accept(self) -> None:
        while not self.over.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(self._timeout_seconds)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # data sent before a RST leaves the host
            peer = Peer(sock, len(self.peers), self.over, self._timeout_seconds)
            self.peers.append(peer)
            thread = threading.Thread(target=self._play, args=(peer,), name=f"scripted {peer.index}")
            with self._lock:  # a thread that was not started cannot be joined
                self._threads.append(thread)
                thread.start()
            self.arrived.release()

    def _play(self, peer: Peer) -> None:
        try:
            if self.tls is not None:
                with self._lock:
                    secure = self.tls.wrap_socket(peer.sock, server_side=True, do_handshake_on_connect=False)
                    peer.sock = secure
                secure.do_handshake()  # only now: __exit__ needs the TLS socket to wake this thread
            self._scripts[min(peer.index, len(self._scripts) - 1)](peer)
        except (OSError, EOFError):
            pass  # many scripts provoke the client to disconnect
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            self._errors.append(error)
        finally:
            with self._lock:  # after close() the descriptor may belong to another socket
                with contextlib.suppress(OSError):
                    peer.sock.shutdown(socket.SHUT_RDWR)
                peer.sock.close()


# --- shared scripts


def polite(peer: Peer) -> None:
    """Echo messages, answer pings and the close."""
    peer.accept()
    for opcode, data in iter(peer.read_frame, (-1, b"")):
        if opcode in (TEXT, BINARY):
            peer.send(frame(opcode, data))
        elif opcode == PING:
            peer.send(frame(PONG, data))
        elif opcode == CLOSE:
            peer.send(frame(CLOSE, data))
            return


class Recorder:
    """Script that records the frames of each connection and answers the close."""

    def __init__(self) -> None:
        self.frames: list[list[tuple[int, bytes]]] = []

    def __call__(self, peer: Peer) -> None:
        peer.accept()
        frames: list[tuple[int, bytes]] = []
        self.frames.append(frames)
        for received in iter(peer.read_frame, (-1, b"")):
            frames.append(received)
            if received[0] == CLOSE:
                peer.send(close_frame(1000))
                return


def silent(peer: Peer) -> None:
    """Accept, read everything, send nothing, not even pongs."""
    peer.accept()
    peer.read_all()


def deaf(peer: Peer) -> None:
    """Accept and never read again."""
    peer.accept()
    peer.wait()


def mute(peer: Peer) -> None:
    """Accept the TCP connection and never answer the request."""
    peer.wait()


def says(*parts: bytes) -> Script:
    """Accept, send the parts, then read until the end of the stream."""

    def script(peer: Peer) -> None:
        peer.accept()
        for part in parts:
            peer.send(part)
        peer.read_all()

    return script


def hangs_up(*parts: bytes) -> Script:
    """Accept, send the parts and end with a FIN, without a close frame."""

    def script(peer: Peer) -> None:
        peer.accept()
        for part in parts:
            peer.send(part)

    return script


def resets(*parts: bytes) -> Script:
    """Accept, send the parts and end with a RST."""

    def script(peer: Peer) -> None:
        peer.accept()
        for part in parts:
            peer.send(part)
        peer.reset()

    return script


def drips(data: bytes, seconds: float) -> Script:
    """Send one byte of ``data`` every ``seconds`` instead of an answer to the upgrade."""

    def script(peer: Peer) -> None:
        peer.read_request()
        for byte in data:
            if peer.over.wait(seconds):
                return
            peer.send(bytes([byte]))

    return script


def refuses(status: str, *headers: str, body: bytes = b"") -> Script:
    """Answer the upgrade with an HTTP status."""

    def script(peer: Peer) -> None:
        peer.answer(status, *headers, body=body)

    return script


def garbage(pieces: Iterable[bytes]) -> Script:
    """Accept, then send arbitrary bytes."""
    return says(*pieces)
