"""Scripts for ``Scripted`` that serve each speech protocol with its own server codec."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from agent.config.secrets import Secret
from agent.services.protocols import fish, local, neuphonic, playai, vachana
from agent.services.protocols.codec import Audio, End, Flush, Message, Server, Text
from agent.services.protocols.playai_auth import MODEL_PATHS
from agent.services.settings import SynthesisSettings
from support.scripted import BINARY, CLOSE, PING, PONG, TEXT, Peer, Script, frame

SERVICES = ("neuphonic", "playai", "vachana", "fish")
KEY = "s3cret-key-of-the-services"
RATE = 16000
CHUNK_BYTES = 1600


def audio_of(text: str, seconds: float = 0.1) -> bytes:
    """Return noise that depends on the text, so that no byte can be mistaken for another text's audio."""
    size = int(RATE * seconds) * 2
    seed = text.strip().encode()
    return hashlib.shake_256(seed).digest(size)


def synthesis_settings(
    port: int, *services: str, secure: bool = False, fallback_port: int | None = None
) -> SynthesisSettings:
    """Return settings with all services at one local port and ``local`` at ``fallback_port``."""
    key = Secret(value=KEY)
    scheme = "wss" if secure else "ws"
    there = f"{scheme}://127.0.0.1:{port}"
    audio_config = vachana.AudioSettings(sample_rate=RATE, container="raw")
    sections = {
        "neuphonic": neuphonic.Settings(url=f"{there}/speak/en", api_key=key, sampling_rate=RATE),
        "playai": playai.Settings(
            auth_url=f"http://127.0.0.1:{port}/api/v1/tts/websocket-auth",
            api_key=key,
            user_id="u",
            output_format="raw",
            sample_rate=RATE,
        ),
        "vachana": vachana.Settings(url=f"{there}/api/v1/tts", api_key=key, audio_config=audio_config),
        "fish": fish.Settings(url=f"{there}/v1/tts/live", api_key=key, format="pcm", sample_rate=RATE),
        "local": local.Settings(url=f"ws://127.0.0.1:{fallback_port or port}"),
    }
    return SynthesisSettings(services=services, sections=sections)


def server_codec(service: str) -> Server:
    codecs: dict[str, Callable[[], Any]] = {
        "neuphonic": neuphonic.Server,
        "local": neuphonic.Server,
        "playai": playai.Server,
        "vachana": vachana.Server,
        "fish": fish.Server,
    }
    codec: Server = codecs[service]()
    return codec


class ServiceSession:
    """One session of a service without a socket, spoken with the service's own codec. Not thread-safe.

    ``texts`` holds the requested passages; ``has_ended`` tells whether the client sent its end mark.
    """

    def __init__(
        self,
        service: str,
        path: str = "",
        headers: dict[str, str] | None = None,
        *,
        audio: Callable[[str], bytes] | None = None,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self.texts: list[str] = []
        self.has_ended = False
        self._codec = server_codec(service)
        self._audio, self._chunk_bytes = audio or audio_of, chunk_bytes
        failure = self._codec.handshake(path, headers or {})
        assert failure is None, failure
        self._pending_text = ""

    def receive(self, message: Message) -> list[Message]:
        """Return the service's answers to one message of the client."""
        answers: list[Message] = []
        for event in self._codec.receive(message):
            if isinstance(event, Text):
                self._pending_text += event.text
            elif isinstance(event, Flush | End):
                answers += self._speak()
                self.has_ended = isinstance(event, End)
                answers += self._codec.send(event)
        return answers

    def _speak(self) -> list[Message]:
        text, self._pending_text = self._pending_text, ""
        if not text.strip():
            return []
        self.texts.append(text)
        pcm = self._audio(text)
        chunks = [pcm[at : at + self._chunk_bytes] for at in range(0, len(pcm), self._chunk_bytes)]
        return [message for chunk in chunks for message in self._codec.send(Audio(chunk))]


def frames_of(messages: Sequence[Message]) -> list[bytes]:
    """Encode messages as WebSocket frames."""
    return [frame(TEXT, each.encode()) if isinstance(each, str) else frame(BINARY, each) for each in messages]


def answer_authorization(peer: Peer) -> bool:
    """Answer PlayAI's authorization request with this server's URL and return True; return False for other requests."""
    if not peer.read_request().startswith("POST"):
        return False
    host = peer.header("Host")  # the address that the client used, possibly a proxy's
    urls = {model: f"ws://{host}{path}?fal_jwt_token=t" for model, path in MODEL_PATHS.items()}
    body = json.dumps({"webSocketUrls": urls}).encode()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return True


def accept_session(peer: Peer, service: str) -> ServiceSession | None:
    """Complete the upgrade; return ``None`` if the connection was an authorization request."""
    if answer_authorization(peer):
        return None
    path = peer.request.split(" ")[1]
    lines = (line.partition(":") for line in peer.request.split("\r\n")[1:])
    headers = {name.lower(): value.strip() for name, _, value in lines}
    peer.accept()
    return ServiceSession(service, path, headers)


def client_messages(peer: Peer) -> Iterator[Message]:
    """Yield the client's messages until it disconnects; answer pings and the close."""
    for opcode, data in iter(peer.read_frame, (-1, b"")):
        if opcode == PING:
            peer.send(frame(PONG, data))
        elif opcode == CLOSE:
            with contextlib.suppress(OSError):
                peer.send(frame(CLOSE, data))
            return
        elif opcode == TEXT:
            yield data.decode()
        elif opcode == BINARY:
            yield data


def serve_speech(service: str, sessions: list[ServiceSession] | None = None) -> Script:
    """Return the script of a healthy service. Each session is appended to ``sessions``."""
    return fail_after(service, None, lambda peer: None, sessions)


def fail_after(
    service: str, after: int | None, fault: Callable[[Peer], object], sessions: list[ServiceSession] | None = None
) -> Script:
    """Return the script of a service that sends ``after`` frames and then calls ``fault``; ``None`` is never."""

    def script(peer: Peer) -> None:
        session = accept_session(peer, service)
        if session is None:
            return
        if sessions is not None:
            sessions.append(session)
        sent = 0
        for message in client_messages(peer):
            for each in frames_of(session.receive(message)):
                if sent == after:
                    fault(peer)
                    return
                peer.send(each)
                sent += 1

    return script
