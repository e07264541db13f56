"""fish-audio-sdk: PORT TEXT; writes PCM to stdout as it arrives."""

import os
import sys

from fish_audio_sdk import TTSRequest, WebSocketSession

port, text = sys.argv[1:3]
with WebSocketSession("key", base_url=f"http://127.0.0.1:{port}") as session:
    for pcm in session.tts(TTSRequest(text="", format="pcm"), iter([text])):
        os.write(1, pcm)
