"""A server that does exactly what a script says, down to the byte: polite, silent, deaf, dripping, lying or dying."""

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
    """A server's frame; ``length`` is what its head claims, whatever the payload is."""
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
    """One accepted connection, as a script sees it. Every wait of it is bounded."""

    def __init__(
        self, sock: socket.socket, index: int, over: threading.Event, patience_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self.sock, self.index, self.over = sock, index, over
        self._patience = patience_seconds
        self.request = ""
        self._bytes = b""

    def read_request(self) -> str:
        """The head of the request; of one that was read before, once more."""
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

    def accept(self, *headers: str, then: bytes = b"") -> None:
        """Reads the request and completes the upgrade; ``then`` goes in the same segment."""
        self.read_request()
        key = (self.header("Sec-WebSocket-Key") or "") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", *headers]
        self.send("\r\n".join([*lines, f"Sec-WebSocket-Accept: {accept}", "", ""]).encode() + then)

    def answer(self, status: str, *headers: str, body: bytes = b"") -> None:
        """Reads the request and refuses it."""
        self.read_request()
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
        self.send("\r\n".join(lines).encode() + body)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def text(self, text: str) -> None:
        self.send(frame(TEXT, text.encode()))

    def read_frame(self) -> tuple[int, bytes]:
        """Opcode and payload of the client's next frame; (-1, b"") when it hung up."""
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
        """Every frame until the client hangs up."""
        frames = []
        while (found := self.read_frame())[0] >= 0:
            frames.append(found)
        return frames

    def wait(self) -> None:
        """Silence, and deafness, until the test is over."""
        self.over.wait(self._patience)

    def reset(self) -> None:
        """RST instead of FIN."""
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
    """Listens on 127.0.0.1; the first connection gets the first script, and so on, the last one again and again. After
    ``patience_seconds`` without a byte a script gives its client up.

    ``with Scripted(script) as server``: leaving ends all threads and raises what a script raised (network trouble
    apart).
    """

    def __init__(
        self,
        *scripts: Script,
        tls: ssl.SSLContext | None = None,
        receive_bytes: int | None = None,
        port: int = 0,
        patience_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._scripts, self._tls = scripts, tls
        self._patience = patience_seconds
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
        return f"{'ws' if self._tls is None else 'wss'}://127.0.0.1:{self.port}/path?api_key=s3cret"

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

    def join(self) -> None:
        """Waits until every script that has begun is done."""
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
            sock.settimeout(self._patience)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what was sent before a RST has left
            peer = Peer(sock, len(self.peers), self.over, self._patience)
            self.peers.append(peer)
            thread = threading.Thread(target=self._play, args=(peer,), name=f"scripted {peer.index}")
            with self._lock:  # a thread that was not started cannot be joined
                self._threads.append(thread)
                thread.start()
            self.arrived.release()

    def _play(self, peer: Peer) -> None:
        try:
            if self._tls is not None:
                with self._lock:
                    secure = self._tls.wrap_socket(peer.sock, server_side=True, do_handshake_on_connect=False)
                    peer.sock = secure
                secure.do_handshake()  # only now: whoever ends the server finds the socket that has to be woken
            self._scripts[min(peer.index, len(self._scripts) - 1)](peer)
        except (OSError, EOFError):
            pass  # the client went away, as many scripts want it to
        except BaseException as error:  # noqa: BLE001 - told to the test that owns the server
            self._errors.append(error)
        finally:
            with self._lock:  # once it is closed its descriptor may be that of another socket
                with contextlib.suppress(OSError):
                    peer.sock.shutdown(socket.SHUT_RDWR)
                peer.sock.close()


# --- scripts that many tests want


def polite(peer: Peer) -> None:
    """Echoes messages, answers pings and the close."""
    peer.accept()
    for opcode, data in iter(peer.read_frame, (-1, b"")):
        if opcode in (TEXT, BINARY):
            peer.send(frame(opcode, data))
        elif opcode == PING:
            peer.send(frame(PONG, data))
        elif opcode == CLOSE:
            peer.send(frame(CLOSE, data))
            return


def silent(peer: Peer) -> None:
    """Accepts, reads everything, says nothing, answers no ping."""
    peer.accept()
    peer.read_all()


def deaf(peer: Peer) -> None:
    """Accepts and never reads again."""
    peer.accept()
    peer.wait()


def mute(peer: Peer) -> None:
    """Takes the TCP connection and says nothing at all."""
    peer.wait()


def says(*parts: bytes) -> Script:
    """Accepts, sends the parts, then reads until the client hangs up."""

    def script(peer: Peer) -> None:
        peer.accept()
        for part in parts:
            peer.send(part)
        peer.read_all()

    return script


def hangs_up(*parts: bytes) -> Script:
    """Accepts, sends the parts and ends with a FIN, without a close frame."""

    def script(peer: Peer) -> None:
        peer.accept()
        for part in parts:
            peer.send(part)

    return script


def resets(*parts: bytes) -> Script:
    """Accepts, sends the parts and ends with a RST."""

    def script(peer: Peer) -> None:
        peer.accept()
        for part in parts:
            peer.send(part)
        peer.reset()

    return script


def drips(data: bytes, seconds: float) -> Script:
    """One byte of ``data`` each ``seconds``, before anything is accepted."""

    def script(peer: Peer) -> None:
        peer.read_request()
        for letter in data:
            if peer.over.wait(seconds):
                return
            peer.send(bytes([letter]))

    return script


def refuses(status: str, *headers: str, body: bytes = b"") -> Script:
    """Answers the upgrade with a status."""

    def script(peer: Peer) -> None:
        peer.answer(status, *headers, body=body)

    return script


def garbage(pieces: Iterable[bytes]) -> Script:
    """Accepts, then sends bytes that mean nothing."""
    return says(*pieces)
