"""fish-audio-sdk, its new interface: PORT KEY FORMAT PIECE... -> {"sha256", "length"} or {"error"}."""

import hashlib
import json
import sys

from fishaudio import FishAudio, FlushEvent

port, key, wanted, *pieces = sys.argv[1:]
stream = [*pieces[:1], FlushEvent(), *pieces[1:]]
client = FishAudio(api_key=key, base_url=f"http://127.0.0.1:{port}")
try:
    sound = b"".join(client.tts.stream_websocket(iter(stream), format=wanted))
    print(json.dumps({"sha256": hashlib.sha256(sound).hexdigest(), "length": len(sound)}))
except Exception as error:  # noqa: BLE001 - every exception of the package is reported
    print(json.dumps({"error": f"{type(error).__name__} {error}"}))
