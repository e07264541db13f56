"""Clients written from the services' documentation, independent of the codecs that the server shares with the agent."""

from __future__ import annotations

import base64
import json
import urllib.request
from typing import Any

import msgpack
from websockets.sync.client import ClientConnection, connect

from support.local_server import LocalServerProcess

TIMEOUT_SECONDS = 20.0


def neuphonic(server: LocalServerProcess, *texts: str, query: str = "", key: str | None = None) -> bytes:
    """Send each text as one message and return the audio up to the last stop."""
    headers = {"x-api-key": key} if key else {}
    with connect(f"{server.ws}/speak/en{query}", additional_headers=headers) as ws:
        for text in texts:
            ws.send(json.dumps({"text": text}))
        sound = b""
        for _ in range(sum(text.count("<STOP>") for text in texts)):
            sound += neuphonic_passage(ws)
        return sound


def neuphonic_passage(ws: ClientConnection) -> bytes:
    sound = b""
    while True:
        data = json.loads(ws.recv(timeout=TIMEOUT_SECONDS))["data"]
        sound += base64.b64decode(data["audio"])
        if data["stop"]:
            return sound


def playai_url(
    server: LocalServerProcess, path: str = "/api/v1/tts/websocket-auth", model: str = "Play3.0-mini"
) -> str:
    request = urllib.request.Request(
        server.http + path, data=b"", method="POST",
        headers={"Authorization": "Bearer secret-key", "X-User-Id": "user-1"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        body = json.loads(answer.read())
    return str(body["webSocketUrls"][model])


def playai(server: LocalServerProcess, text: str, **options: Any) -> list[bytes]:
    """Return the binary messages between ``start`` and ``end``."""
    with connect(playai_url(server)) as ws:
        ws.send(json.dumps({"text": text, "voice": "s3://voice", "request_id": "r1", **options}))
        assert json.loads(ws.recv(timeout=TIMEOUT_SECONDS)) == {"type": "start", "request_id": "r1"}
        chunks: list[bytes] = []
        while isinstance(message := ws.recv(timeout=TIMEOUT_SECONDS), bytes):
            chunks.append(message)
        assert json.loads(message) == {"type": "end", "request_id": "r1"}
        return chunks


def vachana(server: LocalServerProcess, text: str, **audio_config: Any) -> list[bytes]:
    """Return the audio chunks up to ``complete``."""
    config = {
        "sample_rate": 44100, "num_channels": 1, "sample_width": 2, "encoding": "linear_pcm", "container": "wav"
    } | audio_config  # fmt: skip
    request = {
        "text": text, "voice": "Sia", "language": "IND-IN", "model": "vachana-voice-v1", "audio_config": config,
    }  # fmt: skip
    headers = {"Content-Type": "application/json", "X-API-Key-ID": "secret-key"}
    with connect(f"{server.ws}/api/v1/tts", additional_headers=headers) as ws:
        ws.send(json.dumps(request))
        chunks: list[bytes] = []
        while True:
            message = json.loads(ws.recv(timeout=TIMEOUT_SECONDS))
            if message["type"] == "audio":
                chunks.append(base64.b64decode(message["data"]["audio"]))
            elif message["type"] == "complete":
                return chunks
            else:
                assert message["type"] == "start", message


def fish(server: LocalServerProcess, *texts: str, key: str = "secret-key", **request: Any) -> tuple[list[bytes], str]:
    """Return the audio chunks and the reason of ``finish``."""
    with connect(f"{server.ws}/v1/tts/live", additional_headers={"Authorization": f"Bearer {key}"}) as ws:
        fish_request(ws, *texts, **request)
        return fish_answer(ws)


def fish_request(ws: ClientConnection, *texts: str, **request: Any) -> None:
    """Send one utterance, from ``start`` to ``stop``."""
    ws.send(msgpack.packb({"event": "start", "request": {"text": "", "latency": "normal"} | request}))
    for text in texts:
        ws.send(msgpack.packb({"event": "text", "text": text}))
    ws.send(msgpack.packb({"event": "stop"}))


def fish_answer(ws: ClientConnection) -> tuple[list[bytes], str]:
    """Return the audio chunks of one utterance and the reason of its ``finish``."""
    chunks: list[bytes] = []
    while (event := msgpack.unpackb(ws.recv(timeout=20)))["event"] == "audio":
        chunks.append(event["audio"])
    assert event["event"] == "finish"
    return chunks, event["reason"]
