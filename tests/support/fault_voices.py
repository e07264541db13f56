"""Speech services that speak each protocol with its own codec, over a socket that a test has in its hand."""

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
KEY = "s3cret-key-that-nobody-may-see"
RATE = 16000
CHUNK_BYTES = 1600


def sound(text: str, seconds: float = 0.1) -> bytes:
    """What a text sounds like: noise of its own, so that no byte of it can be taken for another's."""
    size = int(RATE * seconds) * 2
    seed = text.strip().encode()
    return hashlib.shake_256(seed).digest(size)


def synthesis(port: int, *services: str, secure: bool = False, fallback_port: int | None = None) -> SynthesisSettings:
    """The configuration of all services at one port of this machine; ``local`` at ``fallback_port``."""
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


class Answers:
    """One session of a service without a socket: messages of the client in, messages of the service out.

    ``texts`` are the passages that were asked for; ``ended``: the client gave its end mark, as far as there is one.
    """

    def __init__(self, service: str, path: str = "", headers: dict[str, str] | None = None) -> None:
        self.texts: list[str] = []
        self.ended = False
        self._service = service
        self._codec = server_codec(service)
        refusal = self._codec.handshake(path, headers or {})
        assert refusal is None, refusal
        self._written = ""

    def take(self, message: Message) -> list[Message]:
        answers: list[Message] = []
        for event in self._codec.receive(message):
            if isinstance(event, Text):
                self._written += event.text
            elif isinstance(event, Flush | End):
                answers += self._speak()
                self.ended = isinstance(event, End)
                answers += self._codec.send(event)
        return answers

    def _speak(self) -> list[Message]:
        text, self._written = self._written, ""
        if not text.strip():
            return []
        self.texts.append(text)
        pcm = sound(text)
        parts = [pcm[at : at + CHUNK_BYTES] for at in range(0, len(pcm), CHUNK_BYTES)]
        return [message for part in parts for message in self._codec.send(Audio(part))]


def encoded(messages: Sequence[Message]) -> list[bytes]:
    """The frames of some messages."""
    return [frame(TEXT, each.encode()) if isinstance(each, str) else frame(BINARY, each) for each in messages]


def authorises(peer: Peer) -> bool:
    """Whether this is PlayAI's authorisation, which is then answered: the address is this very server."""
    if not peer.read_request().startswith("POST"):
        return False
    host = peer.header("Host")  # as the client reached it, which may be through a proxy
    urls = {model: f"ws://{host}{path}?fal_jwt_token=t" for model, path in MODEL_PATHS.items()}
    body = json.dumps({"webSocketUrls": urls}).encode()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return True


def upgraded(peer: Peer, service: str) -> Answers | None:
    """Completes the upgrade; ``None`` where this connection was only for the authorisation."""
    if authorises(peer):
        return None
    path = peer.request.split(" ")[1]
    lines = (line.partition(":") for line in peer.request.split("\r\n")[1:])
    headers = {name.lower(): value.strip() for name, _, value in lines}
    peer.accept()
    return Answers(service, path, headers)


def messages_of(peer: Peer) -> Iterator[Message]:
    """What the client says until it leaves; pings and the close are answered."""
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


def speaks(service: str, sessions: list[Answers] | None = None) -> Script:
    """A service in good health. Each session that was opened is put into ``sessions``."""
    return breaks(service, None, lambda peer: None, sessions)


def breaks(
    service: str, after: int | None, how: Callable[[Peer], object], sessions: list[Answers] | None = None
) -> Script:
    """A service that sends ``after`` frames of its answers and then does ``how``; ``None``: never."""

    def script(peer: Peer) -> None:
        answers = upgraded(peer, service)
        if answers is None:
            return
        if sessions is not None:
            sessions.append(answers)
        sent = 0
        for message in messages_of(peer):
            for each in encoded(answers.take(message)):
                if sent == after:
                    how(peer)
                    return
                peer.send(each)
                sent += 1

    return script
