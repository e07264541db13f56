"""fish-audio-sdk, its legacy interface: PORT KEY FORMAT PIECE... -> {"sha256", "length"}."""

import hashlib
import json
import sys

from fish_audio_sdk import TTSRequest, WebSocketSession

port, key, wanted, *pieces = sys.argv[1:]
with WebSocketSession(key, base_url=f"http://127.0.0.1:{port}") as session:
    sound = b"".join(session.tts(TTSRequest(text="", format=wanted), iter(pieces)))
print(json.dumps({"sha256": hashlib.sha256(sound).hexdigest(), "length": len(sound)}))
