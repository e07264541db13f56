"""The bare websocket-client loop: SERVICE PORT TEXT; writes the audio to stdout as it arrives.

Each driver requests the audio format that voice-agent requests by default: the programs move the same bytes.
"""

import base64
import json
import os
import sys

import websocket

service, port, text = sys.argv[1:4]
base = f"ws://127.0.0.1:{port}"


def connect(url: str, **options: object) -> websocket.WebSocket:
    # The library validates UTF-8 in Python code otherwise, byte by byte; json.loads validates it as well.
    return websocket.create_connection(url, skip_utf8_validation=True, **options)


def write(pcm: bytes) -> None:
    while pcm:
        pcm = pcm[os.write(1, pcm) :]


if service == "neuphonic":
    socket = connect(f"{base}/speak/en?sampling_rate=22050", header={"x-api-key": "key"})
    socket.send(json.dumps({"text": f"{text} <STOP>"}))
    while True:
        data = json.loads(socket.recv())["data"]
        if data.get("audio"):
            write(base64.b64decode(data["audio"]))
        if data.get("stop"):
            break
elif service == "playai":
    from urllib.request import Request, urlopen

    headers = {"AUTHORIZATION": "Bearer key", "X-USER-ID": "a user", "Content-Type": "application/json"}
    url = f"http://127.0.0.1:{port}/api/v1/tts/websocket-auth"
    with urlopen(Request(url, b"{}", headers, method="POST")) as answer:
        socket = connect(next(iter(json.loads(answer.read())["webSocketUrls"].values())))
    request = {"text": text, "voice": "s3://voice/manifest.json", "output_format": "wav", "sample_rate": 24000}
    socket.send(json.dumps(request))
    while True:
        message = socket.recv()
        if isinstance(message, bytes):
            write(message)
        elif json.loads(message)["type"] == "end":
            break
elif service == "vachana":
    socket = connect(f"{base}/api/v1/tts", header={"X-API-Key-ID": "key"})
    audio = {"sample_rate": 44100, "encoding": "linear_pcm", "num_channels": 1, "sample_width": 2, "container": "wav"}
    socket.send(json.dumps({"text": text, "voice": "Pranav", "model": "vachana-voice-v2", "audio_config": audio}))
    while True:
        message = socket.recv()
        if isinstance(message, bytes):
            write(message)
            continue
        answer = json.loads(message)
        if answer["type"] == "audio":
            write(base64.b64decode(answer["data"]["audio"]))
        elif answer["type"] == "complete":
            break
else:
    import msgpack

    socket = connect(f"{base}/v1/tts/live", header={"Authorization": "Bearer key"})
    request = {"text": "", "format": "pcm", "sample_rate": 44100}
    for event in ({"event": "start", "request": request}, {"event": "text", "text": text}, {"event": "stop"}):
        socket.send_binary(msgpack.packb(event))
    while True:
        answer = msgpack.unpackb(socket.recv())
        if answer["event"] == "audio":
            write(answer["audio"])
        elif answer["event"] == "finish":
            break
socket.close()
